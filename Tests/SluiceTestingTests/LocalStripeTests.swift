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
                var seconds = events.compactMap { $0["created"]?.int64 }
                // A machine that is busy may make one a second for a while.
                for _ in 0..<20 where Set(seconds).count == seconds.count {
                    try await stripe.createEvents(30)
                    seconds = try await stripe.events().compactMap { $0["created"]?.int64 }
                }
                #expect(seconds == seconds.sorted() && Set(seconds).count < seconds.count, "some share a second")
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

/// The independent verifier accepts what the library signed and nothing else.
@Suite(.enabled(if: LocalStripe.isInstalled, "run Tests/Live/setup"))
struct PushVerifierTests {
    /// Signs with the library itself and posts; the arguments are URL, secret, body, and what to append after signing.
    static let client = """
        import sys, datetime, urllib.request, urllib.error
        from standardwebhooks.webhooks import Webhook
        url, secret, body, tail = sys.argv[1:5]
        now = datetime.datetime.now(datetime.timezone.utc)
        headers = {"webhook-id": "job_1", "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": Webhook(secret).sign("job_1", now, body)}
        try:
            urllib.request.urlopen(urllib.request.Request(url, (body + tail).encode(), headers, method="POST"))
        except urllib.error.HTTPError as refusal:
            print(refusal.code)
        """

    @Test func acceptsOnlyWhatIsSigned() async throws {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
        let body = #"{"note":"Zoë","amount":1.10}"#
        try await withTemporaryDirectory { directory in
            try await PushVerifier.with(directory: directory, secret: secret, failEach: 1) { verifier in
                for (key, tail) in [(secret, ""), (secret, ""), (secret, " "), ("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "")] {
                    let options = ChildProcess.Options(
                        LocalStripe.python, ["-c", PushVerifierTests.client, verifier.url, key, body, tail],
                        outputFile: directory + "/client.log")
                    let exit = try await ChildProcess.with(options) { try await $0.waitForExit() }
                    #expect(exit == .code(0))
                }
                let pushes = try await verifier.pushes()
                #expect(pushes.map(\.isVerified) == [true, true, false, false])
                #expect(pushes.map(\.status) == [500, 200, 401, 401], "the first attempt of an id was to fail")
                #expect(pushes.map(\.attempt) == [1, 2, 3, 4])
                #expect(pushes.first?.body == body && pushes.first?.id == "job_1" && pushes.last?.error != nil)
            }
        }
    }
}
