import SluiceConnectors
import SluiceCore

/// One change of one record at a provider: what the API lists from `visibleAt` until the next change of the record is.
struct Change {
    /// Its number over all resources, which the provider also shows as the record's version.
    var number: Int
    var resource: Int
    var id: Int
    var partition = 0
    /// How the provider names the record.
    var name = ""
    /// By the provider's clock, in milliseconds.
    var updatedAt: Int64
    /// By the simulation's clock.
    var visibleAt: Timestamp
    /// It makes the record, rather than changing it.
    var isFirst: Bool
    /// When a later version of the record takes its place in the lists.
    var supersededAt = Timestamp.distantFuture

    func isListed(at time: Timestamp) -> Bool { visibleAt <= time && time < supersededAt }
}

/// A provider: resources with records that are made and changed, and lists of them over its API.
struct ProviderModel {
    struct Resource {
        var feed: Feed
        var connection: Int
        /// The number of each record's last change.
        var latest: [Int] = []
        var partitions: [PartitionModel] = []
        /// Changes that may still be listed, in the order in which they were made.
        var changes: [Int] = []
        var groupGranule: Int64 = -1
        var groupCount = 0
    }
    var resources: [Resource]
    private(set) var changes: [Change] = []
    /// How far the provider's clock is ahead.
    let skew: Span

    init(feeds: [(feed: Feed, connection: Int)], skew: Span) {
        resources = feeds.map { plan in
            var resource = Resource(feed: plan.feed, connection: plan.connection)
            let isPartitioned = plan.feed.partitioning != .none
            resource.partitions = Array(repeating: PartitionModel(listedSince: .distantPast), count: isPartitioned ? 2 : 0)
            return resource
        }
        self.skew = skew
    }

    /// Makes or changes a record; nil if as many as may share this granule already do.
    mutating func change(_ index: Int, isNew: Bool, hiddenFor: Span, at now: Timestamp, random: inout SimulationRandom) -> Change? {
        let time = (now + skew).milliseconds
        let granule = time / resources[index].feed.kind.granuleMilliseconds
        if granule == resources[index].groupGranule {
            guard resources[index].groupCount < resources[index].feed.groupMax else { return nil }
            resources[index].groupCount += 1
        } else {
            (resources[index].groupGranule, resources[index].groupCount) = (granule, 1)
        }
        let makesNew = isNew || resources[index].latest.isEmpty || !resources[index].feed.kind.isMutable
        let id = makesNew ? resources[index].latest.count : random.int(0...resources[index].latest.count - 1)
        var change = Change(number: changes.count, resource: index, id: id, updatedAt: time, visibleAt: now + hiddenFor, isFirst: makesNew)
        if makesNew {
            if !resources[index].partitions.isEmpty { change.partition = random.int(0...resources[index].partitions.count - 1) }
            change.name = name(of: change)
            resources[index].latest.append(change.number)
        } else {
            let before = resources[index].latest[id]
            (change.partition, change.name) = (changes[before].partition, changes[before].name)
            change.visibleAt = max(change.visibleAt, changes[before].visibleAt)
            changes[before].supersededAt = change.visibleAt
            resources[index].latest[id] = change.number
        }
        changes.append(change)
        resources[index].changes.append(change.number)
        return change
    }

    /// Where nobody reads all partitions as one, each counts its records for itself.
    private func name(of change: Change) -> String {
        guard resources[change.resource].feed.partitioning == .first else { return "r\(change.id)" }
        return "r\(resources[change.resource].latest.count { changes[$0].partition == change.partition })"
    }

