import SluiceCore

/// What a stand-in provider counted, as `GET /_counts` tells it.
public struct ProviderCounts: Sendable, Equatable {
    public var changes = 0
    public var planned = WebhookMischief.Counts()
    /// Answers to each kind of webhook: a status as text, `failed` without an answer, `unconfigured` without a URL,
    /// `overflow` where too many were waiting.
    public var statuses: [PlannedWebhook.Kind: [String: Int]] = [:]
    /// Webhooks that wait for their time or are on their way.
    public var pending = 0
    /// Requests to the API, and the faults that they met, by name.
    public var apiRequests = 0
    public var apiFaults: [String: Int] = [:]

    public init() {}

    /// Forged webhooks that were answered at all.
    public var forgedAnswered: Int { sum(.forged) { !["failed", "unconfigured", "overflow"].contains($0) } }
    /// Forged webhooks that got their 401.
    public var forgedRefused: Int { statuses[.forged]?["401"] ?? 0 }
    /// Real webhooks that left, whether or not they were answered.
    public var realSent: Int { sum(.real) { $0 != "unconfigured" && $0 != "overflow" } }
    /// Real webhooks that were accepted.
    public var realAccepted: Int { sum(.real) { $0.first == "2" } }

    private func sum(_ kind: PlannedWebhook.Kind, where included: (String) -> Bool) -> Int {
        (statuses[kind] ?? [:]).filter { included($0.key) }.values.reduce(0, +)
    }

    public var json: [UInt8] {
        var json = JSONWriter()
        json.object { json in
            for (name, value) in numbers { json.member(name, Int64(value)) }
            for kind in ProviderCounts.kinds { write("\(kind.rawValue)_statuses", statuses[kind] ?? [:], to: &json) }
            write("api_faults", apiFaults, to: &json)
        }
        return json.bytes
    }

    private static let kinds: [PlannedWebhook.Kind] = [.real, .forged, .spoofed]

    private var numbers: [(name: String, value: Int)] {
        [
            ("changes", changes), ("real", planned.real), ("dropped", planned.dropped), ("doubled", planned.doubled),
            ("late", planned.late), ("reordered", planned.reordered), ("forged", planned.forged), ("spoofed", planned.spoofed),
            ("pending", pending), ("api_requests", apiRequests),
        ]
    }

    private func write(_ name: String, _ counts: [String: Int], to json: inout JSONWriter) {
        json.key(name)
        json.object { json in
            for (key, value) in counts.sorted(by: { $0.key < $1.key }) { json.member(key, Int64(value)) }
        }
    }

    /// Reads what `json` wrote. Throws `JSONError`; what is absent is 0.
    public init(json: [UInt8]) throws {
        let root = try JSONDocument(json).root
        func number(_ name: String) -> Int { root[name]?.int64.map { Int($0) } ?? 0 }
        func counts(_ name: String) -> [String: Int] {
            var result: [String: Int] = [:]
            for (key, value) in root[name]?.members ?? [] { result[key] = value.int64.map { Int($0) } }
            return result
        }
        changes = number("changes")
        planned.real = number("real")
        planned.dropped = number("dropped")
        planned.doubled = number("doubled")
        planned.late = number("late")
        planned.reordered = number("reordered")
        planned.forged = number("forged")
        planned.spoofed = number("spoofed")
        pending = number("pending")
        apiRequests = number("api_requests")
        apiFaults = counts("api_faults")
        for kind in ProviderCounts.kinds {
            let found = counts("\(kind.rawValue)_statuses")
            if !found.isEmpty { statuses[kind] = found }
        }
    }
}
