import Foundation
import SluiceCore
import SluiceTesting
import Testing

extension Live {
    /// Connectors that change while the server runs, under polls that go on.
    @Suite(.serialized) struct ReloadLiveTests {
        private static func edit(_ path: String, _ change: (String) -> String) throws {
            let text = try String(contentsOfFile: path, encoding: .utf8)
            let changed = change(text)
            #expect(changed != text)
            try changed.write(toFile: path, atomically: true, encoding: .utf8)
        }

        private static func alarms(_ sluice: SluiceProcess, _ kind: String) async throws -> [JSONView] {
            let all = try await sluice.send("GET", "/v1/alarms").json()["alarms"]?.elements ?? []
            return all.filter { $0["kind"]?.string == kind }
        }

        private static func connector(_ sluice: SluiceProcess, _ name: String) async throws -> JSONView? {
            try await sluice.send("GET", "/v1/connectors?limit=1000").json()["connectors"]?.elements?.first { $0["name"]?.string == name }
        }

        /// A server on a copy of the catalogue, and the path of the copy.
        private static func together(
            _ body: @Sendable @escaping (StandInProvider, SluiceProcess, _ connectors: String) async throws -> Void
        ) async throws {
            try await withTemporaryDirectory { directory in
                let connectors = directory + "/connectors"
                try FileManager.default.copyItem(atPath: SluiceProcess.root + "/connectors", toPath: connectors)
                var settings = PromiseLiveTests.settings(PromiseLiveTests.quiet)
                settings.world.visibilityLagMax = .zero
                try await StandInProvider.with(settings) { provider in
                    let sluice = try SluiceProcess(
                        .init(
                            directory: directory, configuration: Chargebee.configuration(provider.baseURL, safety: "3s"),
                            environment: Chargebee.environment, arguments: ["--connectors", connectors]))
                    defer { sluice.kill9() }
                    try await sluice.start()
                    try await body(provider, sluice, connectors)
                }
            }
        }

        @Test func aBrokenEditKeepsTheLastGoodOneRunningAndSaysSo() async throws {
            try await Self.together { provider, sluice, connectors in
                let file = connectors + "/chargebee/connector.lua"
                let good = try String(contentsOfFile: file, encoding: .utf8)
                provider.makeChanges(6)
                try await waitUntil("jobs", seconds: 60) { try await !sluice.jobs().isEmpty }

                try "return { name = ".write(toFile: file, atomically: true, encoding: .utf8)
                try await waitUntil("the alarm", seconds: 60) { try await !Self.alarms(sluice, "connector_broken").isEmpty }
                let alarm = try #require(try await Self.alarms(sluice, "connector_broken").first)
                #expect(alarm["subject"]?.string == "connector chargebee")
                #expect(alarm["message"]?.string?.contains("runs on") == true, "\(Shown(alarm))")
                #expect(try await Self.connector(sluice, "chargebee")?["problem"]?.string?.contains("connector.lua:1") == true)
                #expect(try sluice.log().contains("a connector is broken"))
                // Polls go on with the last good one.
                let before = try await sluice.jobs().count
                provider.makeChanges(6)
                try await waitUntil("jobs of the last good one", seconds: 60) { try await sluice.jobs().count > before }

                // Mended, and changed: the next cycles poll with the new one.
                try good.replacingOccurrences(of: "version = \"1.0.0\"", with: "version = \"1.0.1\"")
                    .replacingOccurrences(of: "value = 100", with: "value = 7")
                    .write(toFile: file, atomically: true, encoding: .utf8)
                try await waitUntil("the mended one", seconds: 60) {
                    try await Self.connector(sluice, "chargebee")?["version"]?.string == "1.0.1"
                }
                #expect(try await Self.alarms(sluice, "connector_broken").isEmpty)
                provider.makeChanges(6)
                #expect(try await Chargebee.settled(provider, sluice, seconds: 60).isClean)
            }
        }

