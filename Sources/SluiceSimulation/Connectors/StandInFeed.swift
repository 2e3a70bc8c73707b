import SluiceConnectors
import SluiceCore

/// A list at a provider, made from a connector's own description of it: what it holds, what it shows now, and in which
/// order. Places count in the finest unit that the source tells apart: microseconds for times, ones for plain numbers.
struct StandInFeed: Sendable {
    /// One version of one record.
    struct Item: Sendable {
        var id: Int
        /// Counted over all records; what a job is recognised by.
        var version: Int
        var place: Int64
        /// By the provider's clock, in milliseconds.
        var visibleAt: Int64
        /// When a later version takes its place in the list, or the record is deleted.
        var goneAt = Int64.max
        var fault: Fault?
        /// Which of several lists it is in.
        var partition = 0
    }
    /// What may be wrong with one record.
    enum Fault: CaseIterable, Sendable { case noID, noTime, garbledTime }

    /// What may be wrong with what says whether a list has changed (RFC 9110, 8.8).
    enum Validator: CaseIterable, Sendable {
        /// The first page's ETag, whatever the further ones hold.
        case firstPage
        /// A Last-Modified of whole seconds: a second change within one leaves it.
        case wholeSeconds
        /// An ETag that is another one each time.
        case restless
        /// For some hours every condition is answered with 304.
        case lies
    }

    /// What is done to whoever reads.
    struct Mischief: Sendable {
        /// Between two pages a record that was shown already changes, or one is added.
        var shifts = false
        /// How long it takes until the next page is asked for.
        var millisecondsPerPage: Int64 = 0
        /// So many times the record that the next page would go on from is deleted.
        var anchorsDeleted = 0
        /// Page tokens that were given out before this answer are refused from then on.
        var tokensExpireAtAnswer: Int?
        /// Times lack their zone.
        var isZoneless = false
        /// Times at and above this place are written with an offset of one hour, those below it with one of two.
        var zoneChangesAt: Int64?
        /// How answers say whether the list has changed; nil: they do not.
        var validator: Validator?
        /// Times are written, and where nothing else is declared compared, more finely than the mark counts.
        var isFine = false
        /// What is older is gone, in milliseconds.
        var retentionMilliseconds: Int64?
    }

    /// One request for a list and what it got.
    struct Exchange: Sendable {
        var cycle: Int
        var bound: Int64?
        /// Whether it asked for a further page.
        var hasPosition: Bool
        var count: Int
        var hasMore: Bool
        /// The place of the newest record that was visible.
        var newest: Int64?
        var at: Int64
    }

    let rules: Incremental
    let places: StandInPlaces
    /// The provider shows no more records on a page, whatever is asked for; nil: as many as are asked for.
    let pageCap: Int?
    var now: Int64
    var mischief = Mischief()
    var random: SimulationRandom
    private(set) var cycle = 0
    /// So many changes between pages are made in one cycle: nobody could read a list to its end that grows as fast as it is read.
    static let shiftsPerCycleMax = 40
    private var shifts = 0
    /// The smallest number of records that a page of the cycle may have had.
    private(set) var smallestPage = Int.max
    /// When the first page of the listing under way was asked for.
    var listingBeganAt: Int64 = 0
    private(set) var items: [Item] = []
    private(set) var exchanges: [Exchange] = []
    /// The current version of each record, by its id.
    private(set) var latest: [Int: Int] = [:]
    private(set) var deleted: Set<Int> = []
    var answers = 0
    /// Tokens that were given out, with the number of the answer that did.
    var tokens: [String: Int] = [:]
    /// How often the source's ids have begun anew, and from which item on they count now.
    private(set) var life = 1
    private(set) var countedFrom = 0
    var dialect: SimulatedFeed.Dialect?
    /// What came at or below this place is forgotten, but for what holds still: etcd's compaction.
    var compactedAt: Int64 = 0
    /// Of several lists the first one that is asked for holds everything, where nothing names them.
    var partition: String?
    /// The partitions that are listed by now.
    private(set) var partitionIDs = ["p1"]
    private(set) var modifiedAt: Int64

    init(_ rules: Incremental, _ places: StandInPlaces, pageCap: Int?, now: Int64, seed: UInt64) {
        self.rules = rules
        self.places = places
        self.pageCap = pageCap
        self.now = now
        modifiedAt = now
        random = SimulationRandom(seed: seed)
    }

    var isTimed: Bool { rules.cursor?.marksPerSecond != nil }
    /// Whether records change; otherwise each is there once and for ever.
    var isMutable: Bool { !isIdentifiedByCursor && (!rules.dedup.versions.isEmpty || rules.dedup.created != nil) }
    /// Whether the field that orders the list is what tells records apart: no two share it.
    private var isIdentifiedByCursor: Bool { rules.cursor?.field == rules.dedup.id }
    private var isOpaque: Bool { rules.cursor?.kind == .opaque }

    var placesPerSecond: Int64 { max(1_000_000, rules.cursor?.marksPerSecond ?? 1) }

    /// Places in one unit of the mark.
    var placesPerMark: Int64 { rules.cursor?.marksPerSecond.map { placesPerSecond / $0 } ?? 1 }

    /// Places that the source's comparison does not tell apart.
    var granule: Int64 {
        guard let cursor = rules.cursor, cursor.countsMarks else { return 1 }
        if mischief.isFine, !cursor.isExclusive, cursor.granularity == nil { return 1 }
        return cursor.comparedUnits * placesPerMark
    }

