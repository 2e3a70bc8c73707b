import SluiceConnectors
import SluiceCore
import Synchronization

/// An API in memory, with a clock of its own and the habits that cursors trip over.
final class FakeProvider: HTTPSending {
    struct Item: Sendable {
        var id: String
        var time: Int64
        /// From when its list shows it.
        var visibleFrom: Int64 = 0
        /// How the record writes its time; the plain number if nil.
        var timeText: String?
    }

    struct State: Sendable {
        var items: [Item] = []
        var nowSeconds: Int64 = 1_700_000_000
        var requests: [HTTPRequestPlan] = []
        /// Called before each answer, with the number of the request from 1.
        var beforeAnswer: (@Sendable (inout State, Int) -> Void)?
        /// Replaces an answer.
        var answer: (@Sendable (State, Int, [String: String]) -> HTTPReply?)?

        mutating func put(_ id: String, _ time: Int64, visibleFrom: Int64 = 0) {
            items.removeAll { $0.id == id }
            items.append(Item(id: id, time: time, visibleFrom: visibleFrom))
        }
    }

    enum Order: Sendable { case ascending, descending, insertion }
    enum Paging: Sendable { case numericOffset, keysetToken, startingAfter, link }

    struct Style: Sendable {
        var filter = "updated_at[after]"
        var isStrict = true
        var order = Order.ascending
        var paging = Paging.numericOffset
        var wrapper: String? = "subscription"
        var list = "list"
        var timeField = "updated_at"
        var sendsDate = true
    }

    let style: Style
    private let state: Mutex<State>

    init(_ style: Style = Style(), _ setup: (inout State) -> Void = { _ in }) {
        self.style = style
        var initial = State()
        setup(&initial)
        state = Mutex(initial)
    }

    func change<Result: Sendable>(_ body: (inout sending State) -> sending Result) -> Result { state.withLock { body(&$0) } }
    var requests: [HTTPRequestPlan] { state.withLock { $0.requests } }
    /// `id@time` of every record that is visible now.
    var versions: Set<String> {
        state.withLock { state in
            Set(state.items.filter { $0.visibleFrom <= state.nowSeconds }.map { "\($0.id)@\($0.timeText ?? String($0.time))" })
        }
    }

    func send(_ request: HTTPRequestPlan) async throws -> HTTPReply {
        state.withLock { state in
            state.requests.append(request)
            let number = state.requests.count
            state.beforeAnswer?(&state, number)
            let query = FakeProvider.query(request.url)
            return state.answer?(state, number, query) ?? reply(page(query, state), state)
        }
    }

    static func query(_ url: String) -> [String: String] {
        guard let mark = url.firstIndex(of: "?") else { return [:] }
        var result: [String: String] = [:]
        for pair in url[url.index(after: mark)...].split(separator: "&") {
            let halves = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(decode)
            result[halves[0]] = halves.count > 1 ? halves[1] : ""
        }
        return result
    }

    private static func decode(_ text: Substring) -> String {
        var output: [UInt8] = []
        var bytes = Array(text.utf8)[...]
        while let byte = bytes.popFirst() {
            if byte == UInt8(ascii: "%"), let value = UInt8(String(decoding: bytes.prefix(2), as: UTF8.self), radix: 16) {
                output.append(value)
                bytes = bytes.dropFirst(2)
            } else {
                output.append(byte)
            }
        }
        return String(decoding: output, as: UTF8.self)
    }

    private struct Page {
        var items: [Item]
        var next: String?
        var hasMore: Bool
    }

