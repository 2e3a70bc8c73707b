import SluiceCore
import SluiceDelivery
import SluiceStore
import Synchronization
import Testing

@testable import SluiceServer

/// Consumers over the API, on a real store.
@Suite struct ConsumerTests {
    static let manifest = """
        connections:
          main: {connector: shop, fields: {site: acme, api_key: x}, webhook: {secrets: ["user:hook"]}}
        triggers:
          orders: {connection: main, type: record, input: {resource: order}, destinations: [billing, stock]}
        destinations:
          billing: {kind: pull, visibility: 30s, attempts_max: 3}
          stock: {kind: pull}
        """

    static func withConsumers<Value>(_ body: (API, any Store) async throws -> Value) async throws -> Value {
        try await Fixture.withAPI { api, store in
            let applied = await api.apply(manifest)
            #expect(applied.status == 200, "\(String(decoding: applied.body, as: UTF8.self))")
            store.observe(api.parts.consumers)
            store.observe(api.parts.jobs)
            return try await body(api, store)
        }
    }

    static func commit(_ store: any Store, cycle: Int64, keys: [String], record: (String) -> String = { "{\"id\":\"\($0)\"}" }) async throws
    {
        let trigger = try await store.orders()
        let fence = try await store.acquireLease(shard: 0, holder: "test", at: Timestamp(seconds: 1))
        let now = Timestamp(milliseconds: 1_800_000_000_000)
        let outcome = try await store.commitPage(
            PageCommit(
                fence: fence, trigger: trigger.id, generation: trigger.generation, cycle: cycle, page: 0, chunk: 0, cause: .manual,
                records: keys.map { KeyedRecord(record: Record(bytes: Array(record($0).utf8)[...]), dedupKey: Array($0.utf8)) },
                completion: PageCompletion(
                    end: CycleEnd(cause: .manual, startedAt: now, coveredSequence: .zero, safetyDueAt: now + .hours(12))), at: now))
        guard case .committed(keys.count, _) = outcome else { throw SluiceError(.internalError, "not committed: \(outcome)") }
    }

    static func fetch(_ api: API, _ body: String = "{}", from name: String = "billing") async throws -> (lease: String, jobs: [JSONView]) {
        let answer = await api.ask("POST", "/v1/consumers/\(name)/fetch", body)
        #expect(answer.status == 200, "\(answer.text)")
        let root = try JSONDocument(Array(answer.text.utf8)).root
        return (root["lease"]?.string ?? "", root["jobs"]?.elements ?? [])
    }

