import Foundation
import SluiceConnectors
import SluiceCore

/// Wrong on purpose, in ways that Lua has no means for: a clock of its own, a cursor that moves in the middle of a cycle, ids that
/// are taken to count for ever.
struct NaiveSwiftConnector: Connector {
    var definition: ConnectorDefinition {
        ConnectorDefinition(
            name: "naive-swift", title: "Naive (Swift)", version: "1", hash: "naive", language: "swift",
            connectionFields: [Field("site_url", hint: "https://api.example.com")], webhook: nil,
            triggers: [
                TriggerTypeDefinition(name: "updated_by_own_clock", title: "By its own clock", kind: .polling, lookback: 0),
                TriggerTypeDefinition(name: "updated_cursor_moves_early", title: "Moves early", kind: .polling, lookback: 0),
                TriggerTypeDefinition(name: "ids_for_ever", title: "Ids for ever", kind: .longPolling, lookback: 0),
            ])
    }

    func webhookKeys(_ request: WebhookRequest) throws -> [String] { [] }
    func webhookKey(triggerType: String, input: JSONDocument) throws -> String? { nil }
    func help(webhookBaseURL: String) -> String { "" }

    func dedupKeys(triggerType: String, records: [Record]) throws -> [Result<[UInt8], SluiceError>] {
        records.map { record in
            guard let id = record.view["id"]?.text else { return .failure(SluiceError(.connector, "no id")) }
            return .success(Array((id + "@" + (record.view["updated"]?.text ?? "")).utf8))
        }
    }

    func simulation(triggerType: String) -> SimulatedFeed? {
        let byTime = """
            { "records": "items", "cursor": { "field": "updated", "parameter": "since", "type": "unix_seconds", "order": "asc" },
              "pagination": { "token": { "from": "next", "parameter": "after" } }, "dedup": { "id": "id", "version": "updated" } }
            """
        let byID = """
            { "records": "items", "dedup": { "id": "id" },
              "cursor": { "field": "id", "parameter": "since", "type": "integer", "exclusive": true, "order": "asc" } }
            """
        let feed = triggerType == "ids_for_ever" ? byID : byTime
        var result = SimulatedFeed(rules: try? Incremental.standIn(json: JSONDocument(Array(feed.utf8)).root))
        if triggerType == "ids_for_ever" {
            var rule = LongPollRule(parameter: nil, hold: .seconds(60))
            rule.epoch = LongPollRule.EpochQuestion(.token, path: "/status", field: JSONPath(["life"]))
            result.longPoll = rule
        }
        return result
    }

    func poll(_ request: PollRequest, http: any HTTPSending) async throws -> PollPage {
        let since = request.cursor.flatMap { Int64(String(decoding: $0, as: UTF8.self)) } ?? 0
        let token = request.pageState.map { String(decoding: $0, as: UTF8.self) }
        var url = "https://stand-in.invalid/items?since=\(since)"
        if let token, let text = try? JSONDocument(Array(token.utf8)).root.string {
            url += "&after=" + (text.addingPercentEncoding(withAllowedCharacters: .alphanumerics) ?? text)
        }
        let body = try await http.send(HTTPRequestPlan(url: url)).json().root
        let records = (body["items"]?.elements ?? []).map { Record(bytes: $0.bytes) }
        let field = request.triggerType == "ids_for_ever" ? "id" : "updated"
        let highest = records.compactMap { $0.view[field]?.int64 }.max() ?? since
        let next = body["next"]?.string
        var cursor = max(since, highest)
        if request.triggerType == "updated_by_own_clock" { cursor = next == nil ? request.readBound.seconds : since }
        // In the middle of the pages already where it should stand after the last one.
        if request.triggerType == "updated_cursor_moves_early", next != nil { cursor = request.readBound.seconds }
        var page = PollPage(records: records, more: next != nil)
        page.cursor = Array(String(cursor).utf8)
        if let next {
            var writer = JSONWriter()
            writer.value(next)
            page.pageState = writer.bytes
        }
        return page
    }

    func longPoll(_ request: PollRequest, http: any HTTPSending) async throws -> PollPage { try await poll(request, http: http) }
}
