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
    }

    var position = Position.first
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
        lower = PageState.value(root["lower"])
        seen = PageState.value(root["seen"])
        firstNow = root["first_now"]?.int64.map { Timestamp(milliseconds: $0) }
        firstID = root["first_id"]?.string
        isUnordered = root["unordered"]?.bool ?? false
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
            }
            for (key, value) in [("lower", lower), ("seen", seen)] {
                guard let value else { continue }
                writer.key(key)
                writer.raw(value.json)
            }
            if let firstNow { writer.member("first_now", firstNow.milliseconds) }
            if let firstID { writer.member("first_id", firstID) }
            if isUnordered { writer.member("unordered", true) }
            if let remembered { writer.member("remembered", remembered) }
            writer.member("steps", steps)
            writer.member("steps_max", stepsMax)
        }
        return writer.bytes
    }

    /// Goes on to `next`. Throws when the source has been there before: it would go round for ever.
    mutating func advance(to next: Position, lower nextLower: CursorValue?) throws(PollFailure) {
        let key = PageState.key(next, nextLower)
        if key == PageState.key(position, lower) || key == remembered {
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
    private static func key(_ position: Position, _ lower: CursorValue?) -> String {
        let bound = lower?.text ?? ""
        return switch position {
        case .first: "first \(bound)"
        case .token(let text): "token \(bound) \(text)"
        case .url(let text): "url \(text)"
        case .after(let text): "after \(text)"
        }
    }
}
