import SluiceConnectors
import SluiceCore

/// The same keys behind the JSON gateway of etcd's v3 API: https://etcd.io/docs/v3.5/dev-guide/api_grpc_gateway/. Places are
/// revisions, each change has one of its own, and a range may be read as of one that has passed.
extension StandInFeed {
    /// More than a connector asks for is not shown, so that there are pages.
    private static let etcdPageMax = 4

    mutating func etcdAnswer(_ request: HTTPRequestPlan) -> HTTPReply {
        let path = request.url.prefix { $0 != "?" }
        guard let root = (try? JSONDocument(request.body))?.root else { return reply(400, "{\"error\":\"no JSON\"}") }
        if let limit = mischief.tokensExpireAtAnswer, answers >= limit { compactedAt = max(compactedAt, etcdRevision - 1) }
        if path.hasSuffix("/v3/kv/range") { return etcdRange(root) }
        if path.hasSuffix("/v3/watch"), let watch = root["create_request"] { return etcdWatch(watch) }
        return reply(404, "{\"error\":\"Not Found\"}")
    }

    /// What led to the values that hold now is forgotten.
    mutating func compact() { compactedAt = etcdRevision }

    /// What was written since the store began, every version of it.
    private var etcdWrites: [Item] { items[min(countedFrom, items.count)...].filter { $0.visibleAt <= now } }
    private var etcdRevision: Int64 { etcdWrites.map(\.place).max() ?? 1 }
    private var etcdHeader: String { "\"header\":{\"cluster_id\":\"\(life)\",\"revision\":\"\(etcdRevision)\"}" }

    private mutating func etcdRange(_ root: JSONView) -> HTTPReply {
        let asked = root["revision"]?.text.flatMap { Int64($0) } ?? 0
        let from = root["min_mod_revision"]?.text.flatMap { Int64($0) } ?? 0
        if asked > 0 {
            now += mischief.millisecondsPerPage
            // Somebody writes while the pages are read.
            if mischief.shifts, let last = latest.keys.max() { if random.chance(0.5) { add() } else { touch(last) } }
        }
        if asked > 0, asked < compactedAt {
            return reply(400, "{\"error\":\"etcdserver: mvcc: required revision has been compacted\",\"code\":11}")
        }
        if asked > etcdRevision {
            return reply(400, "{\"error\":\"etcdserver: mvcc: required revision is a future revision\",\"code\":11}")
        }
        // A key without an end of a range is that key alone.
        let only = root["range_end"] == nil ? root["key"]?.text : nil
        let at = asked > 0 ? asked : etcdRevision
        var newest: [Int: Item] = [:]
        for item in etcdWrites where item.place <= at { newest[item.id] = item }
        let found = newest.values.filter { $0.place >= from && (only == nil || only == "a\($0.id)") }.sorted { $0.place < $1.place }
        let limit = min(root["limit"]?.text.flatMap { Int($0) } ?? StandInFeed.etcdPageMax, StandInFeed.etcdPageMax)
        let page = found.prefix(max(1, limit))
        let more = found.count > page.count
        // One key as it was is no page.
        note(Exchange(cycle: cycle, bound: nil, hasPosition: asked > 0 && from > 0, count: page.count, hasMore: more, newest: nil, at: now))
        let keys = page.map { etcdKey($0) }.joined(separator: ",")
        return reply(200, "{\(etcdHeader),\"kvs\":[\(keys)],\"count\":\"\(found.count)\"\(more ? ",\"more\":true" : "")}")
    }

    /// The lines that have come so far: a stream goes on, and says nothing more for now.
    private mutating func etcdWatch(_ watch: JSONView) -> HTTPReply {
        let from = watch["start_revision"]?.text.flatMap { Int64($0) } ?? etcdRevision + 1
        if mischief.shifts, random.chance(0.5), let last = latest.keys.max() { touch(last) }
        note(Exchange(cycle: cycle, bound: nil, hasPosition: true, count: 0, hasMore: false, newest: nil, at: now))
        var lines = ["{\"result\":{\(etcdHeader),\"created\":true}}"]
        if from <= compactedAt {
            lines.append("{\"result\":{\(etcdHeader),\"canceled\":true,\"compact_revision\":\"\(compactedAt)\"}}")
        } else {
            for item in etcdWrites where item.place >= from {
                lines.append("{\"result\":{\(etcdHeader),\"events\":[{\"kv\":\(etcdKey(item))}]}}")
            }
        }
        return reply(200, "[\(lines.joined(separator: ","))]")
    }

    private func etcdKey(_ item: Item) -> String {
        let writes = etcdWrites.filter { $0.id == item.id && $0.place <= item.place }
        let created = writes.map(\.place).min() ?? item.place
        return
            "{\"key\":\"a\(item.id)\",\"create_revision\":\"\(created)\",\"mod_revision\":\"\(item.place)\",\"version\":\"\(writes.count)\""
            + ",\"value\":\"dg==\",\"\(StandInFeed.versionKey)\":\(item.version)}"
    }
}
