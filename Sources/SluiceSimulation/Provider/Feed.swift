import SluiceConnectors
import SluiceCore

/// The kinds of lists that the simulated providers have, each with the traps of a real one.
enum FeedKind: CaseIterable {
    /// Chargebee: seconds, `after` is exclusive, ascending, pages by offset: when a record moves, the others shift.
    case offsets
    /// Seconds, exclusive, ascending, pages by a token that names a place.
    case places
    /// Milliseconds, inclusive, ascending, pages by offset.
    case fineOffsets
    /// RFC 3339 with milliseconds, compared by whole seconds, exclusive, ascending, pages by offset.
    case textTimes
    /// Seconds, inclusive, listed by id.
    case unordered
    /// Stripe's events: nothing is ever changed, newest first, pages by keyset.
    case descending
    /// No order and no bound: read whole each time.
    case whole

    var isMutable: Bool { self != .descending }
    var hasCursor: Bool { self != .whole }
    var isAscending: Bool { self == .offsets || self == .places || self == .fineOffsets || self == .textTimes }
    /// Pages by offset; a bound, not the offset, carries a poll from page to page.
    var pagesByOffset: Bool { self == .offsets || self == .fineOffsets || self == .textTimes }
    var isExclusive: Bool { self == .offsets || self == .places || self == .textTimes }
    /// Milliseconds that the provider's comparison does not tell apart.
    var granuleMilliseconds: Int64 { self == .fineOffsets ? 1 : 1000 }
    func granule(_ milliseconds: Int64) -> Int64 { milliseconds / granuleMilliseconds }
}

/// One kind of list with its sizes, and the rules that a connector gives Sluice for it.
struct Feed {
    var kind: FeedKind
    var pageSize: Int
    /// Kept by the provider.
    var visibilityLag: Span
    var lookbackSeconds: Int64
    /// The connector says what the lag is. Where only a lookback is declared, the provider lags as long as Sluice supposes.
    var isLagDeclared: Bool
    /// The provider also lists the records of each partition by themselves, and which partitions there are.
    var partitioning: Partitioning
    /// Only what is new since a time is wanted; otherwise everything there is.
    var hasBeginning = true

    enum Partitioning {
        case none
        /// From the beginning on.
        case first
        /// The connector is changed to read them one by one.
        case later
    }

    init(kind: FeedKind, pageSize: Int, visibilityLag: Span, lookbackSeconds: Int64, partitioning: Partitioning = .none) {
        self.partitioning = partitioning
        (self.kind, self.pageSize, self.lookbackSeconds) = (kind, pageSize, lookbackSeconds)
        isLagDeclared = visibilityLag > .zero || lookbackSeconds == 0 || !kind.hasCursor
        self.visibilityLag = isLagDeclared ? visibilityLag : min(.seconds(lookbackSeconds), CursorRule.signalLagDefaultMax)
    }

    /// Records that may share a granule: more than fit on a page could not be read by offsets while they shift.
    var groupMax: Int { kind.pagesByOffset ? pageSize - 1 : Int.max }

    /// The real description that a poll runs on.
    func incremental(_ description: Description, overlap: Int64?, since: Int64) -> Incremental {
        var rules = Incremental(
            baseURL: "http://provider.invalid", path: "/{input.resource}", records: JSONPath(["list"]),
            dedup: Incremental.DedupRule(id: JSONPath(["id"]), versions: description.dedup.versions))
        rules.pageSize = Incremental.PageSize(parameter: "limit", value: pageSize)
        if description.isPartitioned { rules.partition() }
        switch kind {
        case .descending: rules.pagination = .keyset(from: JSONPath(["id"]), parameter: "after_id", hasMore: JSONPath(["has_more"]))
        default: rules.pagination = .token(from: JSONPath(["next"]), parameter: "offset", restartsFromMark: kind.pagesByOffset)
        }
        guard kind.hasCursor else { return rules }
        var cursor = CursorRule(field: JSONPath(["updated_at"]), parameter: kind.isExclusive ? "after" : "from", kind: cursorKind)
        cursor.isExclusive = kind.isExclusive
        cursor.order = kind.isAscending ? .ascending : kind == .descending ? .descending : .none
        if isLagDeclared { cursor.visibilityLag = visibilityLag }
        cursor.lookback = description.lookbackSeconds * (cursorKind == .unixSeconds ? 1 : 1000)
        cursor.overlap = overlap
        rules.cursor = cursor
        if hasBeginning { rules.since = "{input.since}" }
        return rules
    }

    private var cursorKind: CursorRule.Kind {
        switch kind {
        case .fineOffsets: .unixMilliseconds
        case .textTimes: .rfc3339
        default: .unixSeconds
        }
    }

    /// The field as the provider writes it.
    func literal(_ milliseconds: Int64) -> String {
        switch kind {
        case .fineOffsets: String(milliseconds)
        case .textTimes: "\"\(Timestamp(milliseconds: milliseconds))\""
        default: String(milliseconds / 1000)
        }
    }

    /// Whether a list with this bound, in the provider's milliseconds, holds a record of that time.
    func lists(_ updatedAt: Int64, above bound: Int64?) -> Bool {
        guard let bound else { return true }
        let granule = kind.granuleMilliseconds
        return kind.isExclusive ? updatedAt / granule > bound / granule : updatedAt / granule >= bound / granule
    }

    /// A bound as it stands in a request, in milliseconds.
    func bound(_ text: String) -> Int64? {
        switch kind {
        case .fineOffsets: return Int64(text)
        case .textTimes: return Feed.rfc3339(text)
        default: return Int64(text).map { $0 * 1000 }
        }
    }

    /// Reads what Sluice writes: UTC with Z, milliseconds or none.
    private static func rfc3339(_ text: String) -> Int64? {
        let digits = text.split { !$0.isNumber }.map { Int64($0) ?? 0 }
        guard digits.count == 6 || digits.count == 7, text.hasSuffix("Z") else { return nil }
        let days = Timestamp.days(year: digits[0], month: digits[1], day: digits[2])
        let seconds = days * 86_400 + digits[3] * 3600 + digits[4] * 60 + digits[5]
        return seconds * 1000 + (digits.count == 7 ? digits[6] : 0)
    }
}

extension Incremental {
    /// Reads each partition by itself.
    fileprivate mutating func partition() {
        path = "/{input.resource}/{partition}"
        var list = PartitionList(path: "/partitions", records: JSONPath(["list"]))
        list.pageSize = PageSize(parameter: "limit", value: 2)
        list.pagination = .token(from: JSONPath(["next"]), parameter: "offset", restartsFromMark: false)
        var partitions = Partitions(source: .list(list), id: JSONPath(["id"]))
        partitions.keepRemoved = ProviderModel.keepRemoved
        self.partitions = partitions
    }
}