    private func page(_ query: [String: String], _ state: State) -> Page {
        let bound = query[style.filter].flatMap { Int64($0) } ?? Int64.min
        let limit = query["limit"].flatMap { Int($0) } ?? 100
        let upper = query["created[lte]"].flatMap { Int64($0) } ?? Int64.max
        var items = state.items.filter {
            $0.visibleFrom <= state.nowSeconds && (style.isStrict ? $0.time > bound : $0.time >= bound) && $0.time <= upper
        }
        switch style.order {
        case .ascending: items.sort { ($0.time, $0.id) < ($1.time, $1.id) }
        case .descending: items.sort { ($0.time, $0.id) > ($1.time, $1.id) }
        case .insertion: break
        }
        var first = 0
        switch style.paging {
        case .numericOffset, .link: first = query["offset"].flatMap { Int($0) } ?? 0
        case .keysetToken:
            if let token = query["offset"]?.split(separator: ",").map(String.init) {
                let (time, id) = (Int64(token[0])!, token[1])
                first =
                    items.firstIndex { style.order == .descending ? ($0.time, $0.id) < (time, id) : ($0.time, $0.id) > (time, id) }
                    ?? items.count
            }
        case .startingAfter:
            // As localstripe does it: an unknown id begins anew, silently.
            if let id = query["starting_after"], let index = items.firstIndex(where: { $0.id == id }) { first = index + 1 }
        }
        let shown = Array(items.dropFirst(first).prefix(limit))
        let hasMore = first + shown.count < items.count
        let next = style.paging == .keysetToken ? shown.last.map { "\($0.time),\($0.id)" } : String(first + shown.count)
        return Page(items: shown, next: hasMore ? next : nil, hasMore: hasMore)
    }

