import AsyncHTTPClient
import Foundation
import NIOCore
import SluiceCore
import SluiceTesting
import Testing

extension Live {
    /// The bound of unread webhooks, and webhooks that are sent through again, at the real server.
    @Suite(.serialized) struct InboxLiveTests {
        /// One trigger reads webhooks, one is woken by them; its polls ask nobody. A webhook without a kind cannot be matched.
        private static func connector(matches key: String = "request.json.kind", version: Int = 1) -> String {
            """
            return { name = "mixed", title = "Mixed", version = "\(version)",
            connection = { fields = { { name = "site" } } },
            webhook = { scheme = "none" },
            webhook_keys = function(request) return { \(key):lower() } end,
            triggers = {
              note = { webhook_key = function(input) return "note" end,
                webhook_notification = function(request) return { request.json } end,
                dedup = function(record) return record.id end },
              item = { webhook_key = function(input) return "item" end,
                poll = function(connection, input, closure)
                  return { events = {}, next_poll = { polls = (closure and closure.polls or 0) + 1 }, can_poll_more = false }
                end,
                dedup = function(record) return record.id end } } }
            """
        }

        private static func together(
            unreadMax: Int, _ body: @Sendable @escaping (SluiceProcess, _ url: String, _ connectorFile: String) async throws -> Void
        ) async throws {
            try await withTemporaryDirectory { directory in
                let file = directory + "/connectors/mixed/connector.lua"
                try FileManager.default.createDirectory(atPath: directory + "/connectors/mixed", withIntermediateDirectories: true)
                try Self.connector().write(toFile: file, atomically: true, encoding: .utf8)
                let configuration = """
                    connections:
                      main: { connector: mixed, fields: { site: acme } }
                    triggers:
                      notes: { connection: main, type: note }
                      items: { connection: main, type: item }
                    """
                let sluice = try SluiceProcess(
                    .init(
                        directory: directory, configuration: configuration,
                        arguments: ["--unread-webhooks-max", String(unreadMax)], connectors: directory + "/connectors"))
                defer { sluice.kill9() }
                try await sluice.start()
                try await body(sluice, try await sluice.webhookURL("main"), file)
            }
        }

        private static func send(_ url: String, _ body: String) async throws -> (status: Int, retryAfter: String?, body: String) {
            var request = HTTPClientRequest(url: url)
            request.method = .POST
            request.headers.add(name: "Content-Type", value: "application/json")
            request.body = .bytes(Array(body.utf8))
            let response = try await HTTPClient.shared.execute(request, timeout: .seconds(10))
            let text = String(buffer: try await response.body.collect(upTo: 1 << 20))
            return (Int(response.status.code), response.headers.first(name: "Retry-After"), text)
        }

        private static func alarms(_ sluice: SluiceProcess, _ kind: String) async throws -> [String] {
            let all = try await sluice.send("GET", "/v1/alarms").json()["alarms"]?.elements ?? []
            return all.filter { $0["kind"]?.string == kind }.compactMap { $0["subject"]?.string }
        }

        private static func polls(_ sluice: SluiceProcess, _ cause: String) async throws -> Int64 {
            try await sluice.trigger("items")["polls_by_cause"]?[cause]?.int64 ?? 0
        }

