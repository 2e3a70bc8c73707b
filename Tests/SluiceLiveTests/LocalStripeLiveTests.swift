import Foundation
import SluiceCore
import SluiceTesting
import Testing

extension Live {
    /// Show c: a Stripe that nobody here wrote signs the webhooks, and a library that nobody here wrote checks the pushes.
    @Suite(.serialized) struct LocalStripeLiveTests {
        static let pushSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
        static let webhookSecret = "whsec_localstripe_canary"

        static func configuration(stripe: String, push: String) -> String {
            """
            connections:
              stripe:
                connector: stripe-events
                fields: { base_url: "\(stripe)", api_key: "${env:STRIPE_KEY}" }
                webhook: { secrets: ["${env:STRIPE_HOOK}"] }
                allow_private: true
            destinations:
              app: { kind: push, url: "\(push)", secret: "${env:PUSH_SECRET}", allow_private: true }
            triggers:
              events: { connection: stripe, type: event, destinations: [app] }
            """
        }

        @Test func c_everyStripeEventIsOneJob_killedMidway() async throws {
            try await withTemporaryDirectory("sluice-localstripe") { directory in
                for folder in ["stripe", "push"] {
                    try FileManager.default.createDirectory(atPath: "\(directory)/\(folder)", withIntermediateDirectories: true)
                }
                try await PushVerifier.with(directory: directory + "/push", secret: Self.pushSecret) { receiver in
                    try await LocalStripe.with(directory: directory + "/stripe") { stripe in
                        try await Self.play(stripe, receiver, directory)
                    }
                }
            }
        }

        static func play(_ stripe: LocalStripe, _ receiver: PushVerifier, _ directory: String) async throws {
            let sluice = try SluiceProcess(
                .init(
                    directory: directory, configuration: configuration(stripe: stripe.baseURL, push: receiver.url),
                    environment: ["STRIPE_KEY": LocalStripe.apiKey, "STRIPE_HOOK": webhookSecret, "PUSH_SECRET": pushSecret]))
            try await sluice.start()
            defer { sluice.kill9() }
            try await stripe.configureWebhook(url: try await sluice.webhookURL("stripe"), secret: webhookSecret)
            try await stripe.createEvents(120)
            sluice.kill9()
            try await stripe.createEvents(60)  // Their webhooks fall into the gap: localstripe tries once.
            try await Task.sleep(for: .seconds(2))
            try await sluice.start()
            try await stripe.createEvents(120)
            try await judge(stripe, sluice, receiver)
            try await judgeWebhooks(sluice, log: directory + "/stripe/localstripe.log")
        }

        /// What localstripe says of its webhooks, one line each: none may be refused, and all that got a 2xx are in the inbox.
        static func judgeWebhooks(_ sluice: SluiceProcess, log: String) async throws {
            @Sendable func count(_ words: String) -> Int {
                guard let data = FileManager.default.contents(atPath: log) else { return 0 }
                return String(decoding: data, as: UTF8.self).split(separator: "\n").filter {
                    $0.contains("webhook \"") && $0.contains(words)
                }.count
            }
            try await waitUntil("300 webhooks are over", seconds: 30) { count("\" ") >= 300 }
            let (accepted, refused, lost) = (count("successfully delivered"), count("failed with response code"), count("\" failed: "))
            #expect(accepted + refused + lost == 300)
            #expect(refused == 0, "\(refused) of localstripe's signatures were refused")
            #expect(accepted >= 120, "those of the last 120 events came while Sluice was there: \(accepted), and \(lost) were lost")
            #expect(lost > 0, "some fell into the gap, or this shows nothing")
            let kept = try await sluice.send("GET", "/v1/inbox?limit=1000").json()["webhooks"]?.elements?.count ?? 0
            // One that was stored just before the kill may have got no answer.
            #expect((accepted...accepted + lost).contains(kept), "\(accepted) got a 2xx, and \(kept) are in the inbox")
        }

        static func judge(_ stripe: LocalStripe, _ sluice: SluiceProcess, _ receiver: PushVerifier) async throws {
            let events = try await stripe.events()
            #expect(events.count == 300)
            let ids = events.compactMap { $0["id"]?.string }
            try? await waitUntil("300 jobs", seconds: 60, everyMilliseconds: 500) { try await sluice.jobs().count >= 300 }
            let jobs = try await sluice.jobs()
            let found = try jobs.map { try JSONDocument($0.record).root["id"]?.string ?? "" }
            #expect(Set(found) == Set(ids), "each event is a job")
            #expect(found.count == ids.count, "and only one")
            #expect(jobs.map(\.position) == Array(1...Int64(jobs.count)), "positions without a gap")
            let seconds = Dictionary(grouping: events.compactMap { $0["created"]?.int64 }, by: { $0 }).values.map(\.count)
            #expect(seconds.contains { $0 > 1 }, "some events share a second, or this shows nothing")
            // Every job was pushed under its own id, and the library found every signature good.
            let pushed = Set(jobs.map(\.id))
            try? await waitUntil("each job is pushed", seconds: 120, everyMilliseconds: 500) {
                Set(try await receiver.pushes().compactMap(\.id)).isSuperset(of: pushed)
            }
            let pushes = try await receiver.pushes()
            #expect(Set(pushes.compactMap(\.id)) == pushed)
            let unverified = pushes.filter { !$0.isVerified }
            #expect(unverified.isEmpty, "\(unverified.first?.error ?? "")")
        }
    }
}