        /// Under polls that go on, a dozen edits lose nothing and double nothing.
        @Test func editsUnderRunningPollsLoseNothing() async throws {
            try await Self.together { provider, sluice, connectors in
                let file = connectors + "/chargebee/connector.lua"
                for edit in 1...12 {
                    provider.makeChanges(5)
                    try Self.edit(file) {
                        $0.replacingOccurrences(
                            of: #"version = "[^"]*""#, with: "version = \"2.0.\(edit)\"", options: .regularExpression,
                            range: $0.range(of: #"version = "[^"]*""#, options: .regularExpression))
                    }
                    let answer = try await sluice.send("POST", "/v1/connectors/reload")
                    #expect(answer.status == 200 && answer.text.contains("\"broken\":[]"), "\(answer.text)")
                    // Whoever looks every two seconds may have loaded it before this did.
                    try await waitUntil("edit \(edit) is loaded", seconds: 60) {
                        try await Self.connector(sluice, "chargebee")?["version"]?.string == "2.0.\(edit)"
                    }
                    try await Task.sleep(for: .milliseconds(300))
                }
                let verdict = try await Chargebee.settled(provider, sluice, seconds: 60)
                // States that were replaced between two polls are no jobs.
                #expect(verdict.isClean && verdict.jobs + verdict.replacedUnseen >= 60, "\(verdict)")
            }
        }

        /// Its file comes after the start: what its connections were set to holds, and their webhooks were asked to come again meanwhile.
        @Test func P4_aConnectorThatComesLateIsPolledAsItsConnectionSays() async throws {
            try await Self.together { provider, sluice, connectors in
                provider.makeChanges(3)
                #expect(try await Chargebee.settled(provider, sluice, seconds: 60).isClean)
                let url = try await sluice.webhookURL("demo")
                sluice.kill9()
                let aside = connectors + "-aside"
                try FileManager.default.moveItem(atPath: connectors + "/chargebee", toPath: aside)
                // Nothing new is defined by this start.
                let file = sluice.options.directory + "/sluice.yaml"
                try "{}".write(toFile: file, atomically: true, encoding: .utf8)
                try await sluice.start()
                let body = Array(#"{"id":"ev_late","event_type":"subscription_changed","content":{}}"#.utf8)
                let early = try await Hook.post(url, body, [Hook.basic(Chargebee.password)])
                #expect(early.status == 503 && early.retryAfter != nil, "\(early)")
                #expect(try await Hook.post(url + "x", body, []).status == 404)
                provider.makeChanges(4)

                try FileManager.default.moveItem(atPath: aside, toPath: connectors + "/chargebee")
                // On 127.0.0.1, which only `allow_private` lets it poll.
                #expect(try await Chargebee.settled(provider, sluice, seconds: 60).isClean)
                #expect(try await Hook.post(url, body, [Hook.basic(Chargebee.password)]).status == 200)
                #expect(try await sluice.trigger("subscriptions")["failures"]?.int64 == 0)
            }
        }

        /// A new directory is picked up, one that is gone runs on, and triggers listen to what their changed `webhook_key` says.
        @Test func whatChangesWithAConnectorIsTakenOver() async throws {
            try await Self.together { provider, sluice, connectors in
                try FileManager.default.copyItem(atPath: connectors + "/chargebee", toPath: connectors + "/chargebee-too")
                try Self.edit(connectors + "/chargebee-too/connector.lua") {
                    $0.replacingOccurrences(of: "name = \"chargebee\"", with: "name = \"chargebee-too\"")
                }
                try await waitUntil("the new one", seconds: 60) { try await Self.connector(sluice, "chargebee-too") != nil }
                try FileManager.default.removeItem(atPath: connectors + "/chargebee-too")
                try await waitUntil("that it is gone", seconds: 60) {
                    try await Self.connector(sluice, "chargebee-too")?["problem"]?.string?.contains("gone") == true
                }

                let before = try await sluice.trigger("invoices")["generation"]?.int64 ?? 0
                try Self.edit(connectors + "/chargebee/connector.lua") {
                    $0.replacingOccurrences(
                        of: "return input.resource:match(\"^[^_]+\")", with: "return input.resource:match(\"^[^_]+\") .. \"-x\""
                    )
                    .replacingOccurrences(
                        of: "{ request.json.event_type:match(\"^[^_]+\") }",
                        with: "{ request.json.event_type:match(\"^[^_]+\") .. \"-x\" }")
                }
                try await waitUntil("new topics", seconds: 60) {
                    (try await sluice.trigger("invoices")["generation"]?.int64 ?? 0) > before
                }
                let url = try await sluice.webhookURL("demo")
                provider.setWebhookTarget(.init(url: url, user: Chargebee.user, password: Chargebee.password))
                provider.makeChanges(3, resource: "invoice")
                try await waitUntil("polls that webhooks caused", seconds: 60) {
                    (try await sluice.trigger("invoices")["polls_by_cause"]?["webhook"]?.int64 ?? 0) > 0
                }
                let unmatched = try await sluice.send("GET", "/v1/inbox?unmatched=true").json()["webhooks"]?.elements ?? []
                #expect(unmatched.isEmpty, "webhooks find the keys that triggers listen to")
            }
        }
    }
}

/// A value as text, for messages of tests.
private struct Shown: CustomStringConvertible {
    var description: String
    init(_ view: JSONView) { description = String(decoding: view.bytes, as: UTF8.self) }
}
