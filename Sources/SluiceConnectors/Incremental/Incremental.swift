import SluiceCore

/// A poll described as data: where records are listed, which field orders them, how pages go on, and what tells one
/// record from another. Sluice runs it and minds the traps of cursors, so that a connector need not.
///
/// The same value serves Lua (`incremental = {…}`, turned into JSON) and Swift. It is pure: `IncrementalPoll` says which
/// request comes next and reads the answer, and its only state is the cursor and the page state of a `PollRequest`.
public struct Incremental: Sendable {
    /// GET, or POST with its parameters in the query.
    public var method = "GET"
    /// The start of the URL, for example `{connection.site_url}`: its values stand as they are.
    public var baseURL: Template
    /// What follows, for example `/api/v2/{input.resource}s`: its values are percent-encoded.
    public var path: Template
    /// Further parameters. One whose value is a single placeholder without a value is left out.
    public var query: [NamedTemplate] = []
    public var headers: [NamedTemplate] = []
    public var authentication = Authentication.none
    /// Where in the answer the array of records stands; empty if the answer is the array.
    public var records: JSONPath
    /// A key inside each element that holds the record proper, for example `{input.resource}`.
    public var unwrap: Template?
    /// Nil: the feed has no order and is read whole each time.
    public var cursor: CursorRule?
    /// Where the very first poll begins, if the input says so: a time or number as the cursor's type writes it.
    public var since: Template?
    /// Where it begins otherwise, counted from the server's Date at the first poll and kept from then on. Nil: everything.
    public var defaultSinceSecondsAgo: Int64?
    public var pagination = Pagination.none
    public var pageSize: PageSize?
    public var dedup: DedupRule
    /// How long the source keeps what it lists; a cursor older than that raises a warning. Nil: for ever.
    public var retention: Span?
    /// What becomes of requests and records besides.
    public var shape = Shape()

    public init(baseURL: Template, path: Template, records: JSONPath, dedup: DedupRule) {
        self.baseURL = baseURL
        self.path = path
        self.records = records
        self.dedup = dedup
    }

    /// A parameter or header.
    public struct NamedTemplate: Sendable {
        public var name: String
        public var value: Template
        public init(_ name: String, _ value: Template) {
            self.name = name
            self.value = value
        }
    }

    /// How a request shows who asks.
    public enum Authentication: Sendable {
        case none
        /// RFC 7617.
        case basic(user: Template, password: Template)
        /// RFC 6750.
        case bearer(Template)
        /// A header of its own, such as X-API-Key.
        case header(name: String, value: Template)
        /// A parameter of the query; next URLs are stored without it.
        case query(name: String, value: Template)
    }

    /// How the pages of one answer follow each other.
    public enum Pagination: Sendable {
        case none
        /// The answer holds a token at `from`, sent back as `parameter`; none on the last page. With `restartsFromMark`, an
        /// ascending feed goes on from the last record's mark instead, and the token serves only within one mark: tokens that
        /// are offsets skip records when others leave the pages before them.
        case token(from: JSONPath, parameter: String, restartsFromMark: Bool = false)
        /// A Link header with rel=next (RFC 8288), on the same host.
        case link
        /// The last record's id, at `from` inside it, is sent as `parameter`. There is more while `hasMore` is true in the
        /// answer, or, without that path, while a page is full.
        case keyset(from: JSONPath, parameter: String, hasMore: JSONPath?)
    }

    public struct PageSize: Sendable {
        public var parameter: String
        public var value: Int
        public init(parameter: String, value: Int) {
            self.parameter = parameter
            self.value = value
        }
    }

    /// Identity and version of a record.
    public struct DedupRule: Sendable {
        public var id: JSONPath
        /// What changes whenever the record does. Without any, a record counts once for ever.
        public var versions: [JSONPath]
        public init(id: JSONPath, versions: [JSONPath]) {
            self.id = id
            self.versions = versions
        }
    }

    /// For `TriggerTypeDefinition.visibilityLag`.
    public var visibilityLag: Span { variantsOrSelf.map { $0.cursor?.visibilityLag ?? .zero }.max() ?? .zero }
    /// For `TriggerTypeDefinition.lookback`: how far below the committed mark a poll may read, in the cursor's unit.
    public var lookback: Int64 { variantsOrSelf.map { $0.cursor?.rereadUnits ?? 0 }.max() ?? 0 }

    private var variantsOrSelf: [Incremental] { shape.variants.map { Array($0.rules.values) } ?? [self] }

    /// Reads one page: what comes next, over `http`, and what it means.
    public func run(_ request: PollRequest, http: any HTTPSending) async throws -> PollPage {
        if let variants = shape.variants {
            let chosen = try variants.rules(for: request)
            var page = try await chosen.run(request, http: http)
            page.keys = page.keys ?? chosen.dedupKeys(records: page.records)
            return page
        }
        if shape.isPlain { return try await page(request, http) }
        return try await ShapedPoll(self).run(request, http: http) { try await page($0, $1) }
    }

    private func page(_ request: PollRequest, _ http: any HTTPSending) async throws -> PollPage {
        let poll = IncrementalPoll(self)
        let reply = try await http.send(try poll.nextRequest(request))
        return try poll.page(from: reply, for: request)
    }
}

/// The field that orders a feed, and how the API compares with it.
public struct CursorRule: Sendable {
    /// How the field is written. Marks count in seconds for `unixSeconds`, in milliseconds for the other two times.
    public enum Kind: String, Sendable, CaseIterable {
        case unixSeconds = "unix_seconds"
        case unixMilliseconds = "unix_milliseconds"
        case rfc3339
        /// A number that is no time: no clock caps it.
        case integer
    }
    /// The order in which the source lists. Only `ascending` lets the mark move page by page; a feed that claims it and
    /// breaks it is treated as unordered from there on.
    public enum Order: String, Sendable, CaseIterable { case ascending = "asc", descending = "desc", none }

    /// Where the field stands in a record.
    public var field: JSONPath
    /// The parameter that bounds the list from below; nil if there is none (a descending feed is then read back to the mark).
    public var parameter: String?
    public var kind: Kind
    /// Whether the API lists only what lies strictly after the parameter.
    public var isExclusive = false
    /// How finely the API compares, in units of the mark. Nil: one unit, or a whole second for an exclusive RFC 3339 time.
    public var granularity: Int64?
    /// How far below the mark each cycle reads again, in units of the mark, for records that become visible late.
    public var lookback: Int64 = 0
    public var order = Order.none
    /// How long a change may stay invisible: the mark stays this far behind the server's clock.
    public var visibilityLag = Span.zero
    /// A parameter that bounds the list from above, inclusively: frozen at the server's time of a cycle's first page and sent
    /// with its further pages, where those are found by keyset.
    public var upperParameter: String?
    /// The API wants that bound with each request, the first page's as well. It then holds for the whole cycle.
    public var isUpperAlwaysSent = false
    /// Times without a zone are UTC. Unless this is declared they are refused.
    public var assumesUTC = false
    /// How far below the mark to query, instead of as far as the rules above need. Zero shows what they are for.
    public var overlap: Int64?

    public init(field: JSONPath, parameter: String?, kind: Kind) {
        self.field = field
        self.parameter = parameter
        self.kind = kind
    }
}
