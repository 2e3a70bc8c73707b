import Foundation
import SluiceConnectors
import SluiceCore
import SluiceServer
import Testing

/// `sluice connector try` says where an answer and the description disagree about further pages, and what was sent.
@Suite struct TrialPageTests {
    private static func source(_ keys: String, _ dedup: String) -> String {
        """
        return { name = "test", title = "Test", version = "1",
          connection = { fields = { { name = "key", secret = true } } },
          triggers = { updated_item = { incremental = {
            base_url = "https://a.test", path = "/items", records = "items", auth = { bearer = "{connection.key}" },
            page_size = { parameter = "limit", value = 2 }, dedup = { \(dedup) }, \(keys) } } } }
        """
    }

    private static func trial(
        _ keys: String, dedup: String = "id = \"id\"", answer: String, headers: String = "", url: String = "https://a.test/items?limit=2",
        request: String = "\"GET\""
    ) async throws -> Trial {
        try await withDirectory { directory in
            let manager = FileManager.default
            for folder in ["test", "recorded"] {
                try manager.createDirectory(atPath: "\(directory)/\(folder)", withIntermediateDirectories: true)
            }
            let exchange = """
                { "request": { "method": \(request), "url": "\(url)" },
                  "response": { "status": 200, "headers": [["Date", "Thu, 01 Jan 2026 10:00:00 GMT"]\(headers)], "json": \(answer) } }
                """
            for (name, text) in [
                ("test/connector.lua", source(keys, dedup)), ("recorded/trial.json", "{\"type\":\"updated_item\",\"now\":1767261600000}"),
                ("recorded/0001.json", exchange),
            ] { try text.write(toFile: "\(directory)/\(name)", atomically: true, encoding: .utf8) }
            var order = Trial.Order(file: directory + "/test")
            order.connection = [("key", "sk_canary_0123456789")]
            order.replayDirectory = directory + "/recorded"
            return try await Trial.run(order)
        }
    }

    private static let full = "\"items\": [{ \"id\": 1 }, { \"id\": 2 }]"
    private static let token = "pagination = { token = { from = \"meta.next\", parameter = \"after\" } }"

    @Test(
        arguments: [
            (token, "{ \(full), \"meta\": { \"nxt\": \"t\" } }", "", "has nothing at \"meta.next\""),
            (token, "{ \(full), \"meta\": { \"next\": null } }", "", nil),
            (token, "{ \"items\": [{ \"id\": 1 }] }", "", nil),
            ("pagination = { next_url = { from = \"paging.next\" } }", "{ \(full) }", "", "has nothing at \"paging.next\""),
            ("", "{ \(full) }", "", "as many as are asked for, and no pagination"),
            ("", "{ \"items\": [{ \"id\": 1 }] }", "", nil), ("", "{ \"items\": [{ \"id\": 1 }], \"next_page\": null }", "", nil),
            ("", "{ \"items\": [{ \"id\": 1 }], \"paging\": { \"nextPage\": 2 } }", "", "the answer has paging.nextPage"),
            ("", "{ \"items\": [{ \"id\": 1 }] }", ", [\"Link\", \"</items?page=2>; rel=\\\"next\\\"\"]", "a Link with rel=next"),
        ] as [(String, String, String, String?)]) func furtherPagesThatAreNeverReadAreSaid(
            _ keys: String, _ answer: String, _ headers: String, _ words: String?
        ) async throws
    {
        let trial = try await Self.trial(keys, answer: answer, headers: headers)
        #expect(trial.failure == nil, "\(trial.text())")
        if let words {
            #expect(trial.notes.count == 1 && trial.notes[0].contains(words) && trial.text().contains("note: "), "\(trial.notes)")
        } else {
            #expect(trial.notes.isEmpty, "\(trial.notes)")
        }
    }

    @Test(
        arguments: [
            ("version = \"updatd\"", "{ \"id\": 1, \"updated\": 5 }", "at \"updatd\" (dedup.version)"),
            ("version = \"updated\"", "{ \"id\": 1, \"updated\": null }", "at \"updated\" (dedup.version)"),
            ("version = \"updated\"", "{ \"id\": 1, \"updated\": 5 }", nil),
            // Some lack it: they count by their content, as is written.
            ("version = \"updated\"", "{ \"id\": 1 }, { \"id\": 2, \"updated\": \"5\" }", nil),
        ] as [(String, String, String?)]) func aVersionThatNoRecordHasIsSaid(
            _ version: String, _ records: String, _ words: String?
        ) async throws
    {
        let trial = try await Self.trial(
            Self.token, dedup: "id = \"id\", \(version)", answer: "{ \"items\": [\(records)], \"meta\": { \"next\": null } }")
        #expect(trial.failure == nil, "\(trial.text())")
        #expect(trial.notes.count == (words == nil ? 0 : 1), "\(trial.notes)")
        if let words { #expect(trial.notes.first?.contains(words) == true, "\(trial.notes)") }
    }

    @Test func theBodyOfARequestIsShownWithoutSecrets() async throws {
        let long = String(repeating: "x", count: 600)
        let body = "{\"q\":\"\(long)\"}"
        let trial = try await Self.trial(
            "method = \"POST\", body = { json = { q = \"\(long)\" } }", answer: "{ \"items\": [] }",
            request: "\"POST\", \"body\": \"\(body.replacingOccurrences(of: "\"", with: "\\\""))\"")
        #expect(trial.failure == nil, "\(trial.text())")
        let shown = String(body.prefix(500)) + "…"
        #expect(trial.text().contains("\n    \(shown)\n"), "\(trial.text())")
        let json = try JSONDocument(trial.json).root
        #expect(json["requests"]?.elements?.first?["body"]?.string == shown)
        let secret = try await Self.trial(
            "method = \"POST\", body = { json = { who = \"{connection.key}\" } }", answer: "{ \"items\": [] }",
            request: "\"POST\", \"body\": \"{\\\"who\\\":\\\"[key]\\\"}\"")
        #expect(secret.text().contains("{\"who\":\"[key]\"}") && !secret.text().contains("canary"), "\(secret.text())")
    }
}
