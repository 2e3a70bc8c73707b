import SluiceCore
import Testing

@testable import SluiceTesting

/// localstripe does what the live tests build on. Skipped until `Tests/Live/setup` was run.
@Suite(.enabled(if: LocalStripe.isInstalled, "run Tests/Live/setup"))
struct LocalStripeTests {
    @Test func makesExactlyTheEventsThatWereAskedFor() async throws {
        try await withTemporaryDirectory { directory in
            try await LocalStripe.with(directory: directory) { stripe in
                try await stripe.createEvents(30)
                let events = try await stripe.events()
                #expect(events.count == 30)
                #expect(Set(events.compactMap { $0["id"]?.string }).count == 30)
                let types = events.prefix(3).compactMap { $0["type"]?.string }
                #expect(types == ["customer.created", "product.created", "plan.created"], "oldest first")
                let seconds = events.compactMap { $0["created"]?.int64 }
                #expect(seconds == seconds.sorted() && Set(seconds).count < 30, "some share a second")
            }
        }
    }

    @Test func itsWebhooksArriveAndItsStateIsItsOwn() async throws {
        try await withTemporaryDirectory { directory in
            try await StandInProvider.with { receiver in
                try await LocalStripe.with(directory: directory) { stripe in
                    // The receiver answers 404: localstripe only logs that, and says so for each event once.
                    try await stripe.configureWebhook(url: receiver.baseURL + "/_nowhere", secret: "whsec_test")
                    try await stripe.createEvents(3)
                    try await waitUntil("three webhooks") {
                        try await stripe.process.output().split(separator: "\n").filter { $0.contains("failed with response code 404") }
                            .count == 3
                    }
                }
                let rest = try await LocalStripe.with(directory: directory) { stripe in try await stripe.events().count }
                #expect(rest == 0)
            }
        }
    }

    @Test func keepsItsStateWhenAsked() async throws {
        try await withTemporaryDirectory { directory in
            let first = try await LocalStripe.with(directory: directory) { stripe in
                try await stripe.createEvents(4)
                return try await stripe.events().map { Array($0.bytes) }
            }
            let second = try await LocalStripe.with(directory: directory, keepsState: true) { stripe in
                try await stripe.events().map { Array($0.bytes) }
            }
            #expect(first.count == 4 && second == first)
        }
    }
}