    /// The place of this moment, cut to what records tell. Without a time it is a count.
    var placeNow: Int64 {
        if isOpaque { return now }
        guard isTimed else { return Int64(items.count + 1 - countedFrom) }
        let place = now * (placesPerSecond / 1000)
        return mischief.isFine ? place : place - place % placesPerMark
    }

    mutating func begin(cycle number: Int) {
        cycle = number
        (shifts, smallestPage) = (0, Int.max)
    }

    mutating func note(pageSize: Int) { smallestPage = min(smallestPage, pageSize) }

    /// Whether another change between two pages is made.
    mutating func mayShift() -> Bool {
        shifts += 1
        return mischief.shifts && shifts <= StandInFeed.shiftsPerCycleMax
    }

    // MARK: What happens at the provider

    /// A new record, dated and visible now unless told otherwise. Returns its version.
    @discardableResult
    mutating func add(place: Int64? = nil, visibleAt: Int64? = nil, fault: Fault? = nil, partition: Int = 0) -> Int {
        let id = (latest.keys.max() ?? 0) + 1
        return put(
            Item(
                id: id, version: items.count, place: place ?? placeNow, visibleAt: visibleAt ?? now, fault: fault, partition: partition))
    }

    /// Another partition is listed from now on.
    mutating func addPartition() { partitionIDs.append("p\(partitionIDs.count + 1)") }

    /// A record changes. Returns the new version; nil if there is no such record.
    @discardableResult
    mutating func touch(_ id: Int) -> Int? {
        guard let before = latest[id], !deleted.contains(id) else { return nil }
        items[before].goneAt = now
        modifiedAt = now
        // Within one unit of what the source shows, both versions show the same time.
        let place = max(placeNow, items[before].place)
        return put(Item(id: id, version: items.count, place: place, visibleAt: now, partition: items[before].partition))
    }

    mutating func delete(_ id: Int) {
        guard let version = latest[id] else { return }
        items[version].goneAt = now
        modifiedAt = now
        deleted.insert(id)
    }

    /// The source starts again: its list is empty, and its ids begin anew.
    mutating func beginAnew() {
        for index in items.indices { items[index].goneAt = min(items[index].goneAt, now) }
        life += 1
        countedFrom = items.count
        compactedAt = 0
    }

    private mutating func put(_ item: Item) -> Int {
        var item = item
        if isIdentifiedByCursor, isTimed {
            while items.contains(where: { $0.place == item.place }) { item.place += placesPerMark }
        }
        modifiedAt = max(modifiedAt, min(item.visibleAt, now))
        items.append(item)
        latest[item.id] = item.version
        return item.version
    }

    func isListed(_ item: Item) -> Bool {
        if let retention = mischief.retentionMilliseconds, item.place / (placesPerSecond / 1000) < now - retention { return false }
        return item.visibleAt <= now && now < item.goneAt
    }

    /// What the list shows now, in its order, within the bounds.
    func list(above bound: Int64?, upTo upper: Int64? = nil, in partition: Int = 0) -> [Item] {
        let granule = granule
        let isExclusive = rules.cursor?.isExclusive == true || isOpaque
        let phase = (rules.cursor?.phaseUnits ?? 0) * placesPerMark
        let listed = items.filter { item in
            guard isListed(item), item.partition == partition else { return false }
            // What an answer hands out as its position leads to all that shows up afterwards, whatever its date.
            let place = isOpaque ? item.visibleAt : item.place
            if let bound {
                let (own, other) = ((place + phase) / granule, (bound + phase) / granule)
                if isExclusive ? own <= other : own < other { return false }
            }
            if let upper, item.place / placesPerMark > upper / placesPerMark { return false }
            return true
        }
        return listed.sorted { isBefore(StandInFeed.key($0), StandInFeed.key($1)) }
    }

    /// What orders a list: the place, then the version. Without an order the id, stirred, so that it says nothing of time.
    struct Key: Sendable {
        var place: Int64
        var version: Int
        var id: Int
    }

    static func key(_ item: Item) -> Key { Key(place: item.place, version: item.version, id: item.id) }

    func isBefore(_ left: Key, _ right: Key) -> Bool {
        switch rules.cursor?.order {
        case .ascending: (left.place, left.version) < (right.place, right.version)
        case .descending: (left.place, left.version) > (right.place, right.version)
        default: stirred(left.id) < stirred(right.id)
        }
    }

    private func stirred(_ id: Int) -> UInt64 { UInt64(truncatingIfNeeded: id) &* 0x9E37_79B9_7F4A_7C15 }

    mutating func note(_ exchange: Exchange) {
        if exchanges.count < 20_000 { exchanges.append(exchange) }
    }
}

/// The feed behind HTTP.
actor StandIn: HTTPSending {
    private var feed: StandInFeed

    init(_ feed: StandInFeed) { self.feed = feed }

    func send(_ request: HTTPRequestPlan) async throws -> HTTPReply {
        let reply = feed.answer(request)
        // As the polling service does.
        if request.acceptsAnyStatus { return reply }
        switch reply.status {
        case 429: throw PollFailure(.rateLimited, SluiceError(.rateLimited, "the provider limits our requests"))
        case 401, 403: throw PollFailure(.unauthorized, SluiceError(.providerAuth, "the provider refuses the credentials"))
        case 408, 425, 500...599: throw PollFailure(.transient, SluiceError(.providerStatus, "the provider failed"))
        default: return reply
        }
    }

    func change<Result: Sendable>(_ body: @Sendable (inout StandInFeed) -> Result) -> Result { body(&feed) }
}
