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
    /// For links and URLs of the next page: as `TokenPages.restartsFromMark`. Nil: wherever the order and a bound from below allow it.
    public var linksRestartFromMark: Bool?
    /// A cycle of more pages fails: the source never ends.
    public var pagesMax = Incremental.pagesMaxDefault
    /// Further statuses that say that a page token has expired, besides 400, 404 and 410.
    public var expiredStatuses: [Int] = []
    public var dedup: DedupRule
    /// Nil: the description reads one list.
    public var partitions: Partitions?
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

    /// Identity and version of a record.
    public struct DedupRule: Sendable {
        public var id: JSONPath
        /// What changes whenever the record does. Without any, a record counts once for ever.
        public var versions: [JSONPath]
        /// Only new records are wanted, from a list of changed ones: where the time of a record's creation stands, written as the
        /// cursor's field is. What was created before the trigger began is left out.
        public var created: JSONPath?
        /// Records of different partitions with the same key are the same one.
        public var isGlobal = false
        public init(id: JSONPath, versions: [JSONPath]) {
            self.id = id
            self.versions = versions
        }
    }

    /// For `TriggerTypeDefinition.visibilityLag`.
    public var visibilityLag: Span { variantsOrSelf.map { $0.cursor?.visibilityLag ?? .zero }.max() ?? .zero }
    /// For `TriggerTypeDefinition.lookback`: how far below the committed mark a poll may read, in the cursor's unit.
    public var lookback: Int64 { variantsOrSelf.map { $0.cursor?.rereadUnits ?? 0 }.max() ?? 0 }

    /// The rules of each variant, or these.
    var variantsOrSelf: [Incremental] { shape.variants.map { Array($0.rules.values) } ?? [self] }

    /// Reads one page: what comes next, over `http`, and what it means.
    public func run(_ request: PollRequest, http: any HTTPSending) async throws -> PollPage {
        if let variants = shape.variants {
            let chosen = try variants.rules(for: request)
            var page = try await chosen.run(request, http: http)
            page.keys = page.keys ?? chosen.dedupKeys(records: page.records)
            return page
        }
        guard let partitions else { return try await readShaped(request, from: nil, http: http) }
        // The list of partitions is signed as well; a page is signed again, to the same effect.
        let signed = shape.signing.map { SigningHTTP(inner: http, signing: $0, request: request) as any HTTPSending } ?? http
        return try await PartitionedPoll(rules: self, partitions: partitions).run(request, http: signed) { request, origin, http in
            try await readShaped(request, from: origin, http: http)
        }
    }

    private func readShaped(_ request: PollRequest, from origin: CursorValue?, http: any HTTPSending) async throws -> PollPage {
        if shape.isPlain, cursor?.isUpperAlwaysSent != true { return try await read(request, from: origin, http: http) }
        return try await ShapedPoll(self).run(request, http: http) { try await read($0, from: origin, http: $1) }
    }

    /// A page of one list; without a cursor it begins at `origin`, or where the description says.
    private func read(_ request: PollRequest, from origin: CursorValue?, http: any HTTPSending) async throws -> PollPage {
        var poll = IncrementalPoll(self)
        poll.origin = origin
        let reply = try await http.send(try poll.nextRequest(request))
        return try poll.page(from: reply, for: request)
    }
}
