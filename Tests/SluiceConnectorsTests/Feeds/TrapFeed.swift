import SluiceConnectors
import SluiceCore
import Synchronization

/// A list in memory that springs the traps of docs/CONNECTORS.md, varied by a seed. It reads requests by itself: nothing of
/// the code under test helps it to understand them.
final class TrapFeed: HTTPSending {
    enum Order: String, Sendable, CaseIterable { case ascending = "asc", descending = "desc", byID = "none" }
    enum Paging: String, Sendable, CaseIterable { case offset, page, token, bodyToken, keyset, nextURL, relativeURL, nextPageHeader, link }
    /// How times are written, and how finely they are compared.
    enum Form: String, Sendable, CaseIterable {
        case unixSeconds = "unix_seconds", unixMilliseconds = "unix_milliseconds", rfc3339, date, strftime
    }

    struct Traps: OptionSet, Sendable {
        let rawValue: Int
        static let ties = Traps(rawValue: 1)
        static let pageWideTies = Traps(rawValue: 2)
        static let late = Traps(rawValue: 4)
        static let future = Traps(rawValue: 8)
        static let shifts = Traps(rawValue: 16)
        static let deletions = Traps(rawValue: 32)
        static let expiringTokens = Traps(rawValue: 64)
        static let shortPages = Traps(rawValue: 128)
        static let poison = Traps(rawValue: 256)
        static let tokenAlways = Traps(rawValue: 512)
    }

    struct Style: Sendable {
        var order = Order.ascending
        var paging = Paging.offset
        var form = Form.unixSeconds
        var isStrict = false
        /// Whether the list takes a bound; otherwise it is read back.
        var isBounded = true
        var traps: Traps = []
        var pageSize = 4
        static let lateMillisecondsMax: Int64 = 20_000
    }

    struct Item: Sendable {
        var id: Int
        var version: Int
        var time: Int64
        var visibleAt: Int64
        var isPoison = false
    }

    struct State: Sendable {
        var items: [Item] = []
        var now: Int64 = 1_700_000_000_000
        var random: TrapRandom
        var tokens: Set<String> = []
        var isCalm = false
        var versions = 0
        var requests: [HTTPRequestPlan] = []
    }

    let style: Style
    private let state: Mutex<State>

    init(_ style: Style, seed: UInt64) {
        self.style = style
        state = Mutex(State(random: TrapRandom(seed)))
    }

    func change<Result: Sendable>(_ body: (inout sending State) -> sending Result) -> Result { state.withLock { body(&$0) } }
    var requests: [HTTPRequestPlan] { state.withLock { $0.requests } }

    /// `id@version` of what the list holds now and a reader must have.
    var expected: Set<String> {
        state.withLock { state in
            Set(state.items.filter { !$0.isPoison && $0.visibleAt <= state.now }.map { "r\($0.id)@v\($0.version)" })
        }
    }

    // MARK: What happens

    func happen() { state.withLock { happen(&$0) } }

    private func happen(_ state: inout State) {
        let traps = style.traps
        state.now += state.random.int(0...4000)
        let count = traps.contains(.pageWideTies) && state.random.chance(0.15) ? Int64(style.pageSize * 2 + 1) : state.random.int(0...3)
        for _ in 0..<count {
            state.versions += 1
            var item = Item(id: state.versions, version: state.versions, time: state.now, visibleAt: state.now)
            if !traps.isDisjoint(with: [.ties, .pageWideTies]) { item.time -= item.time % 1000 }
            if count < 4, !traps.contains(.ties) { state.now += state.random.int(1...1500) }
            if traps.contains(.late), state.random.chance(0.3) {
                item.visibleAt = state.now + state.random.int(1...Style.lateMillisecondsMax - 1000)
            }
            if traps.contains(.future), state.random.chance(0.05) { item.time += state.random.int(1...400) * 86_400_000 }
            if traps.contains(.poison), state.random.chance(0.1) { item.isPoison = true }
            state.items.append(item)
        }
        if traps.contains(.shifts), state.random.chance(0.5) { touch(&state) }
        if traps.contains(.deletions), !state.items.isEmpty, state.random.chance(0.3) {
            state.items.remove(at: Int(state.random.int(0...Int64(state.items.count - 1))))
        }
    }