        @Test func P10_atTheBoundOfUnreadWebhooksNewOnesAreAnswered503AndMadeUpFor() async throws {
            try await Self.together(unreadMax: 3) { sluice, url, _ in
                #expect(try await sluice.send("POST", "/v1/triggers/notes/pause", body: "{}").status == 200)
                for number in 1...3 { #expect(try await Self.send(url, #"{"kind":"note","id":"n\#(number)"}"#).status == 200) }
                try await waitUntil("the alarm", seconds: 40) { try await Self.alarms(sluice, "inbox_full") == ["connection main"] }
                let before = try await Self.polls(sluice, "catch_up")

                let refused = try await Self.send(url, #"{"kind":"item","id":"i1"}"#)
                #expect(refused.status == 503 && refused.retryAfter == "60", "\(refused)")
                #expect(refused.body.contains("wait to be read"), "\(refused.body)")
                // Nothing says what the refused one was about: whatever listens there is polled (P6).
                try await waitUntil("a poll that makes up for it", seconds: 40) { try await Self.polls(sluice, "catch_up") > before }
                #expect(try await Self.polls(sluice, "webhook") == 0)

                // What an operator sends through again goes in, whatever the bound.
                let again = try await sluice.send("POST", "/v1/inbox/1/redeliver", body: "{}")
                let redelivered = try again.json()
                #expect(again.status == 200 && redelivered["sequence"]?.int64 ?? 0 > 3, "\(again.text)")
                #expect(redelivered["redelivered"]?.int64 == 1)

                #expect(try await sluice.send("POST", "/v1/triggers/notes/resume", body: "{}").status == 200)
                try await waitUntil("that the alarm goes", seconds: 40) { try await Self.alarms(sluice, "inbox_full").isEmpty }
                let taken = try await Self.send(url, #"{"kind":"note","id":"n4"}"#)
                #expect(taken.status == 200, "\(taken)")
                try await waitUntil("the notes", seconds: 40) { try await sluice.jobs(trigger: "notes").count == 4 }
                #expect(try await sluice.jobs(trigger: "notes").count == 4, "the one that came twice is one job")
            }
        }

        @Test func aWebhookThatNobodyCouldMatchIsRedeliveredOnceTheConnectorCan() async throws {
            try await Self.together(unreadMax: 1000) { sluice, url, file in
                #expect(try await Self.send(url, #"{"type":"note","id":"n1"}"#).status == 200)
                let item = try await sluice.send("GET", "/v1/inbox/1").json()
                let shown = String(decoding: item.bytes, as: UTF8.self)
                #expect(item["unmatched_reason"]?.string?.contains("connector.lua") == true, "\(shown)")
                try await waitUntil("that it is set aside", seconds: 40) {
                    try await sluice.send("GET", "/v1/triggers/notes/quarantine").json()["quarantine"]?.elements?.count == 1
                }
                // Still not: it is kept, and says why.
                let same = try await sluice.send("POST", "/v1/inbox/1/redeliver", body: "{}")
                let unmatched = try same.json()["unmatched_reason"]?.string
                #expect(same.status == 200 && unmatched != nil, "\(same.text)")

                try Self.connector(matches: "(request.json.kind or request.json.type)", version: 2).write(
                    toFile: file, atomically: true, encoding: .utf8)
                let reload = try await sluice.send("POST", "/v1/connectors/reload")
                #expect(reload.status == 200 && reload.text.contains("\"broken\":[]"), "\(reload.text)")
                // Whoever looks every two seconds may have loaded it before this did.
                try await waitUntil("the mended one is loaded", seconds: 60) {
                    let connectors = try await sluice.send("GET", "/v1/connectors?limit=1000").json()["connectors"]?.elements
                    return connectors?.first { $0["name"]?.string == "mixed" }?["version"]?.string == "2"
                }
                let again = try await sluice.send("POST", "/v1/inbox/1/redeliver", body: "{}")
                let matched = try again.json()["unmatched_reason"]?.isNull
                #expect(again.status == 200 && matched == true, "\(again.text)")
                try await waitUntil("its job", seconds: 40) { try await sluice.jobs(trigger: "notes").count == 1 }
                // Once more makes no job that was made before.
                #expect(try await sluice.send("POST", "/v1/inbox/1/redeliver", body: "{}").status == 200)
                #expect(try await Self.send(url, #"{"type":"note","id":"n2"}"#).status == 200)
                try await waitUntil("the next job", seconds: 40) { try await sluice.jobs(trigger: "notes").count >= 2 }
                #expect(try await sluice.jobs(trigger: "notes").count == 2)
                #expect(try await sluice.send("POST", "/v1/inbox/4711/redeliver", body: "{}").status == 404)
                #expect(try await sluice.send("POST", "/v1/inbox/nonsense/redeliver", body: "{}").status == 400)
            }
        }
    }
}
