import SluiceConnectors
import SluiceCore
import SluiceDelivery
import SluiceStore

/// Consumers: workers fetch jobs by name and ack them.
extension API {
    func listConsumers(_ call: APICall) async throws -> APIResponse {
        let slice = ListSlice(
            try await parts.consumers.standing(nil), after: call.query("after"), limit: try call.limit(), name: { $0.consumer.name })
        let names = try await names(of: slice.elements.flatMap(\.stored.triggers))
        return APIResponse.object { writer in
            writer.list("consumers", slice.elements) { writer, entry in self.write(entry.consumer, entry.stored, names, into: &writer) }
            writer.member("next", slice.next)
        }
    }

    func showConsumer(_ call: APICall) async throws -> APIResponse {
        let name = call.parameter("name")
        guard let entry = try await parts.consumers.standing(name).first else {
            throw SluiceError(.notFound, "the consumer `\(name.prefix(64))` was just removed")
        }
        let names = try await names(of: entry.stored.triggers)
        let workers = parts.consumers.workers(of: entry.consumer.id)
        return APIResponse.object { writer in
            write(entry.consumer, entry.stored, names, into: &writer)
            writer.list("leases", entry.stored.leases) { writer, lease in
                writer.member("lease", LeaseToken(consumer: entry.consumer.id, id: lease.id).text)
                writer.member("worker", lease.worker)
                writer.member("jobs", Int64(lease.jobs))
                writer.member("taken_at", lease.takenAt)
                writer.member("expires_at", lease.expiresAt)
            }
            writer.list("workers", workers) { writer, worker in
                writer.member("name", worker.name)
                writer.member("last_fetch_at", worker.at)
            }
        }
    }

    private func write(_ consumer: Consumer, _ stored: StoredConsumer, _ names: [TriggerID: String], into writer: inout JSONWriter) {
        writer.member("name", consumer.name)
        writer.key("triggers")
        writer.array { writer in for name in stored.triggers.compactMap({ names[$0] }).sorted() { writer.value(name) } }
        writer.member("position", stored.position)
        writer.member("settled_through", stored.floor)
        writer.member("waiting", Int64(stored.backlog))
        writer.member("waiting_is_more", stored.backlog >= StoredConsumer.backlogMax)
        writer.member("unacked", Int64(stored.unacked))
        writer.member("in_hand", Int64(stored.inHand))
        writer.member("oldest_at", stored.oldest?.createdAt)
        writer.member("lag_ms", stored.oldest.map { max(0, (parts.clock.now() - $0.createdAt).milliseconds) } ?? 0)
        writer.member("visibility_ms", (consumer.settings.visibility ?? ConsumerSettings.visibilityDefault).milliseconds)
        writer.member("attempts_max", Int64(consumer.settings.rules.attemptsMax))
        writer.member("unacked_max", Int64(consumer.settings.rules.unackedMax))
    }

    private func names(of triggers: [TriggerID]) async throws -> [TriggerID: String] {
        let known = self.names.withLock { $0 }
        if triggers.allSatisfy({ known[$0] != nil }) { return known.mapValues(\.name) }
        let all = try await definitions().triggers
        self.names.withLock { $0 = Dictionary(all.map { ($0.id, (name: $0.name, uid: $0.uid)) }) { first, _ in first } }
        return Dictionary(all.map { ($0.id, $0.name) }) { first, _ in first }
    }

    // MARK: Fetching

    /// Takes `{"max": 1-1000, "wait": 0-60, "visibility": seconds, "worker": text, "ack": lease}`, each optional.
    func fetchJobs(_ call: APICall) async throws -> APIResponse {
        let body = try call.object()
        try body.allows(["max", "wait", "visibility", "worker", "ack"])
        var order = FetchOrder()
        order.jobsMax = try body.number("max", FetchOrder.jobsMax) ?? order.jobsMax
        order.waitSeconds = try body.number("wait", FetchOrder.waitSeconds) ?? 0
        order.visibility = try body.visibility()
        order.worker = try body.text("worker", lengthMax: FetchOrder.workerLengthMax)
        order.ack = try body.text("ack", lengthMax: 64)
        let fetched = try await fetch(order, call)
        guard let lease = fetched.lease, !fetched.jobs.isEmpty else { return APIResponse(body: try await bytes(fetched)) }
        do {
            var response = APIResponse(body: try await bytes(fetched))
            // It hung up while jobs were being taken: they go to somebody who is there.
            if order.waitSeconds > 0, call.request.caller?.isGone ?? false { throw Caller.hasHungUp }
            response.undelivered = { [parts] in parts.consumers.giveBackSoon(lease) }
            return response
        } catch {
            await parts.consumers.giveBack(lease)
            throw error
        }
    }