    /// An item changes: it leaves its place for the end of what is ordered by time.
    private func touch(_ state: inout State) {
        let visible = state.items.indices.filter { state.items[$0].visibleAt <= state.now && !state.items[$0].isPoison }
        guard let index = visible.randomElement(using: &state.random) else { return }
        state.versions += 1
        state.now += 1
        (state.items[index].version, state.items[index].time) = (state.versions, state.now)
    }

    // MARK: Answers

    func send(_ request: HTTPRequestPlan) async throws -> HTTPReply {
        state.withLock { state in
            state.requests.append(request)
            return answer(request, &state)
        }
    }

    private func answer(_ request: HTTPRequestPlan, _ state: inout State) -> HTTPReply {
        let query = FakeProvider.query(request.url)
        let position = position(request, query)
        if position != nil, !state.isCalm, state.items.count < 300, !style.traps.isDisjoint(with: [.shifts, .deletions]),
            state.random.chance(0.25)
        {
            happen(&state)
        }
        var listed = state.items.filter { $0.visibleAt <= state.now }
        if style.isBounded, let text = query["since"] {
            guard let bound = bound(text) else { return reply(400, "{\"error\":\"since\"}", state) }
            let granule = granule
            listed = listed.filter {
                style.isStrict ? $0.time.floored(granule) > bound.floored(granule) : $0.time.floored(granule) >= bound.floored(granule)
            }
        }
        switch style.order {
        case .ascending: listed.sort { ($0.time, $0.id) < ($1.time, $1.id) }
        case .descending: listed.sort { ($0.time, $0.id) > ($1.time, $1.id) }
        case .byID: listed.sort { $0.id < $1.id }
        }
        guard let start = start(position, listed, &state) else { return reply(410, "{\"error\":\"unknown page\"}", state) }
        var size = query["limit"].flatMap { Int($0) } ?? style.pageSize
        if style.traps.contains(.shortPages), style.paging != .page, size > 2, state.random.chance(0.3) { size -= 1 }
        let page = Array(listed[min(start, listed.count)..<min(start + size, listed.count)])
        let hasMore = start + size < listed.count
        return show(page, next: start + page.count, hasMore: hasMore, total: listed.count, request, query, &state)
    }

    private func position(_ request: HTTPRequestPlan, _ query: [String: String]) -> String? {
        switch style.paging {
        case .offset: query["offset"].flatMap { $0 == "0" ? nil : $0 }
        case .page: query["page"].flatMap { $0 == "1" ? nil : $0 }
        case .bodyToken: (try? JSONDocument(request.body))?.root["paging"]?["after"]?.string
        case .keyset: query["after_id"]
        case .token, .nextURL, .relativeURL, .nextPageHeader, .link: query["token"]
        }
    }

    private func start(_ position: String?, _ listed: [Item], _ state: inout State) -> Int? {
        guard let position else { return 0 }
        switch style.paging {
        case .offset: return Int(position)
        case .page: return Int(position).map { ($0 - 1) * style.pageSize }
        case .keyset:
            return listed.firstIndex { "r\($0.id)" == position }.map { $0 + 1 }
        default:
            guard state.tokens.contains(position) else { return nil }
            if style.traps.contains(.expiringTokens), !state.isCalm, state.random.chance(0.005) { return nil }
            let parts = position.split(separator: "x").compactMap { Int64($0) }
            let (time, id) = (parts[0], Int(parts[1]))
            let found =
                switch style.order {
                case .ascending: listed.firstIndex { ($0.time, $0.id) > (time, id) }
                case .descending: listed.firstIndex { ($0.time, $0.id) < (time, id) }
                case .byID: listed.firstIndex { $0.id > id }
                }
            return found ?? listed.count
        }
    }

