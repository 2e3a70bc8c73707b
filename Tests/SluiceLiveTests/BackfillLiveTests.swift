import Foundation
import GRDB
import SluiceCore
import SluiceTesting
import Synchronization
import Testing

extension Live {
    /// Show g: a window of many records is read again while the trigger runs; the statement is right, also where records were
    /// deleted from our store on purpose, and no job is doubled.
    @Suite(.serialized) struct BackfillLiveTests {
        static let records = ProcessInfo.processInfo.environment["SLUICE_BACKFILL_RECORDS"].flatMap(Int.init) ?? 6000

        /// A provider's clock that is set by hand until it is let go.
        final class PastClock: Sendable {
            private let set = Mutex<Timestamp?>(nil)
            init(_ time: Timestamp) { set.withLock { $0 = time } }
            func now() -> Timestamp { set.withLock { $0 } ?? SystemTime.now() }
            func move(to time: Timestamp?) { set.withLock { $0 = time } }
        }

        static func configuration(_ provider: String, since: Timestamp, connector: String) -> String {
            """
            connections:
              demo:
                connector: \(connector)
                fields: { site_url: "\(provider)", api_key: "${env:DEMO_KEY}" }
                webhook: { secrets: ["${env:DEMO_HOOK}"] }
                allow_private: true
            triggers:
              subscriptions:
                connection: demo
                type: updated_record
                input: { resource: subscription, since: \(connector == "chargebee-lua" ? "\(since.seconds)" : "\"\(since)\"") }
                safety_interval: 2s
            """
        }

        /// Records of the last two hours, some a second, up to one minute ago; then the clock is let go.
        static func fill(_ provider: StandInProvider, _ clock: PastClock, _ count: Int, from: Timestamp, to: Timestamp) {
            let step = (to - from).milliseconds / Int64(count)
            for number in 0..<count {
                clock.move(to: from + .milliseconds(step * Int64(number)))
                provider.makeChanges(1)
            }
            clock.move(to: nil)
        }

        /// Deletes each hundredth job and its dedup key from the file of a server that is stopped. Returns how many.
        static func lose(_ sluice: SluiceProcess, every part: Int) throws -> Int {
            let queue = try DatabaseQueue(path: sluice.dataDirectory + "/sluice.db")
            defer { try? queue.close() }
            return try queue.write { db in
                let lost = try Int64.fetchAll(db, sql: "SELECT seq FROM job WHERE position % ? = 7", arguments: [part])
                try db.execute(
                    sql: "DELETE FROM dedup WHERE key IN (SELECT dedup_key FROM job WHERE position % ? = 7)", arguments: [part])
                try db.execute(sql: "DELETE FROM job WHERE position % ? = 7", arguments: [part])
                return lost.count
            }
        }

        struct Scene: Sendable {
            var provider: StandInProvider
            var sluice: SluiceProcess
            var from: Timestamp
            var to: Timestamp
        }

        /// A provider with a past, a server that has made a job of all of it, and live changes from then on.
        static func with(_ count: Int, connector: String = "chargebee", _ body: @escaping @Sendable (Scene) async throws -> Void)
            async throws
        {
            let now = Timestamp(seconds: SystemTime.now().seconds)
            let (from, to) = (now - .hours(2), now - .minutes(2))
            let clock = PastClock(from)
            var settings = PromiseLiveTests.settings(PromiseLiveTests.quiet, perSecond: 0)
            settings.world = .init(resources: ["subscription"], updateShare: 0, lagShare: 0)
            settings.now = { clock.now() }
            let fixed = settings
            try await withTemporaryDirectory { directory in
                try await StandInProvider.with(fixed) { provider in
                    fill(provider, clock, count, from: from, to: to)
                    let sluice = try SluiceProcess(
                        .init(
                            directory: directory,
                            configuration: configuration(provider.baseURL, since: from - .hours(1), connector: connector),
                            environment: Chargebee.environment))
                    defer { sluice.kill9() }
                    try await sluice.start()
                    try await waitUntil("all of the past is jobs", seconds: 180, everyMilliseconds: 200) {
                        (try? await sluice.trigger("subscriptions")["jobs"]?.int64) ?? 0 >= Int64(count)
                    }
                    try await body(Scene(provider: provider, sluice: sluice, from: from, to: to))
                }
            }
        }