    private func fetch(_ order: FetchOrder, _ call: APICall) async throws -> FetchedJobs {
        let (consumers, name) = (parts.consumers, call.parameter("name"))
        guard order.waitSeconds > 0 else { return try await consumers.fetch(name, order) }
        return try await call.untilHangUp { try await consumers.fetch(name, order) }
    }

    private func bytes(_ fetched: FetchedJobs) async throws -> [UInt8] {
        let names = try await parts.consumers.triggerNames(of: fetched.jobs)
        var bytes: [UInt8] = []
        try fetched.write(names: { names[$0] }, into: &bytes)
        return bytes
    }

    /// Takes `{"lease": text, "jobs": [id or seq_token]}`.
    func ackJobs(_ call: APICall) async throws -> APIResponse {
        let body = try call.object()
        try body.allows(["lease", "jobs"])
        return try await settle(call, body, .ack)
    }

    /// Takes `{"lease": text, "jobs": […], "delay": seconds, "reason": text}`.
    func nackJobs(_ call: APICall) async throws -> APIResponse {
        let body = try call.object()
        try body.allows(["lease", "jobs", "delay", "reason"])
        let seconds = try body.number("delay", 0...Int(ConsumerMachine.delayMax.milliseconds / 1000))
        let reason = try body.text("reason", lengthMax: ConsumerService.reasonLengthMax)
        return try await settle(call, body, .nack(delay: seconds.map { .seconds(Int64($0)) }, reason: reason))
    }

    /// Takes `{"lease": text, "visibility": seconds}`.
    func extendLease(_ call: APICall) async throws -> APIResponse {
        let body = try call.object()
        try body.allows(["lease", "visibility"])
        return try await settle(call, body, .extend(by: try body.visibility()))
    }

    private func settle(_ call: APICall, _ body: JSONView, _ word: ConsumerService.Word) async throws -> APIResponse {
        guard let lease = try body.text("lease", lengthMax: 64) else {
            throw SluiceError(.invalid, "`lease` is missing: give the text that the fetch gave")
        }
        var jobs: [String]?
        if let list = body["jobs"], !list.isNull {
            guard let elements = list.elements else { throw SluiceError(.invalid, "`jobs` is a list of ids (job_…) or seq_tokens") }
            jobs = try elements.map { element in
                guard let text = element.string, text.utf8.count <= 256 else {
                    throw SluiceError(.invalid, "`jobs` is a list of ids (job_…) or seq_tokens")
                }
                return text
            }
        }
        let answer = try await parts.consumers.settle(call.parameter("name"), lease: lease, jobs: jobs, word)
        return APIResponse.object { writer in
            if case .extend = word {
                writer.member("expires_at", answer.expiresAt)
            } else {
                writer.member("settled", Int64(answer.settled.jobs))
                writer.member("repeated", Int64(answer.settled.repeated))
                writer.member("dead", Int64(answer.dead))
            }
            writer.member("in_hand", Int64(answer.settled.inHand))
        }
    }

    // MARK: Moving

    /// Takes `{"to": "oldest" | "now"}`, `{"after": token}` or `{"time": RFC 3339, or how long ago}`.
    func seekConsumer(_ call: APICall) async throws -> APIResponse {
        let body = try call.object()
        try body.allows(["to", "after", "time"])
        let outcome = try await parts.consumers.seek(call.parameter("name"), to: try target(body))
        return APIResponse.object { writer in
            writer.member("position", outcome.position)
            writer.member("skipped", Int64(outcome.skipped))
            writer.member("again", Int64(outcome.again))
            writer.member("is_counted_in_full", max(outcome.skipped, outcome.again) < SeekOutcome.countMax)
        }
    }

