import SluiceCore

/// Where an open cycle stands between two pages. It never outlives its cycle and never becomes the cursor.
struct PageState: Equatable, Sendable {
    /// What asks for the next page.
    enum Position: Equatable, Sendable {
        case first
        case token(String)
        case url(String)
        /// The id of the last record read.
        case after(String)
        /// Records to pass over.
        case offset(Int64)
        /// The number of a page.
        case page(Int64)
    }

    var position = Position.first
    /// The token or id was a number in the answer, and is one again in a request's body.
    var isNumber = false
    /// Pages read in this cycle.
    var pages: Int64 = 0
    /// The lower bound that the pages are asked for with: the cycle's own, until a page restarts from the mark.
    var lower: CursorValue?
    /// The furthest record seen so far.
    var seen: CursorValue?
    /// The server's clock when it answered the first page.
    var firstNow: Timestamp?
    /// The first record's id: seen again, it tells that the source silently began anew.
    var firstID: String?
    /// The feed broke the order that it claims.
    var isUnordered = false
    /// Ids of the last records of the page before: where an offset's page holds none of them, the list has shifted.
    var anchors: [String] = []
    /// Times that the cycle stepped back since the list had shifted.
    var backs: Int64 = 0
    /// The page that comes next was read before.
    var wentBack = false
    /// Records that the list says it holds.
    var total: Int64?
    /// The list shifts faster than it can be read: the cursor stays.
    var isHeld = false
    /// What tells a page from another, and how many in a row were the same.
    var signature: String?
    var sameCount: Int64 = 0
    /// The position that the answer hands out for the next cycle.
    var handedOut: String?
    /// Brent's search for a cycle in the positions: one remembered position, and how long it is kept.
    var remembered: String?
    var steps: Int64 = 0
    var stepsMax: Int64 = 1

    init() {}

    /// A state that cannot be read means that the cycle begins again from the cursor.
    init(json: [UInt8]) throws(PollFailure) {
        guard let root = try? JSONDocument(json).root, root.kind == .object, let pages = root["pages"]?.int64 else {
            throw PollFailure(.pageStateExpired, SluiceError(.connector, "the stored page state cannot be read; the cycle begins again"))
        }
        self.pages = pages
        if let token = root["token"]?.string { position = .token(token) }
        if let url = root["url"]?.string { position = .url(url) }
        if let after = root["after"]?.string { position = .after(after) }
        if let offset = root["offset"]?.int64 { position = .offset(offset) }
        if let page = root["page"]?.int64 { position = .page(page) }
        lower = PageState.value(root["lower"])
        seen = PageState.value(root["seen"])
        firstNow = root["first_now"]?.int64.map { Timestamp(milliseconds: $0) }
        firstID = root["first_id"]?.string
        isUnordered = root["unordered"]?.bool ?? false
        anchors = root["anchors"]?.elements?.compactMap(\.string) ?? []
        backs = root["backs"]?.int64 ?? 0
        wentBack = root["went_back"]?.bool ?? false
        isNumber = root["number"]?.bool ?? false
        total = root["total"]?.int64
        isHeld = root["held"]?.bool ?? false
        signature = root["signature"]?.string
        sameCount = root["same"]?.int64 ?? 0
        handedOut = root["handed_out"]?.string
        remembered = root["remembered"]?.string
        steps = root["steps"]?.int64 ?? 0
        stepsMax = root["steps_max"]?.int64 ?? 1
    }

    private static func value(_ view: JSONView?) -> CursorValue? {
        guard let mark = view?["mark"]?.int64, let text = view?["value"]?.string else { return nil }
        return CursorValue(mark: mark, text: text)
    }

    var json: [UInt8] {
        var writer = JSONWriter()
        writer.object { writer in
            writer.member("pages", pages)
            switch position {
            case .first: break
            case .token(let text): writer.member("token", text)
            case .url(let text): writer.member("url", text)
            case .after(let text): writer.member("after", text)
            case .offset(let count): writer.member("offset", count)
            case .page(let number): writer.member("page", number)
            }
            for (key, value) in [("lower", lower), ("seen", seen)] {
                guard let value else { continue }
                writer.key(key)
                writer.raw(value.json)
            }
            if let firstNow { writer.member("first_now", firstNow.milliseconds) }
            if let firstID { writer.member("first_id", firstID) }
            if isUnordered { writer.member("unordered", true) }
            if !anchors.isEmpty {
                writer.key("anchors")
                writer.array { for anchor in anchors { $0.value(anchor) } }
            }
            if backs > 0 { writer.member("backs", backs) }
            if wentBack { writer.member("went_back", true) }
            if isNumber { writer.member("number", true) }
            if let total { writer.member("total", total) }
            if isHeld { writer.member("held", true) }
            if let signature { writer.member("signature", signature) }
            if sameCount > 0 { writer.member("same", sameCount) }
            if let handedOut { writer.member("handed_out", handedOut) }
            if let remembered { writer.member("remembered", remembered) }
            writer.member("steps", steps)
            writer.member("steps_max", stepsMax)
        }
        return writer.bytes
    }

    /// Goes on to `next`. Throws when the source has been there before: it would go round for ever.
    mutating func advance(to next: Position, lower nextLower: CursorValue?, pagesMax: Int64) throws(PollFailure) {
        if pages >= pagesMax {
            throw PollFailure(
                .permanent,
                SluiceError(
                    .providerAnswer,
                    "this cycle has read \(pages) pages and the provider names yet another: raise pagination.pages_max if that is right"))
        }
        let key = key(next, nextLower)
        if key == self.key(position, lower) || key == remembered {
            throw PollFailure(
                .permanent,
                SluiceError(
                    .providerAnswer,
                    "no progress: the provider names a next page that this cycle has already read; the connector's pagination or the API is wrong"
                ).with("page", String(pages)))
        }
        steps += 1
        if steps >= stepsMax {
            remembered = key
            steps = 0
            stepsMax = min(stepsMax * 2, 1 << 40)
        }
        (position, lower) = (next, nextLower)
    }

    /// What tells one request of a cycle from another.
    private func key(_ position: Position, _ lower: CursorValue?) -> String {
        let bound = lower?.text ?? ""
        return switch position {
        case .first: "first \(bound) \(backs)"
        case .token(let text): "token \(bound) \(text)"
        case .url(let text): "url \(text)"
        case .after(let text): "after \(text)"
        case .offset(let count): "offset \(bound) \(count) \(backs)"
        case .page(let number): "page \(bound) \(number) \(backs)"
        }
    }

    /// Whether five pages in a row were the same: the source ignores what asks for the next one. A list that grows at its
    /// beginning may show the same page again, but hardly that often.
    mutating func isRepeating(_ records: [Record], id: JSONPath) -> Bool {
        guard let first = records.first, let last = records.last else { return false }
        func name(_ record: Record) -> String { id.find(in: record.view)?.text ?? Hex.text(HMACSHA256.sha256(Array(record.bytes))) }
        let current = "\(records.count) \(name(first)) \(name(last))"
        sameCount = current == signature ? sameCount + 1 : 0
        signature = current
        return sameCount >= 4
    }
}
