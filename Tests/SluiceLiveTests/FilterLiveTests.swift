import Foundation
import SluiceCore
import SluiceTesting
import Testing

extension Live {
    /// Filters and dead letters, as a person meets them: by commands, against the real server.
    @Suite(.serialized) struct FilterLiveTests {
        /// Nobody listens at the destination: what a filter passes waits, what it leaves out is settled, what it fails on is dead.
        private static func configuration(_ provider: String, _ attachment: String) -> String {
            Chargebee.configuration(
                provider,
                extra: """
                      gone: { connection: demo, type: updated_record, input: { resource: subscription }, destinations: [\(attachment)] }
                    destinations:
                      out: { kind: push, url: "http://127.0.0.1:9/in", secret: "${env:PUSH_SECRET}", allow_private: true }
                    """)
        }

        private static func settings() -> StandInProvider.Settings {
            var settings = PromiseLiveTests.settings(PromiseLiveTests.quiet)
            settings.world.visibilityLagMax = .zero
            settings.world.updateShare = 0
            return settings
        }

        private static func ids(_ answer: (code: Int32, text: String)) throws -> [Int64] {
            #expect(answer.code == 0, "\(answer.text)")
            let line = answer.text.split(separator: "\n").first { $0.hasPrefix("{") } ?? ""
            return try JSONDocument(Array(line.utf8)).root["dead_letters"]?.elements?.compactMap { $0["id"]?.int64 } ?? []
        }

        @Test func f_aBrokenFilterLosesNothing() async throws {
            try await withTemporaryDirectory("sluice-filter") { directory in
                try await StandInProvider.with(Self.settings()) { provider in
                    provider.makeChanges(6, resource: "subscription")
                    let attachment = #"{name: out, filter: "record.no_such_field > 5", fields: [id, customer.id]}"#
                    let text = Self.configuration(provider.baseURL, attachment)
                    var environment = Chargebee.environment
                    environment["PUSH_SECRET"] = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
                    let sluice = try SluiceProcess(.init(directory: directory, configuration: text, environment: environment))
                    defer { sluice.kill9() }
                    try await sluice.start()
                    let command = Command(sluice)
                    try await waitUntil("six dead letters", seconds: 40) {
                        try Self.ids(try await command.run(["dead-letter", "list", "--reason", "filter", "--json"])).count == 6
                    }
                    try await Self.look(command)
                    try await Self.mend(command, sluice, text)
                }
            }
        }

        private static func look(_ command: Command) async throws {
            let ids = try Self.ids(try await command.run(["dead-letter", "list", "--json"]))
            let list = try await command.run(["dead-letter", "list", "--destination", "out", "--since", "1h"])
            #expect(list.code == 0 && list.text.contains("filter:1: attempt to compare"), "\(list.text)")
            let shown = try await command.run(["dead-letter", "show", String(ids[0])])
            #expect(shown.code == 0 && shown.text.contains("attempt ") && shown.text.contains("\"record\":{"), "\(shown.text)")
            #expect(shown.text.contains("  not sent\n") && !shown.text.contains("no answer"), "\(shown.text)")
            // Each alarm has one line.
            let status = try await command.run(["status"])
            #expect(status.code == 1 && status.text.split(separator: "became dead letters").count == 2, "\(status.text)")
            #expect(try await command.run(["dead-letter", "list", "--reason", "bogus"]).text.contains("exhausted, gone"))
            let tried = try await command.run(["filter", "try", "gone", "--destination", "out"])
            #expect(tried.text.contains("6 jobs: 0 pass, 0 are left out, 6 fail; those that fail would be dead letters."), "\(tried.text)")
            let beyond = try await command.run(["filter", "try", "gone", "--destination", "out", "--from", "99999"])
            #expect(beyond.code == 0 && beyond.text.contains("0 jobs: the last position of gone is 6"), "\(beyond.text)")
            let absent = try await command.run(["filter", "try", "gone", "--fields", "id,nope,customer.nope"])
            #expect(absent.text.contains("No job had: nope, customer.nope"), "\(absent.text)")
            let better = try await command.run(
                ["filter", "try", "gone", "--filter", "(record.no_such_field or 9) > 5", "--fields", "id", "--last", "2", "--json"])
            #expect(better.code == 0 && better.text.contains(#""passed":2,"skipped":0,"failed":0"#), "\(better.text)")
            let wrong = try await command.run(["filter", "try", "gone", "--filter", "record.a >"])
            #expect(wrong.code == 1 && wrong.text.contains("filter:1:"), "\(wrong.text)")
            #expect(try await command.run(["filter", "try", "gone"]).code == 2)
            #expect(try await command.run(["dead-letter", "replay"]).code == 2)
            #expect(try await command.run(["dead-letter", "discard", "--all"]).code == 2)
            let discarded = try await command.run(["dead-letter", "discard", String(ids[0]), "--because", "a test"])
            #expect(discarded.code == 0 && discarded.text.contains("1 discarded."), "\(discarded.text)")
            #expect(try await command.run(["dead-letter", "discard", String(ids[0]), "--because", "a test"]).code == 1)
            #expect(try await command.run(["dead-letter", "list", "--discarded"]).text.contains("a test"))
        }

        /// The filter is mended and applied, and what it failed on is delivered or left out as it says now.
        private static func mend(_ command: Command, _ sluice: SluiceProcess, _ text: String) async throws {
            let mended = text.replacingOccurrences(of: "record.no_such_field > 5", with: "job.position > 4")
            try Data(mended.utf8).write(to: URL(filePath: command.directory + "/mended.yaml"))
            let applied = try await command.run(["apply", "-f", "mended.yaml"])
            #expect(applied.code == 0 && applied.text.contains("filter for out changes: job.position > 4"), "\(applied.text)")
            let replayed = try await command.run(["dead-letter", "replay", "--reason", "filter"])
            #expect(replayed.code == 0 && replayed.text.contains("5 replayed."), "\(replayed.text)")
            try await waitUntil("the mended filter's say", seconds: 30) {
                let all = try await sluice.send("GET", "/v1/deliveries?limit=100").json()["deliveries"]?.elements ?? []
                // Of the six one was discarded; the others are left out, or wait for a receiver that is not there.
                let states = all.compactMap { $0["state"]?.string }
                let waiting = all.filter { $0["state"]?.string == "pending" && ($0["attempts"]?.int64 ?? 0) > 0 }
                return states.count(where: { $0 == "filtered" }) + waiting.count == 5 && states.contains("filtered")
                    && states.count(where: { $0 == "discarded" }) == 1
            }
        }
    }
}