    /// The answer to a request of a poll.
    mutating func answer(_ url: String, resource index: Int, at now: Timestamp) -> HTTPReply {
        if ProviderModel.isPartitionList(url) { return partitionList(url, resource: index, at: now) }
        if let refusal = refusal(url, resource: index, at: now) { return refusal }
        let query = ProviderModel.query(url)
        let feed = resources[index].feed
        guard let limit = query["limit"].flatMap({ Int($0) }) else { return reply(400, "{}", at: now) }
        var bound: Int64?
        if let text = query[feed.kind.isExclusive ? "after" : "from"] {
            guard let value = feed.bound(text) else { return reply(400, "{}", at: now) }
            bound = value
        }
        let listed = list(index, ProviderModel.partition(url), above: bound, at: now)
        let start = place(in: listed, query, feed)
        let page = listed[min(start, listed.count)..<min(start + limit, listed.count)]
        let hasMore = start + limit < listed.count
        var body = "{\"list\":["
        for (offset, number) in page.enumerated() {
            let change = changes[number]
            if offset > 0 { body += "," }
            body += "{\"id\":\"\(change.name)\",\"updated_at\":\(feed.literal(change.updatedAt)),\"version\":\(number)}"
        }
        body += "]"
        if feed.kind == .descending { body += ",\"has_more\":\(hasMore)" }
        if hasMore, feed.kind != .descending, let last = page.last { body += ",\"next\":\"\(token(feed, start + limit, changes[last]))\"" }
        return reply(200, body + "}", at: now)
    }

    /// What a list holds now, in its order.
    private mutating func list(_ index: Int, _ partition: Int?, above bound: Int64?, at now: Timestamp) -> [Int] {
        resources[index].changes.removeAll { changes[$0].supersededAt <= now }
        let feed = resources[index].feed
        let listed = resources[index].changes.filter {
            let change = changes[$0]
            return change.visibleAt <= now && change.partition == partition ?? change.partition
                && feed.lists(change.updatedAt, above: bound)
        }
        switch feed.kind {
        case .descending: return listed.reversed()
        case .unordered, .whole: return listed.sorted { changes[$0].id < changes[$1].id }
        default: return listed
        }
    }

    private func place(in listed: [Int], _ query: [String: String], _ feed: Feed) -> Int {
        if let id = query["after_id"] {
            return (listed.firstIndex { changes[$0].name == id } ?? -1) + 1
        }
        guard let token = query["offset"].flatMap({ Int($0) }) else { return 0 }
        switch feed.kind {
        case .places: return listed.firstIndex { $0 > token } ?? listed.count
        case .unordered, .whole: return listed.firstIndex { changes[$0].id > token } ?? listed.count
        default: return token
        }
    }

    private func token(_ feed: Feed, _ next: Int, _ last: Change) -> Int {
        switch feed.kind {
        case .places: last.number
        case .unordered, .whole: last.id
        default: next
        }
    }

    func reply(_ status: Int, _ body: String, retryAfterSeconds: Int? = nil, at now: Timestamp) -> HTTPReply {
        var headers = [HTTPField("Date", ProviderModel.httpDate(now + skew))]
        if let retryAfterSeconds { headers.append(HTTPField("Retry-After", String(retryAfterSeconds))) }
        return HTTPReply(status: status, headers: headers, body: Array(body.utf8))
    }

    /// A URL's parameters, decoded.
    static func query(_ url: String) -> [String: String] {
        guard let mark = url.utf8.firstIndex(of: UInt8(ascii: "?")) else { return [:] }
        var result: [String: String] = [:]
        for pair in url[url.utf8.index(after: mark)...].utf8.split(separator: UInt8(ascii: "&")) {
            guard let equals = pair.firstIndex(of: UInt8(ascii: "=")) else { continue }
            result[decode(pair[..<equals])] = decode(pair[pair.index(after: equals)...])
        }
        return result
    }

    private static func decode(_ text: Substring.UTF8View.SubSequence) -> String {
        var bytes: [UInt8] = []
        var iterator = text.makeIterator()
        while let byte = iterator.next() {
            if byte == UInt8(ascii: "%"), let high = iterator.next(), let low = iterator.next() {
                bytes.append(UInt8(String(decoding: [high, low], as: UTF8.self), radix: 16) ?? 0x3F)
            } else {
                bytes.append(byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// IMF-fixdate (RFC 9110, 5.6.7).
    static func httpDate(_ time: Timestamp) -> String {
        let weekdays = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"]
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
        let days = time.seconds / 86_400
        let date = Timestamp.civil(days: days)
        let inDay = time.seconds - days * 86_400
        func two(_ value: Int64) -> String { value < 10 ? "0\(value)" : String(value) }
        let clock = "\(two(inDay / 3600)):\(two(inDay / 60 % 60)):\(two(inDay % 60))"
        return "\(weekdays[Int(days % 7)]), \(two(date.day)) \(months[Int(date.month - 1)]) \(date.year) \(clock) GMT"
    }
}
