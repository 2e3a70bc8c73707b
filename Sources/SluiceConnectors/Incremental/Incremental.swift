import SluiceCore
import Synchronization

/// A poll described as data: where records are listed, which field orders them, how pages go on, and what tells one
/// record from another. Sluice runs it and minds the traps of cursors, so that a connector need not.
///
/// The same value serves Lua (`incremental = {…}`, turned into JSON) and Swift. It is pure: `IncrementalPoll` says which
/// request comes next and reads the answer, and its only state is the cursor and the page state of a `PollRequest`.
public struct Incremental: Sendable {
    /// GET, or POST with its parameters in the query.
    public var method: String {
        get { storage.rules.method }
        set { change { $0.method = newValue } }
    }
    /// The start of the URL, for example `{connection.site_url}`: its values stand as they are.
    public var baseURL: Template {
        get { storage.rules.baseURL }
        set { change { $0.baseURL = newValue } }
    }
    /// What follows, for example `/api/v2/{input.resource}s`: its values are percent-encoded.
    public var path: Template {
        get { storage.rules.path }
        set { change { $0.path = newValue } }
    }
    /// Further parameters. One whose value is a single placeholder without a value is left out.
    public var query: [NamedTemplate] {
        get { storage.rules.query }
        set { change { $0.query = newValue } }
    }
    public var headers: [NamedTemplate] {
        get { storage.rules.headers }
        set { change { $0.headers = newValue } }
    }
    public var authentication: Authentication {
        get { storage.rules.authentication }
        set { change { $0.authentication = newValue } }
    }
    /// Where in the answer the array of records stands; empty if the answer is the array.
    public var records: JSONPath {
        get { storage.rules.records }
        set { change { $0.records = newValue } }
    }
    /// A key inside each element that holds the record proper, for example `{input.resource}`.
    public var unwrap: Template? {
        get { storage.rules.unwrap }
        set { change { $0.unwrap = newValue } }
    }
    /// Nil: the feed has no order and is read whole each time.
    public var cursor: CursorRule? {
        get { storage.rules.cursor }
        set { change { $0.cursor = newValue } }
    }
    /// Where the very first poll begins, if the input says so: a time or number as the cursor's type writes it.
    public var since: Template? {
        get { storage.rules.since }
        set { change { $0.since = newValue } }
    }
    /// Where it begins otherwise, counted from the server's Date at the first poll and kept from then on. Nil: everything.
    public var defaultSinceSecondsAgo: Int64? {
        get { storage.rules.defaultSinceSecondsAgo }
        set { change { $0.defaultSinceSecondsAgo = newValue } }
    }
    public var pagination: Pagination {
        get { storage.rules.pagination }
        set { change { $0.pagination = newValue } }
    }
    public var pageSize: PageSize? {
        get { storage.rules.pageSize }
        set { change { $0.pageSize = newValue } }
    }
    /// For links and URLs of the next page: as `TokenPages.restartsFromMark`. Nil: wherever the order and a bound from below allow it.
    public var linksRestartFromMark: Bool? {
        get { storage.rules.linksRestartFromMark }
        set { change { $0.linksRestartFromMark = newValue } }
    }
    /// A cycle of more pages fails: the source never ends.
    public var pagesMax: Int64 {
        get { storage.rules.pagesMax }
        set { change { $0.pagesMax = newValue } }
    }
    /// Further statuses that say that a page token has expired, besides 400, 404 and 410.
    public var expiredStatuses: [Int] {
        get { storage.rules.expiredStatuses }
        set { change { $0.expiredStatuses = newValue } }
    }
    /// Errors that come with status 200; nil: there are none.
    public var answerErrors: AnswerErrors? {
        get { storage.rules.answerErrors }
        set { change { $0.answerErrors = newValue } }
    }
    public var dedup: DedupRule {
        get { storage.rules.dedup }
        set { change { $0.dedup = newValue } }
    }
    /// How much further than its mark a record's dedup key is kept, in the mark's unit. Of records that count once for ever each change
    /// comes again: their keys are kept for a year after the last one.
    public var keysKeptLonger: Int64 { dedup.created == nil ? 0 : 365 * 86_400 * (cursor?.unitsPerSecond ?? 0) }
    /// Nil: the description reads one list.
    public var partitions: Partitions? {
        get { storage.rules.partitions }
        set { change { $0.partitions = newValue } }
    }
    /// How long the source keeps what it lists; a cursor older than that raises a warning. Nil: for ever.
    public var retention: Span? {
        get { storage.rules.retention }
        set { change { $0.retention = newValue } }
    }
    /// What becomes of requests and records besides.
    public var shape: Shape {
        get { storage.rules.shape }
        set { change { $0.shape = newValue } }
    }

    public init(baseURL: Template, path: Template, records: JSONPath, dedup: DedupRule) {
        storage = Storage(Rules(baseURL: baseURL, path: path, records: records, dedup: dedup))
    }

    /// Behind one reference, since whoever waits for an answer holds the description meanwhile, and ten thousand may wait.
    private final class Storage: Sendable {
        let rules: Rules
        let exact = Mutex<Incremental?>(nil)
        init(_ rules: Rules) { self.rules = rules }
    }