    private func reply(_ page: Page, _ state: State) -> HTTPReply {
        let records = page.items.map { item in
            let record =
                #"{"id":"\#(item.id)","\#(style.timeField)":\#(item.timeText.map { "\"\($0)\"" } ?? String(item.time)),"plan":"x"}"#
            return style.wrapper.map { "{\"\($0)\":\(record),\"customer\":{\"id\":\"c\"}}" } ?? record
        }.joined(separator: ",")
        var body = "{\"\(style.list)\":[\(records)]"
        if style.paging == .startingAfter { body += ",\"has_more\":\(page.hasMore)" }
        var headers: [HTTPField] = []
        if let next = page.next, style.paging == .link {
            headers.append(HTTPField("Link", #"<https://api.test/first>; rel="first", <?offset=\#(next)&limit=2>; rel="next""#))
        } else if let next = page.next, style.paging != .startingAfter {
            body += ",\"next_offset\":\"\(next)\""
        }
        if style.sendsDate { headers.append(FakeProvider.date(state.nowSeconds)) }
        return HTTPReply(status: 200, headers: headers, body: Array((body + "}").utf8))
    }

    /// A Date header (RFC 9110, 5.6.7).
    static func date(_ seconds: Int64) -> HTTPField {
        let text = Timestamp(seconds: seconds).description
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
        let parts = text.split { "-T.".contains($0) }
        return HTTPField("Date", "Thu, \(parts[2]) \(months[Int(parts[1])! - 1]) \(parts[0]) \(parts[3]) GMT")
    }
}

/// What the polling service does with pages: commit keys, jobs and cursor together, begin again where a page state expired.
struct Follower {
    var connection = #"{"site_url":"https://api.test","api_key":"key_1"}"#
    var input = #"{"resource":"subscription"}"#
    var triggerType = "updated_record"
    var nowSeconds: Int64 = 1_700_000_000
    var cursor: [UInt8]?
    var pageState: [UInt8]?
    private(set) var jobs: [String] = []
    private(set) var known: Set<String> = []
    private(set) var warnings: [String] = []
    private(set) var cursors: [String] = []

    let read: (PollRequest) async throws -> PollPage
    let keys: ([Record]) throws -> [Result<[UInt8], SluiceError>]

    init(_ incremental: Incremental, _ http: any HTTPSending) {
        read = { try await incremental.run($0, http: http) }
        keys = { incremental.dedupKeys(records: $0) }
    }

    init(_ connector: any Connector, _ http: any HTTPSending) {
        read = { try await connector.poll($0, http: http) }
        keys = { try connector.dedupKeys(triggerType: "updated_record", records: $0) }
    }

    var cursorText: String? { cursor.map { String(decoding: $0, as: UTF8.self) } }
    var mark: Int64? { cursor.flatMap { try? JSONDocument($0).root["mark"]?.int64 } }

    func request() throws -> PollRequest {
        PollRequest(
            triggerType: triggerType, connection: try JSONDocument(Array(connection.utf8)), input: try JSONDocument(Array(input.utf8)),
            cursor: cursor, pageState: pageState, readBound: Timestamp(seconds: nowSeconds))
    }

    /// Reads pages until there is no more, or `pagesMax` of them, as if the process died then.
    mutating func cycle(pagesMax: Int = 500) async throws {
        for _ in 0..<pagesMax {
            let page: PollPage
            do {
                page = try await read(try request())
            } catch let failure as PollFailure where failure.kind == .pageStateExpired && pageState != nil {
                pageState = nil
                continue
            }
            for key in try page.keys ?? keys(page.records) {
                let text = String(decoding: try key.get(), as: UTF8.self)
                if known.insert(text).inserted { jobs.append(text) }
            }
            warnings += page.warnings
            if let cursor = page.cursor {
                self.cursor = cursor
                cursors.append(String(decoding: cursor, as: UTF8.self))
            }
            pageState = page.pageState
            if !page.more { return }
        }
    }
}

/// The rules of the connectors in connectors/, as the Lua host hands them over.
enum Rules {
    static let chargebee = #"""
        {"base_url":"{connection.site_url}","path":"/api/v2/{input.resource}s",
         "auth":{"basic":{"user":"{connection.api_key}","password":""}},"query":{"sort_by[asc]":"updated_at"},
         "records":"list","unwrap":"{input.resource}",
         "cursor":{"field":"updated_at","parameter":"updated_at[after]","type":"unix_seconds","exclusive":true,"order":"asc",
                   "lookback_seconds":60,"visibility_lag_seconds":5},
         "since":"{input.since}","default_since_seconds_ago":3600,
         "pagination":{"token":{"from":"next_offset","parameter":"offset","restart_from_mark":true}},
         "page_size":{"parameter":"limit","value":100},"dedup":{"id":"id","version":"updated_at"}}
        """#
    static let stripe = #"""
        {"base_url":"{connection.base_url|https://api.stripe.com}","path":"/v1/events","auth":{"bearer":"{connection.api_key}"},
         "query":{"type":"{input.type}"},"records":"data",
         "cursor":{"field":"created","parameter":"created[gte]","upper_parameter":"created[lte]","type":"unix_seconds",
                   "order":"none","lookback_seconds":60},
         "since":"{input.since}","default_since_seconds_ago":3600,
         "pagination":{"keyset":{"from":"id","parameter":"starting_after","has_more":"has_more"}},
         "page_size":{"parameter":"limit","value":100},"dedup":{"id":"id"},"retention_seconds":2592000}
        """#

    static func incremental(_ json: String, _ change: (inout Incremental) -> Void = { _ in }) throws -> Incremental {
        var rules = try Incremental(json: JSONDocument(Array(json.utf8)))
        change(&rules)
        return rules
    }

    /// Chargebee's rules without lookback and lag, so that a test shows one trap at a time.
    static func bare(pageSize: Int = 2, _ change: (inout Incremental) -> Void = { _ in }) throws -> Incremental {
        try incremental(chargebee) {
            $0.cursor?.lookback = 0
            $0.cursor?.visibilityLag = .zero
            $0.pageSize?.value = pageSize
            change(&$0)
        }
    }
}

/// The failure that a poll stops with.
func failure(_ body: () async throws -> Void) async -> PollFailure? {
    do {
        try await body()
        return nil
    } catch {
        return error as? PollFailure
    }
}
