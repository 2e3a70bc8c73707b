import SluiceConnectors
import SluiceCore

/// How the stand-in answers requests: by the parameters that the description names.
extension StandInFeed {
    /// The parameter that pages by Link headers and by URLs use.
    private static let ownParameter = "stand_in_page"
    /// Marks each record with its version, by which its job is recognised.
    static let versionKey = "sluice_version"

    mutating func answer(_ request: HTTPRequestPlan) -> HTTPReply {
        answers += 1
        let parameters = StandInFeed.parameters(request)
        let bound = rules.cursor?.parameter.flatMap { parameters[$0] }.map { place(ofText: $0) }
        if case .some(.none) = bound { return reply(400, "{\"error\":\"the bound cannot be read\"}") }
        if hasPosition(parameters) {
            now += mischief.millisecondsPerPage
            if mischief.shifts { shift(above: bound ?? nil) }
        }
        let upper = rules.cursor?.upperParameter.flatMap { parameters[$0] }.flatMap { place(ofText: $0) }
        let listed = list(above: bound ?? nil, upTo: upper)
        guard let start = start(parameters, in: listed) else {
            return reply([400, 404, 410][random.int(0...2)], "{\"error\":\"unknown page\"}")
        }
        let size = pageSize(parameters)
        let page = Array(listed[min(start, listed.count)..<min(start + size, listed.count)])
        let hasMore = start + size < listed.count
        note(
            Exchange(
                cycle: cycle, bound: bound ?? nil, hasPosition: hasPosition(parameters), count: page.count, hasMore: hasMore,
                newest: items.filter { isListed($0) }.map(\.place).max(), at: now))
        let reply = body(page, hasMore: hasMore, next: start + size, request)
        if mischief.anchorsDeleted > 0, hasMore, let last = page.last {
            mischief.anchorsDeleted -= 1
            delete(last.id)
        }
        return reply
    }

    // MARK: What is asked for

    /// The query's parameters, and those of a form or a JSON object in the body.
    private static func parameters(_ request: HTTPRequestPlan) -> [String: String] {
        var result = ProviderModel.query(request.url)
        if let root = (try? JSONDocument(request.body))?.root {
            for member in root.members ?? [] { result[member.key] = member.value.text ?? member.value.bool.map { $0 ? "true" : "false" } }
        } else if !request.body.isEmpty {
            result.merge(ProviderModel.query("?" + String(decoding: request.body, as: UTF8.self))) { query, _ in query }
        }
        return result
    }

    /// A bound in places; nil if it is neither a time nor a number.
    private func place(ofText text: String) -> Int64? {
        guard isTimed else { return StandInTime.decimal(text).map { $0 / 1_000_000 } }
        guard let number = StandInTime.decimal(text) else { return StandInTime.rfc3339(text) }
        // Some sources take seconds or milliseconds where they show text.
        if rules.cursor?.kind == .unixMilliseconds || abs(number) > 100_000_000_000_000_000 { return number / 1000 }
        return number
    }

    private func pageSize(_ parameters: [String: String]) -> Int {
        let asked = rules.pageSize.flatMap { parameters[$0.parameter] }.flatMap { Int($0) }.map { max(1, $0) }
        guard let pageCap else { return asked ?? rules.pageSize?.value ?? 100 }
        return min(asked ?? pageCap, pageCap)
    }

    private var positionParameter: String? {
        switch rules.pagination {
        case .none: nil
        case .token(_, let parameter, _), .keyset(_, let parameter, _): parameter
        case .link: StandInFeed.ownParameter
        }
    }

    private func hasPosition(_ parameters: [String: String]) -> Bool {
        guard let name = positionParameter, let text = parameters[name] else { return false }
        return !text.isEmpty && text != "0" && !(countsPages && text == "1")
    }

    /// Whether pages are counted, so that they shift when records leave those before them.
    private var isOffset: Bool {
        guard case .token(_, let parameter, let restarts) = rules.pagination else { return false }
        return restarts || StandInFeed.countingNames.contains(StandInFeed.plain(parameter)) || countsPages
    }