    private struct Rules: Sendable {
        var method: String = "GET"
        var baseURL: Template
        var path: Template
        var query: [NamedTemplate] = []
        var headers: [NamedTemplate] = []
        var authentication: Authentication = Authentication.none
        var records: JSONPath
        var unwrap: Template?
        var cursor: CursorRule?
        var since: Template?
        var defaultSinceSecondsAgo: Int64?
        var pagination: Pagination = Pagination.none
        var pageSize: PageSize?
        var linksRestartFromMark: Bool?
        var pagesMax: Int64 = Incremental.pagesMaxDefault
        var expiredStatuses: [Int] = []
        var answerErrors: AnswerErrors?
        var dedup: DedupRule
        var partitions: Partitions?
        var retention: Span?
        var shape: Shape = Shape()
    }

    private var storage: Storage

    private mutating func change(_ body: (inout Rules) -> Void) {
        var rules = storage.rules
        body(&rules)
        storage = Storage(rules)
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

    /// For `TriggerTypeDefinition.visibilityLag`: as `CursorRule.signalLag` says.
    public var visibilityLag: Span { variantsOrSelf.map { $0.cursor?.signalLag ?? .zero }.max() ?? .zero }
    /// For `TriggerTypeDefinition.lookback`: how far below the committed mark a poll may read, in the cursor's unit.
    public var lookback: Int64 { variantsOrSelf.map { $0.cursor?.rereadUnits ?? 0 }.max() ?? 0 }

    /// The same feed, asked for exactly what comes after the cursor: for who waits for news, and read everything before. Made once,
    /// however many wait.
    var exactlyAfterCursor: Incremental {
        guard let cursor, cursor.lookback != 0 || cursor.isExclusive && cursor.overlap != 0 else { return self }
        return storage.exact.withLock { known in
            if let known { return known }
            var rules = self
            if cursor.isExclusive { rules.cursor?.overlap = 0 }
            rules.cursor?.lookback = 0
            known = rules
            return rules
        }
    }

    /// Whether its requests ask for an order: by a parameter's name, or by what stands in a parameter, the path or the body.
    public var asksForOrder: Bool {
        if query.contains(where: { Incremental.says($0.name, ["sort", "order", "direction", "asc"]) }) { return true }
        let texts = query.map(\.value.literal) + [path.literal, shape.body?.literal ?? ""]
        return texts.contains { Incremental.says($0, ["sort", "order by", "order_by", "orderby", "ordering", "ascending"]) }
    }

    private static func says(_ text: String, _ words: [String]) -> Bool {
        let text = text.lowercased()
        return words.contains { text.contains($0) }
    }

    /// The rules of each variant, or these.
    public var variantsOrSelf: [Incremental] { shape.variants.map { Array($0.rules.values) } ?? [self] }

    /// Reads one page: what comes next, over `http`, and what it means.
    public func run(_ request: PollRequest, http: any HTTPSending) async throws -> PollPage {
        // Each way is a function of its own, so that what waits for an answer holds no more than its way needs.
        if shape.variants != nil { return try await runVariant(request, http) }
        if partitions != nil { return try await runPartitions(request, http) }
        if isReadPlainly { return try await read(request, from: nil, http: http) }
        return try await readShaped(request, from: nil, http: http)
    }

    private var isReadPlainly: Bool { shape.isPlain && cursor?.isUpperAlwaysSent != true }

    @inline(never)
    private func runVariant(_ request: PollRequest, _ http: any HTTPSending) async throws -> PollPage {
        guard let chosen = try shape.variants?.rules(for: request) else { return try await readShaped(request, from: nil, http: http) }
        var page = try await chosen.run(request, http: http)
        // Whoever has the record alone does not know which variant made its key.
        page.keyPrefix = nil
        if page.keys == nil {
            page.keys = chosen.dedupKeys(records: page.records)
            page.formerKeys = Incremental.formerKeys(page.records, request)
        }
        return page
    }

    @inline(never)
    private func runPartitions(_ request: PollRequest, _ http: any HTTPSending) async throws -> PollPage {
        // The list of partitions is signed as well; a page is signed again, to the same effect.
        let signed = shape.signing.map { SigningHTTP(inner: http, signing: $0, request: request) as any HTTPSending } ?? http
        return try await PartitionedPoll(rules: self).run(request, http: signed) { request, origin, http in
            try await readShaped(request, from: origin, http: http)
        }
    }

    @inline(never)
    private func readShaped(_ request: PollRequest, from origin: CursorValue?, http: any HTTPSending) async throws -> PollPage {
        if isReadPlainly { return try await read(request, from: origin, http: http) }
        return try await ShapedPoll(self).run(request, http: http) { try await read($0, from: origin, http: $1) }
    }

    /// A page of one list; without a cursor it begins at `origin`, or where the description says.
    @inline(never)
    private func read(_ request: PollRequest, from origin: CursorValue?, http: any HTTPSending) async throws -> PollPage {
        var poll = IncrementalPoll(self)
        poll.origin = origin
        let reply = try await http.send(try poll.nextRequest(request))
        return try poll.page(from: reply, for: request)
    }
}