    private func show(
        _ page: [Item], next: Int, hasMore: Bool, total: Int, _ request: HTTPRequestPlan, _ query: [String: String], _ state: inout State
    ) -> HTTPReply {
        let records = page.map { item in
            item.isPoison
                ? (item.id % 2 == 0
                    ? "{\"\(style.timeField)\":\(literal(item.time)),\"v\":\"v\(item.version)\"}"
                    : "{\"id\":\"p\(item.id)\",\"\(style.timeField)\":null,\"v\":\"x\"}")
                : "{\"id\":\"r\(item.id)\",\"\(style.timeField)\":\(literal(item.time)),\"v\":\"v\(item.version)\"}"
        }
        var members = ["\"list\":[\(records.joined(separator: ","))]", "\"has_more\":\(hasMore)", "\"total\":\(total)"]
        var headers: [HTTPField] = []
        if let last = page.last, hasMore || style.traps.contains(.tokenAlways) {
            let token = "\(last.time)x\(last.id)"
            state.tokens.insert(token)
            let base = request.url.prefix { $0 != "?" }
            let rest =
                query.filter { $0.key != "token" }.map { "\($0.key)=\(HTTPRequestPlan.percentEncoded($0.value))" } + ["token=\(token)"]
            let link = base + "?" + rest.joined(separator: "&")
            switch style.paging {
            case .token, .bodyToken: members.append("\"next\":\"\(token)\"")
            case .nextURL: members.append("\"next\":\"\(link)\"")
            case .relativeURL: members.append("\"next\":\"?\(rest.joined(separator: "&"))\"")
            case .nextPageHeader: headers.append(HTTPField("Next-Page", String(link)))
            case .link: headers.append(HTTPField("Link", "<\(link)>; rel=\"next\""))
            case .offset, .page, .keyset: break
            }
        }
        return reply(200, "{\(members.joined(separator: ","))}", state, headers)
    }

    private func reply(_ status: Int, _ body: String, _ state: State, _ headers: [HTTPField] = []) -> HTTPReply {
        HTTPReply(status: status, headers: headers + [FakeProvider.date(state.now / 1000)], body: Array(body.utf8))
    }

    // MARK: Times

    private var granule: Int64 {
        switch style.form {
        case .unixSeconds: 1000
        case .unixMilliseconds: 1
        case .rfc3339: style.isStrict ? 1000 : 1
        case .date: 86_400_000
        case .strftime: 60_000
        }
    }

    private func literal(_ time: Int64) -> String {
        let text = Timestamp(milliseconds: time).description
        switch style.form {
        case .unixSeconds: return String(time / 1000)
        case .unixMilliseconds: return String(time)
        case .rfc3339: return "\"\(text)\""
        case .date: return "\"\(text.prefix(10))\""
        case .strftime:
            let parts = text.split { "-T:".contains($0) }
            return "\"\(parts[2])/\(parts[1])/\(parts[0]) \(parts[3])h\(parts[4])\""
        }
    }

    private func bound(_ text: String) -> Int64? {
        let digits = text.split { !$0.isNumber }.compactMap { Int64($0) }
        func time(_ year: Int64, _ month: Int64, _ day: Int64, _ rest: ArraySlice<Int64>) -> Int64 {
            let rest = Array(rest) + [0, 0, 0, 0]
            let days = Timestamp.days(year: year, month: month, day: day)
            return (((days * 24 + rest[0]) * 60 + rest[1]) * 60 + rest[2]) * 1000 + rest[3]
        }
        switch style.form {
        case .unixSeconds: return digits.count == 1 ? digits[0] * 1000 : nil
        case .unixMilliseconds: return digits.count == 1 ? digits[0] : nil
        case .rfc3339: return digits.count >= 6 && text.hasSuffix("Z") ? time(digits[0], digits[1], digits[2], digits[3...]) : nil
        case .date: return digits.count == 3 ? time(digits[0], digits[1], digits[2], []) : nil
        case .strftime: return digits.count == 5 ? time(digits[2], digits[1], digits[0], digits[3...]) : nil
        }
    }
}

extension Int64 {
    fileprivate func floored(_ step: Int64) -> Int64 { self - self % step }
}

/// SplitMix64: the same seed gives the same run.
struct TrapRandom: RandomNumberGenerator, Sendable {
    private var state: UInt64
    init(_ seed: UInt64) { state = seed &* 0x9E37_79B9_7F4A_7C15 }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
        return value ^ (value >> 31)
    }

    mutating func int(_ range: ClosedRange<Int64>) -> Int64 { Int64.random(in: range, using: &self) }
    mutating func chance(_ probability: Double) -> Bool { Double(next() >> 11) / Double(1 << 53) < probability }
}