    private var countsPages: Bool {
        guard case .token(_, let parameter, false) = rules.pagination else { return false }
        return ["page", "pagenumber", "p"].contains(StandInFeed.plain(parameter))
    }

    private static let countingNames: Set<String> = ["offset", "skip", "start", "startat", "startindex", "from"]
    private static func plain(_ name: String) -> String { name.lowercased().filter { $0.isLetter } }

    /// Where the page begins; nil if its token is not known any more.
    private mutating func start(_ parameters: [String: String], in listed: [Item]) -> Int? {
        guard let name = positionParameter, let text = parameters[name], !text.isEmpty else { return 0 }
        if case .keyset = rules.pagination {
            let index = listed.firstIndex { identity($0) == text }
            if let index { return index + 1 }
            // The record is gone: some sources begin anew without a word, others refuse, others still know where it stood.
            switch random.int(0...2) {
            case 0: return 0
            case 1: return nil
            default:
                guard let item = items.last(where: { identity($0) == text }) else { return nil }
                return listed.firstIndex { isBefore(StandInFeed.key(item), StandInFeed.key($0)) } ?? listed.count
            }
        }
        if !hasPosition(parameters) { return 0 }
        if let limit = mischief.tokensExpireAtAnswer, answers >= limit, tokens[text] ?? 0 < limit { return nil }
        guard tokens[text] != nil else { return nil }
        if isOffset { return Int(text).map { countsPages ? ($0 - 1) * pageSize(parameters) : $0 } }
        let numbers = text.split(separator: "_").compactMap { Int64($0) }
        guard numbers.count == 3 else { return nil }
        let key = Key(place: numbers[0], version: Int(numbers[1]), id: Int(numbers[2]))
        return listed.firstIndex { isBefore(key, StandInFeed.key($0)) } ?? listed.count
    }

    private mutating func shift(above bound: Int64?) {
        let listed = list(above: bound)
        let isOrdered = rules.cursor.map { $0.order != .none } ?? false
        let moved = isOrdered ? listed.first : listed.isEmpty ? nil : listed[random.int(0...listed.count - 1)]
        if isMutable, let moved, random.chance(0.8) { touch(moved.id) } else { add() }
    }

    // MARK: What is shown

    private mutating func body(_ page: [Item], hasMore: Bool, next: Int, _ request: HTTPRequestPlan) -> HTTPReply {
        var answer = JSONTree()
        var headers: [HTTPField] = []
        let records = page.map { record($0) }
        answer.set(rules.records.keys, "[" + records.joined(separator: ",") + "]")
        switch rules.pagination {
        case .none: break
        case .token(let path, _, _):
            if hasMore, let last = page.last {
                answer.set(path.keys, quoted(token(next, last, request)))
            } else if random.chance(0.5) {
                answer.set(path.keys, "null")
            }
        case .link:
            if hasMore, let last = page.last {
                let base = StandInFeed.without(StandInFeed.ownParameter, request.url)
                let sign = base.utf8.contains(UInt8(ascii: "?")) ? "&" : "?"
                let link = "<\(base)\(sign)\(StandInFeed.ownParameter)=\(token(next, last, request))>; rel=\"next\""
                headers.append(HTTPField("Link", link))
            }
        case .keyset(_, _, let more):
            if let more { answer.set(more.keys, hasMore ? "true" : "false") }
        }
        return reply(200, answer.text, headers)
    }

    private mutating func token(_ next: Int, _ last: Item, _ request: HTTPRequestPlan) -> String {
        let text =
            isOffset
            ? String(countsPages ? next / max(1, pageSize(StandInFeed.parameters(request))) + 1 : next)
            : "\(last.place)_\(last.version)_\(last.id)"
        tokens[text] = answers
        return text
    }

    private static func without(_ parameter: String, _ url: String) -> String {
        let halves = url.split(separator: "?", maxSplits: 1)
        guard halves.count == 2 else { return url }
        let kept = halves[1].split(separator: "&").filter { !$0.hasPrefix(parameter + "=") }
        return halves[0] + (kept.isEmpty ? "" : "?" + kept.joined(separator: "&"))
    }