    @Test func P9_aWorkerFetchesAndAcks() async throws {
        try await Self.withConsumers { api, store in
            try await Self.commit(store, cycle: 1, keys: ["a", "b", "c"]) { "{ \"id\" : \"\($0)\",\n \"n\": 1.500 }" }
            let (lease, jobs) = try await Self.fetch(api, #"{"max":2,"worker":"w1","visibility":600}"#)
            #expect(jobs.count == 2 && jobs.allSatisfy { $0["attempt"]?.int64 == 1 })
            #expect(jobs[0]["record"].map { String(decoding: $0.bytes, as: UTF8.self) } == "{ \"id\" : \"a\",\n \"n\": 1.500 }")
            let id = try #require(jobs[0]["id"]?.string)
            let token = try #require(jobs[1]["seq_token"]?.string)
            #expect(
                await api.ask("POST", "/v1/consumers/billing/ack", #"{"lease":"\#(lease)","jobs":["\#(id)"]}"#).text.contains(
                    #""settled":1"#))
            #expect(
                await api.ask("POST", "/v1/consumers/billing/ack", #"{"lease":"\#(lease)","jobs":["\#(id)"]}"#).text.contains(
                    #""repeated":1"#))
            let nacked = await api.ask(
                "POST", "/v1/consumers/billing/nack", #"{"lease":"\#(lease)","jobs":["\#(token)"],"delay":0,"reason":"no stock"}"#)
            #expect(nacked.text.contains(#""in_hand":0"#), "\(nacked.text)")
            let again = try await Self.fetch(api, #"{"max":10,"visibility":600}"#)
            #expect(again.jobs.map { $0["attempt"]?.int64 } == [2, 1], "what was nacked comes before what is new")
            let extended = await api.ask("POST", "/v1/consumers/billing/extend", #"{"lease":"\#(again.lease)","visibility":600}"#)
            #expect(extended.text.contains(#""in_hand":2"#), "\(extended.text)")
            let shown = await api.ask("GET", "/v1/consumers/billing").text
            for part in [
                #""unacked":2"#, #""in_hand":2"#, #""waiting":0"#, #""name":"w1""#, #""attempts_max":3"#, #""visibility_ms":30000"#,
            ] {
                #expect(shown.contains(part), "\(part) in \(shown)")
            }
            // The next fetch acks the one before.
            let last = try await Self.fetch(api, #"{"ack":"\#(again.lease)"}"#)
            #expect(last.jobs.isEmpty && last.lease.isEmpty)
            let listed = await api.ask("GET", "/v1/consumers").text
            #expect(listed.contains(#""name":"stock","triggers":["orders"]"#) && listed.contains(#""waiting":3"#), "\(listed)")
        }
    }

    /// Show f: bad input gets clear errors, and nothing is lost.
    @Test func f_acksThatAreNotTheirsAreRefused() async throws {
        try await Self.withConsumers { api, store in
            try await Self.commit(store, cycle: 1, keys: ["a", "b"])
            let mine = try await Self.fetch(api, #"{"max":1}"#)
            let other = try await Self.fetch(api, #"{"max":1}"#)
            let id = try #require(other.jobs[0]["id"]?.string)
            let path = "/v1/consumers/billing"
            let cases: [(method: String, path: String, body: String, status: Int)] = [
                ("POST", "/v1/consumers/nobody/fetch", "{}", 404), ("GET", "/v1/consumers/nobody", "", 404),
                ("POST", "\(path)/ack", "{}", 400), ("POST", "\(path)/ack", #"{"lease":"x"}"#, 400),
                ("POST", "\(path)/ack", #"{"lease":"lease_9_1_a"}"#, 404),
                ("POST", "/v1/consumers/stock/ack", #"{"lease":"\#(mine.lease)"}"#, 404),
                ("POST", "\(path)/ack", #"{"lease":"\#(mine.lease.dropLast(2))zz"}"#, 404),
                ("POST", "\(path)/ack", #"{"lease":"\#(mine.lease)","jobs":["\#(id)"]}"#, 404),
                ("POST", "\(path)/ack", #"{"lease":"\#(mine.lease)","jobs":[]}"#, 400),
                ("POST", "\(path)/ack", #"{"lease":"\#(mine.lease)","jobs":["nonsense"]}"#, 400),
                ("POST", "\(path)/ack", #"{"lease":"\#(mine.lease)","jobs":"all"}"#, 400),
                ("POST", "\(path)/nack", #"{"lease":"\#(mine.lease)","delay":-1}"#, 400),
                ("POST", "\(path)/nack", #"{"lease":"\#(mine.lease)","delay":1.5}"#, 400),
                ("POST", "\(path)/extend", #"{"lease":"\#(mine.lease)","visibility":0}"#, 400),
                ("POST", "\(path)/fetch", #"{"max":0}"#, 400), ("POST", "\(path)/fetch", #"{"max":1001}"#, 400),
                ("POST", "\(path)/fetch", #"{"wait":61}"#, 400), ("POST", "\(path)/fetch", #"{"limit":5}"#, 400),
                ("POST", "\(path)/fetch", #"{"ack":"lease_1_99_a"}"#, 404), ("POST", "\(path)/fetch", "[]", 400),
                ("GET", "\(path)/fetch", "", 405), ("PUT", "\(path)/position", "{}", 400),
                ("PUT", "\(path)/position", #"{"to":"yesterday"}"#, 400), ("PUT", "\(path)/position", #"{"time":"2026-01-01"}"#, 400),
                ("PUT", "\(path)/position", #"{"to":"now","after":"x"}"#, 400), ("PUT", "\(path)/position", #"{"after":"x"}"#, 400),
                ("GET", "/v1/jobs/stream", "", 200),
            ]
            for test in cases {
                let answer = await api.ask(test.method, test.path, test.body)
                #expect(answer.status == test.status, "\(test): \(answer.text)")
            }
            #expect(await api.ask("GET", "/v1/jobs/stream", query: [("after", "nonsense")]).status == 400)
            let shown = await api.ask("GET", path).text
            #expect(shown.contains(#""unacked":2"#) && shown.contains(#""in_hand":2"#), "\(shown)")
            for lease in [mine.lease, other.lease] {
                #expect(await api.ask("POST", "\(path)/ack", #"{"lease":"\#(lease)"}"#).text.contains(#""settled":1"#))
            }
        }
    }

    @Test func f_settingsThatNoConsumerHasAreRefused() async throws {
        try await Fixture.withAPI { api, _ in
            for (line, word) in [
                ("billing: {kind: pull, visibility: 13h}", "visibility"), ("billing: {kind: pull, visibility: 10ms}", "visibility"),
                ("billing: {kind: pull, attempts_max: 0}", "attempts_max"), ("billing: {kind: pull, unacked_max: many}", "unacked_max"),
                (
                    "billing: {kind: push, url: \"https://example.com\", secret: whsec_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa, visibility: 5s}",
                    "pull"
                ),
            ] {
                let answer = await api.apply("destinations:\n  \(line)\n")
                #expect(answer.status == 400, "\(line)")
                #expect(String(decoding: answer.body, as: UTF8.self).contains(word), "\(line)")
            }
        }
    }

    /// What the document allows is what is done, to its last second and byte.
    @Test func aNacksBoundsAreThoseOfTheDocument() async throws {
        try await Self.withConsumers { api, store in
            try await Self.commit(store, cycle: 1, keys: ["a", "b"])
            let path = "/v1/consumers/billing/nack"
            let first = try await Self.fetch(api, #"{"max":1}"#)
            for (delay, reason) in [(86_401, 1), (0, 1025)] {
                let words = String(repeating: "x", count: reason)
                #expect(await api.ask("POST", path, #"{"lease":"\#(first.lease)","delay":\#(delay),"reason":"\#(words)"}"#).status == 400)
            }
            let words = String(repeating: "x", count: 1024)
            let most = await api.ask("POST", path, #"{"lease":"\#(first.lease)","delay":86400,"reason":"\#(words)"}"#)
            #expect(most.status == 200 && most.text.contains(#""settled":1"#), "\(most.text)")
            // Of a lease that was acked nothing comes again.
            let second = try await Self.fetch(api)
            #expect(await api.ask("POST", "/v1/consumers/billing/ack", #"{"lease":"\#(second.lease)"}"#).status == 200)
            let refused = await api.ask("POST", path, #"{"lease":"\#(second.lease)"}"#)
            #expect(refused.status == 409 && refused.text.contains("conflict"), "\(refused.text)")
        }
    }

    @Test func P9_aSeekBehindRetentionIsRefused() async throws {
        try await Self.withConsumers { api, store in
            try await Self.commit(store, cycle: 1, keys: ["a", "b"])
            for name in ["billing", "stock"] {
                let (lease, _) = try await Self.fetch(api, from: name)
                #expect(await api.ask("POST", "/v1/consumers/\(name)/ack", #"{"lease":"\#(lease)"}"#).status == 200)
            }
            let policy = RetentionPolicy(jobs: .days(1), rowsPerBatchMax: 100)
            let later = Timestamp(milliseconds: 1_800_000_000_000) + .days(2)
            for _ in 0..<100 { if try await !store.prune(policy, at: later).isPartial { break } }
            let path = "/v1/consumers/billing/position"
            let gone = await api.ask("PUT", path, #"{"time":"2027-01-15T08:00:00Z"}"#)
            #expect(gone.status == 410 && gone.text.contains("past_retention"), "\(gone.text)")
            let context = try JSONDocument(Array(gone.text.utf8)).root["error"]?["context"]
            let next = try #require(context?["next"]?.string)
            #expect(await api.ask("PUT", path, #"{"after":"\#(next)"}"#).status == 200)
            #expect(await api.ask("PUT", path, #"{"to":"oldest"}"#).status == 200)
        }
    }

    @Test func P9_aSeekOverTheAPISaysWhatItSkips() async throws {
        try await Self.withConsumers { api, store in
            try await Self.commit(store, cycle: 1, keys: ["a", "b", "c"])
            _ = try await Self.fetch(api, #"{"max":1}"#)
            let now = await api.ask("PUT", "/v1/consumers/billing/position", #"{"to":"now"}"#)
            #expect(now.text.contains(#""skipped":3,"again":0"#), "\(now.text)")
            let oldest = await api.ask("PUT", "/v1/consumers/billing/position", #"{"to":"oldest"}"#)
            #expect(oldest.text.contains(#""skipped":0,"again":3"#), "\(oldest.text)")
            #expect(try await Self.fetch(api).jobs.count == 3)
            // Everything would be skipped in silence. A clock that is a little ahead is no mistake.
            let (clock, path) = (api.parts.clock, "/v1/consumers/billing/position")
            for later in ["2099-01-01T00:00:00Z", (clock.now() + .minutes(2)).description] {
                let future = await api.ask("PUT", path, #"{"time":"\#(later)"}"#)
                #expect(future.status == 400 && future.text.contains("--to now"), "\(future.text)")
            }
            #expect(await api.ask("GET", "/v1/consumers/billing").text.contains(#""in_hand":3"#), "nothing was moved")
            let hourAgo = await api.ask("PUT", path, #"{"time":"1h"}"#)
            #expect(hourAgo.text.contains(#""skipped":0,"again":3"#), "\(hourAgo.text)")
            let soon = await api.ask("PUT", path, #"{"time":"\#((clock.now() + .seconds(30)).description)"}"#)
            #expect(soon.text.contains(#""skipped":3"#), "\(soon.text)")
        }
    }

    /// What retention makes of jobs that nobody fetches is told of, as any other dead letter is.
    @Test func P9_jobsThatExpireAreToldOf() async throws {
        try await Self.withConsumers { api, store in
            try await Self.commit(store, cycle: 1, keys: ["a", "b"])
            let alarms = AlarmBoard(clock: api.parts.clock)
            let expired = DeadLetterWatch(store: store, alarms: alarms)
            let later = Timestamp(milliseconds: 1_800_000_000_000) + .days(8)
            let policy = RetentionPolicy(jobs: .days(9), pendingDeliveries: .days(7), rowsPerBatchMax: 100)
            var report = try await store.prune(policy, at: later)
            for _ in 0..<100 where report.isPartial { report = try await store.prune(policy, at: later) }
            try await expired.tell(since: later + .milliseconds(1))
            #expect(alarms.standing().isEmpty, "nothing died since")
            try await expired.tell(since: later)
            #expect(Set(alarms.standing().map(\.alarm.subject)) == ["destination billing", "destination stock"])
            #expect(alarms.standing().allSatisfy { $0.alarm.kind == .deadLetters && $0.alarm.message.contains("expired") })
            try await expired.clear()
            #expect(alarms.standing().count == 2, "they are there")
            // Retention takes the jobs with their letters, and then there is nothing to tell of.
            let end = later + .days(10)
            report = try await store.prune(policy, at: end)
            for _ in 0..<100 where report.isPartial { report = try await store.prune(policy, at: end) }
            try await expired.clear()
            #expect(alarms.standing().isEmpty)
        }
    }

    /// Filters of an attachment: left out, or a dead letter, never lost.
    @Test func P9_aFilterDecidesWhatAWorkerGets() async throws {
        struct Sieve: JobSieve {
            func sift(_ job: StoredJob) throws(SluiceError) -> Sifted {
                switch job.dedupKey.first {
                case UInt8(ascii: "s"): return .skip
                case UInt8(ascii: "f"): throw SluiceError(.invalid, "line 1: no such field")
                default: return .pass(record: Array("{}".utf8), isProjected: true)
                }
            }
        }
        try await Self.withConsumers { api, store in
            let settings = AttachmentSettings(filter: "true").json
            try await store.apply(
                [.setAttachment(trigger: "orders", destination: "billing", settings: settings)], namespace: .default,
                at: api.parts.clock.now())
            let alarms = AlarmBoard(clock: api.parts.clock)
            let consumers = ConsumerService(store: store, time: api.parts.clock, alarms: alarms, sieves: { _, _, _, _ in Sieve() })
            try await Self.commit(store, cycle: 1, keys: ["s1", "s2", "f1", "s3", "p1", "s4"])
            // It waits, so that a machine with other work may take its time: without, it reads on for two seconds.
            let first = try await consumers.fetch("billing", FetchOrder(jobsMax: 2, waitSeconds: 60))
            try #require(first.jobs.count == 1)
            #expect(first.jobs.map { String(decoding: $0.job.dedupKey, as: UTF8.self) } == ["p1"], "batches without any are read on from")
            #expect(first.jobs[0].job.record == Array("{}".utf8))
            var bytes: [UInt8] = []
            let names = try await consumers.triggerNames(of: first.jobs)
            try first.write(names: { names[$0] }, into: &bytes)
            #expect(String(decoding: bytes, as: UTF8.self).contains(#""projected":true"#))
            #expect(try await consumers.fetch("billing", FetchOrder()).jobs.isEmpty)
            let id = try #require(try await store.definitions(.default).destinations.first { $0.name == "billing" }).id
            let dead = try await store.deliveries(DeliveryQuery(destination: id, state: .dead))
            #expect(dead.map(\.reason) == ["filter"])
            #expect(await api.ask("GET", "/v1/destinations/billing").text.contains(#""filtered":4,"#), "what was left out is counted")
            #expect(alarms.standing().count == 1)
            _ = try await consumers.settle("billing", lease: try #require(first.lease).text, jobs: nil, .ack)
            #expect(try await store.consumers(.default, only: id, at: api.parts.clock.now()).first?.unacked == 0)
        }
    }

    // MARK: Waiting

    static func until(_ condition: () -> Bool) async throws {
        for _ in 0..<30_000 where !condition() { try await Task.sleep(for: .milliseconds(1)) }
        if !condition() { throw SluiceError("timed_out", "waited in vain") }
    }

    @Test func P9_aWaitingWorkerGetsTheNextCommit() async throws {
        try await Self.withConsumers { api, store in
            async let waiting = Self.fetch(api, #"{"wait":60}"#)
            try await Self.until { api.parts.consumers.waiting > 0 }
            try await Self.commit(store, cycle: 1, keys: ["a"])
            #expect(try await waiting.jobs.count == 1)
        }
    }

    @Test func P9_aWaitingWorkerGetsWhatComesAgain() async throws {
        try await Self.withConsumers { api, store in
            try await Self.commit(store, cycle: 1, keys: ["a"])
            let lost = try await Self.fetch(api, #"{"visibility":1}"#)
            #expect(try await Self.fetch(api, #"{"wait":60}"#).jobs.map { $0["attempt"]?.int64 } == [2])
            #expect(await api.ask("POST", "/v1/consumers/billing/ack", #"{"lease":"\#(lost.lease)"}"#).status == 409)
        }
    }

    /// Show e: ten thousand waiting long polls cost no busy loop. One commit wakes one of them, and the next if there is more.
    @Test func e_tenThousandWaitingFetchesAreWokenOneByOne() async throws {
        try await Self.withConsumers { api, store in
            let consumers = api.parts.consumers
            let count = 10_000
            let served = Shared(0)
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<count {
                    group.addTask {
                        let fetched = try await consumers.fetch("billing", FetchOrder(jobsMax: 1, waitSeconds: 60))
                        if !fetched.jobs.isEmpty { served.value.withLock { $0 += 1 } }
                    }
                }
                try await Self.until { consumers.waiting >= count }
                let before = consumers.woken
                try await Self.commit(store, cycle: 1, keys: ["a"])
                try await Self.until { served.value.withLock { $0 } >= 1 }
                #expect(consumers.woken - before <= 3, "\(consumers.woken - before) were woken for one job")
                try await Self.commit(store, cycle: 2, keys: (0..<50).map { "k\($0)" })
                try await Self.until { served.value.withLock { $0 } >= 51 }
                #expect(consumers.woken - before <= 51 + 20, "\(consumers.woken - before) were woken for 51 jobs")
                try await Self.until { consumers.waiting == count - 51 }
                consumers.stopWaiting()
                try await group.waitForAll()
            }
            #expect(served.value.withLock { $0 } == 51)
        }
    }

    @Test func P9_aWaitThatIsBrokenOffPassesTheNewsOn() async throws {
        try await Self.withConsumers { api, store in
            let consumers = api.parts.consumers
            // No job of an earlier round comes again while a later one runs.
            let order = FetchOrder(waitSeconds: 60, visibility: .minutes(10))
            for round in 1...20 {
                try await withThrowingTaskGroup(of: Int.self) { group in
                    group.addTask { try await consumers.fetch("billing", order).jobs.count }
                    try await Self.until { consumers.waiting >= 1 }
                    try await withThrowingTaskGroup(of: Void.self) { others in
                        for _ in 0..<8 { others.addTask { _ = try? await consumers.fetch("billing", order) } }
                        try await Self.until { consumers.waiting >= 9 }
                        async let committed: Void = Self.commit(store, cycle: Int64(round), keys: ["k\(round)"])
                        others.cancelAll()
                        try await committed
                    }
                    // Whoever was cancelled after it got the job has it; otherwise it must reach the one that waits.
                    let shown = try await store.consumers(.default, only: nil, at: api.parts.clock.now())[0]
                    if shown.unacked < round { #expect(try await group.next() == 1) } else { group.cancelAll() }
                }
                // Whoever was cancelled while it read what it had been given gave it back: that is nobody's news in the next round.
                while try await !consumers.fetch("billing", FetchOrder(visibility: .minutes(10))).jobs.isEmpty {}
            }
        }
    }

    // MARK: Streams

    @Test func P9_aStreamGivesEachJobAndResumes() async throws {
        try await Self.withConsumers { api, store in
            try await Self.commit(store, cycle: 1, keys: ["a", "b"]) { "{\"id\":\"\($0)\",\r\n\"n\":\n1}" }
            let events = try await Self.read(api, until: 3) { try await Self.commit(store, cycle: 2, keys: ["c"]) }
            #expect(events.count == 3)
            #expect(events.allSatisfy { $0.kind == "job" && !$0.id.isEmpty })
            let keys = try events.map { try JSONDocument(Array($0.data.utf8)).root["dedup_key"]?.string }
            #expect(keys == ["a", "b", "c"])
            let resumed = try await Self.read(api, lastEventID: events[0].id, until: 2) {}
            #expect(resumed.map(\.id) == [events[1].id, events[2].id])
            let fromNow = try await Self.read(api, after: "now", until: 1) { try await Self.commit(store, cycle: 3, keys: ["d"]) }
            #expect(try fromNow.map { try JSONDocument(Array($0.data.utf8)).root["dedup_key"]?.string } == ["d"])
        }
    }

    @Test func P9_aStreamEndsWithTheServer() async throws {
        try await Self.withConsumers { api, _ in
            let answer = await api.respond(to: APIRequest("GET", "/v1/jobs/stream", isTrusted: true))
            let stream = try #require(answer.stream)
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try await stream { _ in } }
                try await Self.until { api.parts.jobs.waiting > 0 }
                api.parts.jobs.stopWaiting()
                try await group.waitForAll()
            }
        }
    }

    /// A reader that does not read is not read ahead for: nothing more than one page is taken from the store.
    @Test func P10_aStreamIsNotBufferedWithoutBound() async throws {
        try await Self.withConsumers { api, store in
            let record = "\"" + String(repeating: "x", count: 2000) + "\""
            try await Self.commit(store, cycle: 1, keys: (0..<200).map { "k\($0)" }) { _ in record }
            let answer = await api.respond(to: APIRequest("GET", "/v1/jobs/stream", isTrusted: true))
            let stream = try #require(answer.stream)
            let largest = Shared(0)
            let total = Shared(0)
            struct Enough: Error {}
            await #expect(throws: Enough.self) {
                try await stream { bytes in
                    largest.value.withLock { $0 = max($0, bytes.count) }
                    let sum = total.value.withLock { sum in
                        sum += bytes.count
                        return sum
                    }
                    if sum > 200 * 2000 { throw Enough() }
                }
            }
            #expect(largest.value.withLock { $0 } < 128 * 1024)
        }
    }

    struct Event {
        var id = "", kind = "", data = ""
    }

    /// Reads so many events of a stream, by the rules of WHATWG HTML, 9.2.6, as far as they are used.
    static func read(
        _ api: API, after: String? = nil, lastEventID: String? = nil, until count: Int,
        _ meanwhile: @Sendable @escaping () async throws -> Void
    ) async throws -> [Event] {
        struct Enough: Error {}
        var request = APIRequest("GET", "/v1/jobs/stream", query: after.map { [("after", $0)] } ?? [], isTrusted: true)
        request.lastEventID = lastEventID
        let answer = await api.respond(to: request)
        #expect(answer.status == 200)
        let stream = try #require(answer.stream)
        let text = Text()
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                do {
                    try await stream { bytes in
                        text.append(bytes)
                        if text.events.count >= count { throw Enough() }
                    }
                } catch is Enough {}
            }
            group.addTask { try await meanwhile() }
            try await group.waitForAll()
        }
        return text.events
    }

    final class Text: Sendable {
        private let bytes = Mutex<[UInt8]>([])
        func append(_ more: [UInt8]) { bytes.withLock { $0 += more } }
        var events: [Event] {
            let text = String(decoding: bytes.withLock { $0 }, as: UTF8.self)
            var (events, event): ([Event], Event) = ([], Event())
            for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
                if line.isEmpty {
                    if !event.data.isEmpty { events.append(event) }
                    event = Event()
                } else if line.hasPrefix("id: ") {
                    event.id = String(line.dropFirst(4))
                } else if line.hasPrefix("event: ") {
                    event.kind = String(line.dropFirst(7))
                } else if line.hasPrefix("data: ") {
                    event.data += (event.data.isEmpty ? "" : "\n") + line.dropFirst(6)
                }
            }
            return events
        }
    }
}

private final class Shared<Value: Sendable>: Sendable {
    let value: Mutex<Value>
    init(_ value: Value) { self.value = Mutex(value) }
}