        static func start(_ scene: Scene, _ more: String) async throws -> Int64 {
            let answer = try await scene.sluice.send(
                "POST", "/v1/backfills",
                body: #"{"trigger":"subscriptions","from":"\#(scene.from)","to":"\#(scene.to)",\#(more)}"#)
            #expect(answer.status == 201, "\(answer.text)")
            return try #require(try answer.json()["id"]?.int64)
        }

        static func ended(_ scene: Scene, _ id: Int64, seconds: Double = 180) async throws -> JSONView {
            try await waitUntil("the backfill's end", seconds: seconds, everyMilliseconds: 100) {
                ["done", "failed", "cancelled"].contains(try await scene.sluice.send("GET", "/v1/backfills/\(id)").json()["state"]?.string)
            }
            return try await scene.sluice.send("GET", "/v1/backfills/\(id)").json()
        }

        @Test func g_anAuditIsRightAlsoWhereRecordsWereLostOnPurpose() async throws {
            let count = Self.records
            try await Self.with(count) { scene in
                let whole = try await Self.ended(scene, try await Self.start(scene, #""audit":true"#))
                #expect(whole["state"]?.string == "done")
                #expect(
                    whole["statement"]?.string
                        == "From \(scene.from) to \(scene.to) the provider had \(count) records, Sluice has \(count) of them, 0 repaired. "
                        + "Nothing is missing.")
                _ = await scene.sluice.terminate()
                let lost = try Self.lose(scene.sluice, every: 100)
                #expect(lost == count / 100)
                try await scene.sluice.start()
                let looked = try await Self.ended(scene, try await Self.start(scene, #""audit":true"#))
                #expect(looked["counts"]?["missing"]?.int64 == Int64(lost))
                #expect(
                    looked["statement"]?.string?.contains("Sluice has \(count - lost) of them, 0 repaired. \(lost) are missing") == true)
                let said = try await Command(scene.sluice.options.directory).run(
                    ["audit", "subscriptions", "--from", "\(scene.from)", "--to", "\(scene.to)", "--data", scene.sluice.dataDirectory])
                #expect(
                    said.code == 1 && said.text.contains("Sluice has \(count - lost) of them, 0 repaired. \(lost) are missing"), "\(said)")
                // Now with live changes beside it, and the plug pulled midway.
                let before = try await scene.sluice.jobs().count
                let id = try await Self.start(scene, #""audit":true,"repair":true"#)
                let statement = try await withThrowingTaskGroup(of: Void.self) { group in
                    group.addTask {
                        while !Task.isCancelled {
                            scene.provider.makeChanges(1)
                            try? await Task.sleep(for: .milliseconds(50))
                        }
                    }
                    try await waitUntil("it is in its midst", seconds: 60, everyMilliseconds: 5) {
                        let counts = try await scene.sluice.send("GET", "/v1/backfills/\(id)").json()["counts"]
                        return counts?["provider"]?.int64 ?? 0 > Int64(count / 3)
                    }
                    scene.sluice.kill9()
                    try await scene.sluice.start()
                    let ended = try await Self.ended(scene, id)
                    group.cancelAll()
                    return ended
                }
                #expect(
                    statement["statement"]?.string
                        == "From \(scene.from) to \(scene.to) the provider had \(count) records, Sluice has \(count) of them, "
                        + "\(lost) repaired. Nothing is missing.")
                let changes = scene.provider.changes
                #expect(changes.count > count)
                try await waitUntil("the live changes", seconds: 60, everyMilliseconds: 200) {
                    try await scene.sluice.jobs().count >= changes.count
                }
                let jobs = try await scene.sluice.jobs()
                #expect(Set(jobs.map(\.dedupKey)) == Set(changes.map(\.key)), "every change is a job")
                #expect(jobs.count == changes.count, "and none is two")
                #expect(jobs.count > before + lost, "live changes were made meanwhile")
                let made = try await scene.sluice.send("GET", "/v1/backfills/\(id)/differences?kind=missing&limit=1000").json()
                #expect(made["differences"]?.elements?.count == lost)
                #expect(made["differences"]?.elements?.allSatisfy { $0["position"]?.int64 ?? 0 > Int64(before) } == true)
            }
        }

        /// The same service by lambdas: `cursor_at` and `record_time` keep the window, to the second.
        @Test func g_aTriggerByLambdasIsAuditedAndMended() async throws {
            let count = 600
            try await Self.with(count, connector: "chargebee-lua") { scene in
                _ = await scene.sluice.terminate()
                let lost = try Self.lose(scene.sluice, every: 100)
                try await scene.sluice.start()
                let command = Command(scene.sluice.options.directory)
                let window = ["subscriptions", "--from", "\(scene.from)", "--data", scene.sluice.dataDirectory]
                // A part of it, whose records are counted by when they were changed.
                let middle = Timestamp(seconds: scene.from.seconds + 3600)
                let part = scene.provider.changes.filter { $0.madeAt < middle }.count
                let looked = try await command.run(["audit"] + window + ["--to", "\(middle)"])
                #expect(looked.code == 1 && looked.text.contains("the provider had \(part) records"), "\(part): \(looked.text)")
                let mended = try await command.run(
                    ["backfill", "start"] + window + ["--to", "\(scene.to)", "--mode", "missing-only", "--wait"])
                #expect(
                    mended.code == 0
                        && mended.text.contains(
                            "the provider had \(count) records, Sluice has \(count) of them, \(lost) repaired. Nothing is missing."),
                    "\(mended.text)")
                let jobs = try await scene.sluice.jobs()
                #expect(Set(jobs.map(\.dedupKey)) == Set(scene.provider.changes.map(\.key)) && jobs.count == count)
                let bad = try await command.run(["audit"] + window + ["--cursor", "{mark"])
                #expect(bad.code == 2 && bad.text.contains("--cursor is JSON"), "\(bad.text)")
                let given = try await command.run(["audit"] + window + ["--cursor", #"{"mark":\#(middle.seconds)}"#])
                #expect(given.text.contains("It began at a cursor given by hand"), "\(given.text)")
            }
        }

        @Test func g_backfillsRefuseWhatCannotBe() async throws {
            try await Self.with(50) { scene in
                func refusal(_ body: String) async throws -> (status: Int, text: String) {
                    let answer = try await scene.sluice.send("POST", "/v1/backfills", body: body)
                    return (answer.status, try answer.json()["error"]?["message"]?.string ?? answer.text)
                }
                let window = #""from":"\#(scene.from)","to":"\#(scene.to)""#
                for (body, status, words) in [
                    (#"{"trigger":"nobody",\#(window)}"#, 404, "no trigger `nobody`"),
                    (#"{"trigger":"subscriptions","from":"\#(scene.to)","to":"\#(scene.from)"}"#, 400, "must lie before"),
                    (#"{"trigger":"subscriptions","from":"2999-01-01T00:00:00Z"}"#, 400, "lies in the future"),
                    (#"{"trigger":"subscriptions","from":"2024-01-01T00:00:00"}"#, 400, "names no zone"),
                    (#"{"trigger":"subscriptions","from":1700000000}"#, 400, "`from` is text"),
                    (#"{"trigger":"subscriptions"}"#, 400, "`from` is text, and it is missing"),
                    (#"{"trigger":"subscriptions",\#(window),"mode":"everything"}"#, 400, "one of missing-only, replay-all, dry-run"),
                    (#"{"trigger":"subscriptions",\#(window),"audit":true,"mode":"dry-run"}"#, 400, "an audit has no `mode`"),
                    (#"{"trigger":"subscriptions",\#(window),"repair":true}"#, 400, "belongs to an audit"),
                    (#"{"trigger":"subscriptions",\#(window),"until":1}"#, 400, "takes no `until`"),
                    (#"[]"#, 400, "must be a JSON object"),
                ] {
                    let answer = try await refusal(body)
                    #expect(answer.status == status && answer.text.contains(words), "\(body): \(answer)")
                }
                for path in ["/v1/backfills/77", "/v1/backfills/77/differences"] {
                    #expect(try await scene.sluice.send("GET", path).status == 404)
                }
                #expect(try await scene.sluice.send("GET", "/v1/backfills/x").status == 400)
                // A provider that is down is waited for, and a second one of the trigger is refused meanwhile.
                scene.provider.setFaults(.always(.serverError))
                let id = try await Self.start(scene, #""mode":"missing-only""#)
                try await waitUntil("it waits", seconds: 30) {
                    try await scene.sluice.send("GET", "/v1/backfills/\(id)").json()["waits_for"]?.string?.contains("fault of its own")
                        == true
                }
                let second = try await refusal(#"{"trigger":"subscriptions",\#(window)}"#)
                #expect(second.status == 409 && second.text.contains("sluice backfill cancel \(id)"))
                #expect(try await scene.sluice.send("POST", "/v1/backfills/\(id)/dance").status == 404)
                #expect(try await scene.sluice.send("POST", "/v1/backfills/\(id)/pause").json()["state"]?.string == "paused")
                scene.provider.setFaults(.none)
                #expect(try await scene.sluice.send("POST", "/v1/backfills/\(id)/resume").json()["state"]?.string == "running")
                let done = try await Self.ended(scene, id)
                #expect(done["statement"]?.string?.contains("the provider had 50 records, Sluice has 50 of them, 0 repaired.") == true)
                #expect(try await scene.sluice.send("POST", "/v1/backfills/\(id)/cancel").status == 409)
                #expect(try await scene.sluice.send("GET", "/v1/backfills?trigger=subscriptions").json()["backfills"]?.elements?.count == 1)
            }
        }
    }
}