    /// The clock of whoever asks may be ahead of this one by so much.
    private static let clockDifferenceMax = Span.minutes(1)

    private func target(_ body: JSONView) throws -> SeekTarget {
        let given = ["to", "after", "time"].filter { body[$0].map { !$0.isNull } ?? false }
        guard given.count == 1 else {
            throw SluiceError(
                .invalid, "say where to: one of `to` (oldest or now), `after` (a token) and `time` (RFC 3339, or how long ago)")
        }
        if let after = try body.text("after", lengthMax: 512) { return .after(after) }
        if let text = try body.text("time", lengthMax: 64) {
            let time = try moment(text, "time")
            let now = parts.clock.now()
            guard time <= now + API.clockDifferenceMax else {
                throw SluiceError(
                    .invalid,
                    "`time` is in the future: \(time), and here it is \(now). To skip all that waits, use `--to now` (\"to\":\"now\")")
            }
            return .time(time)
        }
        switch body["to"]?.string {
        case "oldest": return .oldest
        case "now": return .now
        default: throw SluiceError(.invalid, "`to` is oldest or now")
        }
    }

    // MARK: Streams

    /// The parameters of `/v1/jobs`; a Last-Event-ID counts for more than `after`, which may also be `now`.
    func streamJobs(_ call: APICall) async throws -> APIResponse {
        let wanted = try JobFeedRequest.parse { name in
            switch name {
            case "after": call.request.lastEventID ?? (call.query("after") == "now" ? nil : call.query("after"))
            case "trigger": call.query("trigger")
            default: nil
            }
        }
        var query = JobQuery(after: wanted.after, limit: JobFeedRequest.limitDefault)
        if let name = wanted.triggerName { query.trigger = try await trigger(name).id }
        if call.request.lastEventID == nil, call.query("after") == "now" { query.after = try await parts.store.jobs(newest(query)).next }
        query.includesRecords = call.query("records") != "false"
        let stream = JobStream(feed: parts.jobs) { try await self.triggerNames(containing: $0) }
        let first = try await stream.begin(query)
        let followed = query
        var response = APIResponse(body: [])
        response.stream = { write in try await call.untilHangUp { try await stream.run(followed, from: first, write: write) } }
        return response
    }

    private func newest(_ query: JobQuery) -> JobQuery {
        var query = query
        (query.newestFirst, query.limit, query.includesRecords) = (true, 1, false)
        return query
    }
}

/// Members of a request's body, with the errors that people need.
extension JSONView {
    func allows(_ names: [String]) throws(SluiceError) {
        for member in members ?? [] where !names.contains(member.key) {
            throw SluiceError(.invalid, "there is no `\(member.key.prefix(64))` here: \(Words.hint(member.key, among: names))")
        }
    }

    func number(_ name: String, _ range: ClosedRange<Int>) throws(SluiceError) -> Int? {
        guard let value = self[name], !value.isNull else { return nil }
        guard let number = value.int64, range.contains(Int(clamping: number)) else {
            throw SluiceError(.invalid, "`\(name)` is a whole number from \(range.lowerBound) to \(range.upperBound)")
        }
        return Int(number)
    }

    func text(_ name: String, lengthMax: Int) throws(SluiceError) -> String? {
        guard let value = self[name], !value.isNull else { return nil }
        guard let text = value.string, !text.isEmpty, text.unicodeScalars.count <= lengthMax else {
            throw SluiceError(.invalid, "`\(name)` is a text of at most \(lengthMax) characters, and not empty")
        }
        return text
    }

    func visibility() throws(SluiceError) -> Span? {
        let range = ConsumerSettings.visibilityRange
        let seconds = try number("visibility", Int(range.lowerBound.milliseconds / 1000)...Int(range.upperBound.milliseconds / 1000))
        return seconds.map { .seconds(Int64($0)) }
    }
}
