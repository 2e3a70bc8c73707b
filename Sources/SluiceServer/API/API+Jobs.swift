import SluiceCore
import SluiceDelivery
import SluiceStore

/// Jobs by pull, and the deliveries of those that are pushed.
extension API {
    /// How many jobs of a trigger are looked through for an id.
    private static let jobsSearchedMax = 200_000

    func listJobs(_ call: APICall) async throws -> APIResponse {
        let wanted = try JobFeedRequest.parse { call.query($0) }
        var query = JobQuery(after: wanted.after, limit: wanted.limit)
        if let name = wanted.triggerName { query.trigger = try await trigger(name).id }
        query.newestFirst = call.flag("newest")
        query.includesRecords = call.query("records") != "false"
        let page = try await read(query, waitSeconds: query.newestFirst ? 0 : wanted.waitSeconds, call)
        return APIResponse(body: try await jobs(page))
    }

    private func read(_ query: JobQuery, waitSeconds: Int, _ call: APICall) async throws -> JobPage {
        let feed = parts.jobs
        guard waitSeconds > 0 else { return try await feed.read(query) }
        return try await call.untilHangUp { try await feed.read(query, waitSeconds: waitSeconds) }
    }

    private func jobs(_ page: JobPage) async throws -> [UInt8] {
        let names = try await triggerNames(containing: page.jobs)
        var bytes: [UInt8] = []
        try JobJSON.write(page, names: { names[$0] }, into: &bytes)
        return bytes
    }

    /// The names of the triggers; read anew only if a job's is not among those known.
    func triggerNames(containing jobs: [StoredJob]) async throws -> [TriggerID: JobJSON.TriggerNames] {
        let known = self.names.withLock { $0 }
        if jobs.allSatisfy({ known[$0.trigger] != nil }) { return known }
        let triggers = try await definitions().triggers
        let read = Dictionary(triggers.map { ($0.id, (name: $0.name, uid: $0.uid)) }) { first, _ in first }
        self.names.withLock { $0 = read }
        return read
    }

    /// By its id, or as `TRIGGER:POSITION`, which is found at once.
    func showJob(_ call: APICall) async throws -> APIResponse {
        let id = call.parameter("id")
        let found: (job: StoredJob, trigger: StoredTrigger)
        if let colon = id.lastIndex(of: ":"), let position = Int64(id[id.index(after: colon)...]), position > 0 {
            found = try await job(at: JobPosition(position), of: try await trigger(String(id[..<colon])))
        } else {
            found = try await job(id)
        }
        var bytes: [UInt8] = []
        JobJSON.write(found.job, triggerName: found.trigger.name, uid: found.trigger.uid, into: &bytes)
        return APIResponse(body: bytes)
    }

    private func job(at position: JobPosition, of trigger: StoredTrigger) async throws -> (StoredJob, StoredTrigger) {
        let page = try await parts.store.jobs(JobQuery(trigger: trigger.id, fromPosition: position, limit: 1))
        guard let job = page.jobs.first, job.position == position else {
            throw SluiceError(
                .notFound, "trigger \(trigger.name) has no job at position \(position): its last is \(trigger.progress.lastPosition)")
        }
        return (job, trigger)
    }

    private func job(_ id: String) async throws -> (StoredJob, StoredTrigger) {
        guard let parsed = JobIdentity.parse(id) else {
            throw SluiceError(.notFound, "there is no such job: a job is named by its id, job_…, or as TRIGGER:POSITION")
        }
        guard let trigger = try await definitions().triggers.first(where: { $0.uid == parsed.uid }) else {
            throw SluiceError(.notFound, "the trigger of this job is not known here")
        }
        var after: String?
        for _ in 0..<(API.jobsSearchedMax / 1000) {
            let query = JobQuery(trigger: trigger.id, after: after, limit: 1000, newestFirst: true, includesRecords: false)
            let page = try await parts.store.jobs(query)
            if let match = page.jobs.first(where: { JobIdentity.id(uid: trigger.uid, dedupKey: $0.dedupKey) == id }) {
                return try await job(at: match.position, of: trigger)
            }
            if page.jobs.isEmpty || !page.more { break }
            after = page.next
        }
        throw SluiceError(
            .notFound,
            "no such job among the last \(API.jobsSearchedMax) of trigger \(trigger.name): it was removed after its time, or never was")
    }

    // MARK: Deliveries

    func listDeliveries(_ call: APICall) async throws -> APIResponse {
        let definitions = try await definitions()
        let limit = try call.limit()
        var query = DeliveryQuery(before: try call.number("after", 1...Int64.max), limit: limit + 1)
        if let name = call.query("destination") { query.destination = try API.destination(name, definitions) }
        if let word = call.query("state") {
            guard let state = DeliveryState(rawValue: word) else {
                throw SluiceError(
                    .invalid, "`state` is \(DeliveryState.allCases.map(\.rawValue).joined(separator: ", ")), not `\(word.prefix(64))`")
            }
            query.state = state
        }
        let all = try await parts.store.deliveries(query)
        let shown = all.prefix(limit)
        let triggers = Dictionary(definitions.triggers.map { ($0.id, $0.name) }) { first, _ in first }
        let destinations = Dictionary(definitions.destinations.map { ($0.id, $0.name) }) { first, _ in first }
        return APIResponse.object { writer in
            writer.list("deliveries", shown) { writer, delivery in
                writer.member("id", delivery.id)
                writer.member("destination", destinations[delivery.destination])
                writer.member("trigger", triggers[delivery.trigger])
                writer.member("position", delivery.position.rawValue)
                writer.member("state", delivery.state.rawValue)
                writer.member("attempts", Int64(delivery.attempts))
                writer.member("next_attempt_at", delivery.nextAttemptAt)
                writer.member("last_status", delivery.lastStatus.map(Int64.init))
                writer.member("reason", delivery.reason)
                writer.member("created_at", delivery.createdAt)
            }
            writer.member("next", all.count > limit ? shown.last.map { String($0.id) } : nil)
        }
    }
}
