import Foundation
import SluiceCore
import SluiceTesting
import Testing

extension Live {
    /// Show b: the libraries `svix` and `standardwebhooks` verify what the real server pushes, before, during and after a rotation, and
    /// an ed25519 library verifies it by the public key alone.
    @Suite(.serialized) struct RotationLiveTests {
        static let first = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

        @Test func b_librariesVerifyBeforeDuringAndAfterARotation() async throws {
            try await withTemporaryDirectory("sluice-rotation") { directory in
                let secretsFile = directory + "/secrets"
                try "first \(Self.first)\n".write(toFile: secretsFile, atomically: true, encoding: .utf8)
                try await PushVerifier.with(directory: directory, secretsFile: secretsFile) { receiver in
                    var settings = StandInProvider.Settings(
                        apiKey: Chargebee.apiKey, changesPerSecond: 0,
                        rates: WebhookMischief.Rates(dropped: 0, doubled: 0, late: 0, forged: 0, spoofed: 0))
                    // Each change is a record of its own and seen at once: as many pushes as changes.
                    settings.world.visibilityLagMax = .zero
                    settings.world.updateShare = 0
                    try await StandInProvider.with(settings) { provider in
                        let sluice = try SluiceProcess(
                            .init(
                                directory: directory, configuration: Self.configuration(provider.baseURL, receiver.url),
                                environment: Chargebee.environment.merging(["PUSH_SECRET": Self.first]) { $1 }))
                        defer { sluice.kill9() }
                        try await sluice.start()
                        try await Self.play(provider, sluice, receiver, secretsFile)
                    }
                }
            }
        }

        static func configuration(_ provider: String, _ push: String) -> String {
            """
            connections:
              demo:
                connector: chargebee
                fields: { site_url: "\(provider)", api_key: "${env:DEMO_KEY}" }
                webhook: { secrets: ["${env:DEMO_HOOK}"] }
                allow_networks: [127.0.0.0/8]
            triggers:
              subscriptions: { connection: demo, type: updated_record, input: { resource: subscription }, destinations: [app] }
            destinations:
              app: { kind: push, url: "\(push)", secret: "${env:PUSH_SECRET}", allow_networks: [127.0.0.1/32] }
            """
        }

        /// Makes changes, polls, and gives the pushes that come of it.
        static func pushes(
            _ provider: StandInProvider, _ sluice: SluiceProcess, _ receiver: PushVerifier, behind count: Int
        ) async throws -> [PushVerifier.Push] {
            provider.makeChanges(3, resource: "subscription")
            try await waitUntil("pushes of what changed", seconds: 60, everyMilliseconds: 300) {
                // The provider shows a change a little later than it is made.
                _ = try await sluice.send("POST", "/v1/triggers/subscriptions/poll")
                return try await receiver.pushes().count >= count + 3
            }
            try await waitUntil("all of them answered", seconds: 30) {
                try await sluice.send("GET", "/v1/destinations/app").json()["pending"]?.int64 == 0
            }
            return Array(try await receiver.pushes().dropFirst(count))
        }

        static func rotate(_ sluice: SluiceProcess, _ body: String) async throws -> JSONView {
            let answer = try await sluice.send("POST", "/v1/destinations/app/rotate-secret", body: body)
            #expect(answer.status == 201, "\(answer.text)")
            return try answer.json()
        }

        static func play(
            _ provider: StandInProvider, _ sluice: SluiceProcess, _ receiver: PushVerifier, _ secretsFile: String
        ) async throws {
            var seen = 0
            /// Who verifies what is pushed now.
            func verify(_ expected: [String: Bool], _ phase: Comment) async throws {
                let pushes = try await pushes(provider, sluice, receiver, behind: seen)
                #expect(!pushes.isEmpty)
                for push in pushes {
                    #expect(push.checks == expected, phase)
                    #expect(push.isVerified, phase)
                }
                seen += pushes.count
            }
            func both(_ name: String, _ holds: Bool) -> [String: Bool] { ["\(name)/svix": holds, "\(name)/standardwebhooks": holds] }
            func add(_ name: String, _ secret: String?) throws {
                let text = try String(contentsOfFile: secretsFile, encoding: .utf8) + "\(name) \(try #require(secret))\n"
                try text.write(toFile: secretsFile, atomically: true, encoding: .utf8)
            }
            try await verify(both("first", true), "before the rotation")
            try add("second", try await rotate(sluice, "{\"overlap\":\"1h\"}")["secret"]?.string)
            try await verify(both("first", true).merging(both("second", true)) { $1 }, "during the rotation")
            // Over a restart, with the file as it was.
            sluice.kill9()
            try await sluice.start()
            try await verify(both("first", true).merging(both("second", true)) { $1 }, "during the rotation, after a crash")
            try add("third", try await rotate(sluice, "{\"overlap\":\"0s\"}")["secret"]?.string)
            let after = both("first", false).merging(both("second", false)) { $1 }.merging(both("third", true)) { $1 }
            try await verify(after, "after the rotation")
            let asymmetric = try await rotate(sluice, "{\"overlap\":\"1h\",\"signature\":\"v1a\"}")
            #expect(asymmetric["secret"]?.string?.hasPrefix("whsk_") == true)
            try add("fourth", asymmetric["public_key"]?.string)
            try await verify(after.merging(["fourth/ed25519": true]) { $1 }, "ed25519 beside the former")
            let shown = try await sluice.send("GET", "/v1/destinations/app").text
            #expect(shown.contains("whpk_") && !shown.contains("whsec_") && !shown.contains("whsk_"))
        }
    }
}
