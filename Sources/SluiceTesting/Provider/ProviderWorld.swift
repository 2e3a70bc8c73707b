import SluiceCore

/// One change of one record at the provider: what the change log tells and what the API serves once it is visible.
public struct ProviderChange: Sendable {
    public enum Kind: String, Sendable { case created, updated, deleted }

    /// Its number in the change log, from 1.
    public var sequence: Int
    public var resource: String
    public var id: String
    public var kind: Kind
    /// When it was made. `updated_at` is this in whole seconds, `resource_version` in milliseconds.
    public var madeAt: Timestamp
    /// From when the API shows it: never before `madeAt`, never before the same record's earlier version.
    public var visibleAt: Timestamp
    /// The record exactly as the API serves it.
    public var record: [UInt8]

    public var updatedAtSeconds: Int64 { madeAt.seconds }
    /// `id@updated_at`: unique, because a record is never changed twice within one second.
    public var key: String { "\(id)@\(updatedAtSeconds)" }
}

/// What a stand-in provider holds: records of several resources, their changes, and what its API shows at a given time.
///
/// Pure: time and randomness are passed in, and time must not run backwards. As in Chargebee, a list holds each record
/// once, in its newest visible version, ordered by `updated_at`; so an update moves a record to the end, and a change
/// that becomes visible late appears *behind* a reader that already went past its second.
///
/// An update is made only to a record whose last change lies in an earlier second, so that `id@updated_at` names one
/// version; a version that was replaced before a poll saw it is no loss (`DeliveryChecker` says what is).
public struct ProviderWorld: Sendable {
    public struct Settings: Sendable {
        public var resources: [String]
        /// Share of changes that update an older record instead of creating one.
        public var updateShare: Double
        /// Share of changes that delete an older record. A deleted record is listed only with `include_deleted=true`.
        public var deleteShare: Double
        /// Share of changes that become visible late, by up to `visibilityLagMax`.
        public var lagShare: Double
        public var visibilityLagMax: Span

        public init(
            resources: [String] = ["subscription", "customer", "invoice"], updateShare: Double = 0.2, deleteShare: Double = 0,
            lagShare: Double = 0.3, visibilityLagMax: Span = .seconds(3)
        ) {
            self.resources = resources
            self.updateShare = updateShare
            self.deleteShare = deleteShare
            self.lagShare = lagShare
            self.visibilityLagMax = visibilityLagMax
        }
    }

    /// A record's place in its resource's list.
    struct Place: Comparable, Sendable {
        var updatedAtSeconds: Int64
        var number: Int
        static func < (left: Place, right: Place) -> Bool {
            (left.updatedAtSeconds, left.number) < (right.updatedAtSeconds, right.number)
        }
    }

    private struct Item: Sendable {
        var resource: String
        var createdAtSeconds: Int64
        var versions: Int
        /// Index into `changes` of the newest change that was made.
        var made: Int
        /// Index into `changes` of the newest change that is visible.
        var shown: Int?
    }

    public let settings: Settings
    /// The change log, append-only.
    public private(set) var changes: [ProviderChange] = []
    /// By a record's number less one.
    private var items: [Item] = []
    private var numbersByResource: [String: [Int]] = [:]
    private var shown: [String: [Place]] = [:]
    /// Changes that are not visible yet: index into `changes` and the record's number. Never many.
    private var waiting: [(change: Int, number: Int)] = []

    public init(settings: Settings = Settings()) { self.settings = settings }

    /// Makes one change at `now`: of `resource`, or of any of the settings' resources.
    @discardableResult
    public mutating func makeChange(at now: Timestamp, resource: String? = nil, using random: inout ProviderRandom) -> ProviderChange {
        let resource = resource ?? settings.resources[Int.random(in: 0..<settings.resources.count, using: &random)]
        let draw = Double.random(in: 0..<1, using: &random)
        let isDelete = draw < settings.deleteShare
        if isDelete || draw < settings.deleteShare + settings.updateShare,
            let number = olderRecord(of: resource, before: now.seconds, using: &random)
        {
            return append(number, isDelete ? .deleted : .updated, at: now, using: &random)
        }
        items.append(Item(resource: resource, createdAtSeconds: now.seconds, versions: 0, made: -1, shown: nil))
        numbersByResource[resource, default: []].append(items.count)
        return append(items.count, .created, at: now, using: &random)
    }