    /// A record's id as the source writes it.
    func identity(_ item: Item) -> String {
        if rules.cursor?.field == rules.dedup.id { return literal(item) }
        return "r\(item.id)"
    }

    private func quoted(_ text: String) -> String {
        var bytes: [UInt8] = []
        JSONWriter.append(text, to: &bytes)
        return String(decoding: bytes, as: UTF8.self)
    }

    private func record(_ item: Item) -> String {
        var record = JSONTree()
        for path in rules.dedup.versions { record.set(path.keys, "\"v\(item.version)\"") }
        if let cursor = rules.cursor {
            let text = literal(item)
            let isNumber = Int64(text) != nil || cursor.marksPerSecond == 1
            switch item.fault {
            case .noTime: record.set(cursor.field.keys, "null")
            case .garbledTime: record.set(cursor.field.keys, "\"soon\"")
            default: record.set(cursor.field.keys, isNumber ? text : quoted(text))
            }
        }
        if rules.cursor?.field != rules.dedup.id {
            if item.fault != .noID { record.set(rules.dedup.id.keys, quoted(identity(item))) }
        } else if item.fault == .noID {
            record.set(rules.dedup.id.keys, "null")
        }
        if case .keyset(let path, _, _) = rules.pagination, path != rules.dedup.id, path != rules.cursor?.field {
            record.set(path.keys, quoted(identity(item)))
        }
        record.set([StandInFeed.versionKey], String(item.version))
        guard let unwrap else { return record.text }
        return "{\(quoted(unwrap)):\(record.text)}"
    }

    /// The cursor's field as the source writes it.
    private func literal(_ item: Item) -> String {
        guard let cursor = rules.cursor else { return "" }
        let mark = item.place / placesPerMark
        var text = cursor.literal(of: mark)
        let rest = item.place % placesPerMark
        if mischief.isFine, rest > 0 {
            let digits = String(String(placesPerMark + rest).dropFirst())
            if cursor.marksPerSecond == 1 {
                text += "." + digits
            } else if cursor.kind == .rfc3339, text.hasSuffix("Z") {
                text = String(text.dropLast())
                text += (text.utf8.contains(UInt8(ascii: ".")) ? "" : ".000") + digits + "Z"
            }
        }
        if mischief.isZoneless, text.hasSuffix("Z") { text = String(text.dropLast()) }
        return text
    }

    func reply(_ status: Int, _ body: String, _ headers: [HTTPField] = []) -> HTTPReply {
        let date = HTTPField("Date", ProviderModel.httpDate(Timestamp(milliseconds: now)))
        return HTTPReply(status: status, headers: [date, HTTPField("Content-Type", "application/json")] + headers, body: Array(body.utf8))
    }
}

/// A JSON object that is built by paths.
struct JSONTree {
    private indirect enum Node {
        case raw(String)
        case object([(key: String, node: Node)])
    }
    private var root = Node.object([])

    /// Puts checked JSON at a path; at an empty one it is the whole document.
    mutating func set(_ path: [String], _ json: String) { root = JSONTree.set(root, path[...], json) }

    private static func set(_ node: Node, _ path: ArraySlice<String>, _ json: String) -> Node {
        guard let key = path.first else { return .raw(json) }
        // What stands at a shorter path already stays: the document is an array, say.
        guard case .object(var members) = node else { return node }
        if let index = members.firstIndex(where: { $0.key == key }) {
            members[index].node = set(members[index].node, path.dropFirst(), json)
        } else {
            members.append((key, set(.object([]), path.dropFirst(), json)))
        }
        return .object(members)
    }

    var text: String { JSONTree.text(root) }

    private static func text(_ node: Node) -> String {
        switch node {
        case .raw(let json): return json
        case .object(let members):
            let parts = members.map { member -> String in
                var key: [UInt8] = []
                JSONWriter.append(member.key, to: &key)
                return String(decoding: key, as: UTF8.self) + ":" + text(member.node)
            }
            return "{" + parts.joined(separator: ",") + "}"
        }
    }
}
