import Foundation
import SluiceServer
import Testing

/// Places of templates that name no declared field: they would never have a value, and what they stand in would be left out.
@Suite struct PlaceTests {
    private static let source = """
        return { name = "test", title = "Test", version = "1",
          connection = { fields = { { name = "token", secret = true }, { name = "site" } } },
          webhook = { scheme = "none" }, -- allow no-signature-check: a test
          triggers = { updated_item = {
            input_fields = { { name = "status" }, { name = "object", optional = true }, { name = "lists", type = "array" } },
            incremental = { base_url = "https://a.test", path = "/{partition}", records = "list",
              dedup = { id = "id", version = "at" },
              auth = { bearer = "{connection.token}" },
              query = { sort = "at", status = "{input.status}" },
              headers = { ["X-Site"] = "{connection.site}" },
              since = "{input.status}",
              filter = { { field = "state", equals = "{input.status}" } },
              partitions = { input = "lists" },
              cursor = { field = "at", parameter = "since", type = "unix_seconds", lookback_seconds = 60 },
              variants = {
                by = "{input.object}",
                order = { records = "orders" },
                refund = {
                  query = { kind = "{input.object}" },
                },
              } },
            subscription = { base_url = "https://a.test", auth = { bearer = "{connection.token}" },
              create = { path = "/hooks", body = {
                url = "{webhook.url}", status = "{input.status}" } },
              output = { place = "data.place" },
              delete = { path = "/hooks/{output.id}/{output.place}" } } } },
          callbacks = { payment = { input_fields = { { name = "payment" } },
            status = { base_url = "https://a.test",
              path = "/payments/{input.payment}",
              settled = { path = "status", is = "paid" } } } } }
        """

    private func findings(_ source: String) throws -> [(text: String, line: Int?)] {
        let directory = FileManager.default.temporaryDirectory.appendingPathComponent("sluice-places-\(UUID().uuidString)/test")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory.deletingLastPathComponent()) }
        let file = directory.appendingPathComponent("connector.lua")
        try source.write(to: file, atomically: true, encoding: .utf8)
        return try ConnectorLints(file: file.path).findings.map { ($0.text, $0.line) }
    }

    @Test func placesOfDeclaredFieldsAreTaken() throws {
        let found = try findings(Self.source).filter { $0.text.contains("error") }
        #expect(found.isEmpty, "\(found)")
    }

    @Test(arguments: [
        ("status = \"{input.status}\" },", "status = \"{input.staus}\" },", "{input.staus}"),
        ("{connection.site}", "{connection.sight}", "{connection.sight}"),
        ("since = \"{input.status}\"", "since = \"{input.start}\"", "{input.start}"),
        ("equals = \"{input.status}\"", "equals = \"{input.stat}\"", "{input.stat}"),
        ("input = \"lists\"", "input = \"list\"", "{input.list}"),
        ("by = \"{input.object}\"", "by = \"{input.objekt}\"", "{input.objekt}"),
        ("kind = \"{input.object}\"", "kind = \"{input.kind|all}\"", "{input.kind}"),
        ("{webhook.url}", "{webhook.ulr}", "{webhook.ulr}"),
        ("{webhook.url}", "{webhook.expires_at}", "lifetime_seconds"),
        ("url = \"{webhook.url}\", status = \"{input.status}\"", "url = \"{webhook.url}\", status = \"{input.sate}\"", "{input.sate}"),
        ("/{output.place}", "/{output.idd}", "{output.idd}"),
        ("/{input.payment}", "/{input.status}", "{input.status}"),
    ]) func aPlaceThatNamesNoFieldIsAnErrorWithItsLine(_ right: String, _ wrong: String, _ words: String) throws {
        let source = Self.source.replacingOccurrences(of: right, with: wrong)
        try #require(source != Self.source)
        let found = try findings(source)
        let first = try #require(found.first, "nothing was found")
        #expect(first.text.contains("error") && first.text.contains(words), "\(first.text)")
        let line = try #require(source.components(separatedBy: "\n").firstIndex { $0.contains(wrong) }) + 1
        // A list's or a request's own line may stand for what is inside it.
        #expect(first.line.map { abs($0 - line) <= 1 } == true, "line \(first.line ?? 0) for \(line): \(first.text)")
    }
}