    /// A record that may be changed in this second; nil if a few draws found none.
    private func olderRecord(of resource: String, before seconds: Int64, using random: inout ProviderRandom) -> Int? {
        guard let numbers = numbersByResource[resource], !numbers.isEmpty else { return nil }
        for _ in 0..<4 {
            let number = numbers[Int.random(in: 0..<numbers.count, using: &random)]
            let last = changes[items[number - 1].made]
            if last.kind != .deleted, last.updatedAtSeconds < seconds { return number }
        }
        return nil
    }

    private mutating func append(
        _ number: Int, _ kind: ProviderChange.Kind, at now: Timestamp, using random: inout ProviderRandom
    ) -> ProviderChange {
        let item = items[number - 1]
        let earlier = item.made >= 0 ? changes[item.made] : nil
        let id = earlier?.id ?? "\(item.resource.prefix(3))_\(random.letters(8))\(number)"
        var lag = Span.zero
        if settings.visibilityLagMax > .zero, random.chance(settings.lagShare) {
            lag = .milliseconds(Int64.random(in: 1...settings.visibilityLagMax.milliseconds, using: &random))
        }
        let facts = ProviderRecord.Facts(
            resource: item.resource, id: id, number: number, createdAtSeconds: item.createdAtSeconds, updatedAt: now,
            isDeleted: kind == .deleted, version: item.versions + 1)
        let change = ProviderChange(
            sequence: changes.count + 1, resource: item.resource, id: id, kind: kind, madeAt: now,
            visibleAt: max(now + lag, earlier?.visibleAt ?? now), record: ProviderRecord.bytes(facts, using: &random))
        items[number - 1].versions += 1
        items[number - 1].made = changes.count
        waiting.append((changes.count, number))
        changes.append(change)
        return change
    }

    /// Shows what has become visible by `now`.
    private mutating func advance(to now: Timestamp) {
        var later: [(change: Int, number: Int)] = []
        for entry in waiting {
            if changes[entry.change].visibleAt <= now { show(entry) } else { later.append(entry) }
        }
        waiting = later
    }

    private mutating func show(_ entry: (change: Int, number: Int)) {
        let change = changes[entry.change]
        var places = shown[change.resource] ?? []
        shown[change.resource] = nil  // moved, not copied
        if let old = items[entry.number - 1].shown {
            let place = Place(updatedAtSeconds: changes[old].updatedAtSeconds, number: entry.number)
            places.remove(at: ProviderWorld.firstIndex(in: places, atOrAfter: place))
        }
        let place = Place(updatedAtSeconds: change.updatedAtSeconds, number: entry.number)
        places.insert(place, at: ProviderWorld.firstIndex(in: places, atOrAfter: place))
        items[entry.number - 1].shown = entry.change
        shown[change.resource] = places
    }

    private static func firstIndex(in places: [Place], atOrAfter wanted: Place) -> Int {
        var (low, high) = (0, places.count)
        while low < high {
            let middle = (low + high) / 2
            if places[middle] < wanted { low = middle + 1 } else { high = middle }
        }
        return low
    }

    /// Up to `limit` records that stand strictly behind `place`, oldest first, as the API shows them at `now`.
    mutating func list(
        _ resource: String, behind place: Place, limit: Int, includeDeleted: Bool, at now: Timestamp
    ) -> (records: [[UInt8]], last: Place?, hasMore: Bool) {
        advance(to: now)
        let places = shown[resource] ?? []
        var index = ProviderWorld.firstIndex(
            in: places, atOrAfter: Place(updatedAtSeconds: place.updatedAtSeconds, number: place.number + 1))
        var records: [[UInt8]] = []
        var last: Place?
        while index < places.count {
            let current = places[index]
            guard let change = items[current.number - 1].shown.map({ changes[$0] }) else { break }
            index += 1
            if change.kind == .deleted && !includeDeleted { continue }
            if records.count == limit { return (records, last, true) }
            records.append(change.record)
            last = current
        }
        return (records, last, false)
    }
}
