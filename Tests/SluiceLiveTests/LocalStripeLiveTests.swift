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
              events: { connection: stripe, type: new_event, destinations: [app] }
            """
        }

        @Test func c_everyStripeEventIsOneJob_killedMidway() async throws {
            try await withTemporaryDirectory("sluice-localstripe") { directory in
                let receiver = try ChildProcess(
                    .init(
                        LocalStripe.python,
                        [
                            LocalStripe.scriptsDirectory + "/verify_push.py", "--secret", Self.pushSecret, "--out", directory + "/pushes.jsonl",
                            "--port-file", directory + "/push-port",
                        ], outputFile: directory + "/receiver.log"))
                defer { receiver.kill9() }
                try await waitUntil("the push receiver's port", seconds: 20) { FileManager.default.fileExists(atPath: directory + "/push-port") }
                let port = try String(contentsOfFile: directory + "/push-port", encoding: .utf8).filter(\.isNumber)
                try FileManager.default.createDirectory(atPath: directory + "/stripe", withIntermediateDirectories: true)
                try await LocalStripe.with(directory: directory + "/stripe") { stripe in
                    let sluice = try SluiceProcess(
                        .init(
                            directory: directory, configuration: Self.configuration(stripe: stripe.baseURL, push: "http://127.0.0.1:\(port)/jobs"),
                            environment: [
                                "STRIPE_KEY": LocalStripe.apiKey, "STRIPE_HOOK": Self.webhookSecret, "PUSH_SECRET": Self.pushSecret,
                            ]))
                    try await sluice.start()
                    defer { sluice.kill9() }
                    try await stripe.configureWebhook(url: try await sluice.webhookURL("stripe"), secret: Self.webhookSecret)
                    try await stripe.createEvents(120)
                    sluice.kill9()
                    try await stripe.createEvents(60)  // Their webhooks fall into the gap: localstripe tries once.
                    try await sluice.start()
                    try await stripe.createEvents(120)
                    try await Self.judge(stripe, sluice, pushes: directory + "/pushes.jsonl")
                }
            }
        }

        static func judge(_ stripe: LocalStripe, _ sluice: SluiceProcess, pushes: String) async throws {
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
            try? await waitUntil("300 pushes", seconds: 60, everyMilliseconds: 500) { try Self.pushed(pushes).count >= 300 }
            let delivered = try Self.pushed(pushes)
            #expect(Set(delivered.map(\.id)) == Set(jobs.map(\.id)))
            #expect(delivered.allSatisfy(\.isVerified))
            let inbox = try await sluice.send("GET", "/v1/inbox?limit=1000").json()
            #expect((inbox["inbox"] ?? inbox["webhooks"])?.elements?.isEmpty == false, "localstripe's signatures were accepted")
        }

        static func pushed(_ file: String) throws -> [(id: String, isVerified: Bool)] {
            guard let text = try? String(contentsOfFile: file, encoding: .utf8) else { return [] }
            return try text.split(separator: "\n").map { line in
                let root = try JSONDocument(Array(line.utf8)).root
                return (root["id"]?.string ?? "", root["ok"]?.bool == true)
            }
        }
    }
}
