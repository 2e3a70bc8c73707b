import Foundation
import SluiceCore
import SluiceTesting
import Synchronization
import Testing

extension Live {
    /// Show d: an etcd that nobody here wrote, with writes going on, a compaction, and Sluice killed in the middle of both.
    @Suite(.serialized) struct EtcdLiveTests {
        /// Every change that etcd acknowledged, by whoever made it.
        final class Ledger: Sendable {
            private let held = Mutex<Set<Etcd.Change>>([])
            var changes: Set<Etcd.Change> { held.withLock { $0 } }
            func note(_ change: Etcd.Change) { held.withLock { _ = $0.insert(change) } }
        }

        final class Flag: Sendable {
            private let held = Mutex(false)
            var isOver: Bool { held.withLock { $0 } }
            func end() { held.withLock { $0 = true } }
        }

        static func configuration(_ etcd: Etcd) -> String {
            """
            connections:
              store: { connector: etcd, fields: { base_url: "\(etcd.baseURL)" }, allow_private: true }
            triggers:
              changes: { connection: store, type: changed_key, input: { prefix: "app/" } }
            """
        }

        @Test func d_everyChangeInEtcdIsOneJobOverACompactionAndKills() async throws {
            try await withTemporaryDirectory("sluice-etcd") { directory in
                try await Etcd.with(directory: directory) { etcd in
                    let ledger = Ledger()
                    for number in 0..<20 { ledger.note(try await etcd.put("app/before\(number)", "\(number)")) }
                    let sluice = try SluiceProcess(.init(directory: directory, configuration: Self.configuration(etcd)))
                    defer { sluice.kill9() }
                    try await sluice.start()
                    try await Self.settle(sluice, ledger)
                    try await Self.writeWhile(etcd, ledger, "a", overwrites: true) {
                        try await Task.sleep(for: .seconds(2))
                    }
                    try await Self.settle(sluice, ledger)
                    #expect(try await Self.alarms(sluice).isEmpty)

                    // Killed, and what was written meanwhile is compacted: from there only the keys as they are can be read.
                    try await Self.writeWhile(etcd, ledger, "b", overwrites: false) {
                        try await Task.sleep(for: .milliseconds(700))
                        sluice.kill9()
                        try await Task.sleep(for: .milliseconds(700))
                        try await etcd.compact(try await etcd.revision())
                        try await sluice.start()
                        try await Task.sleep(for: .seconds(1))
                    }
                    try await Self.settle(sluice, ledger)
                    #expect(try await Self.alarms(sluice).contains { $0.contains("gap") }, "and it says that it had to")

                    // A compaction behind the back of a watch that is up to date harms nothing; nor does a kill that leaves the history.
                    try await Self.writeWhile(etcd, ledger, "c", overwrites: true) {
                        try await Task.sleep(for: .milliseconds(500))
                        sluice.kill9()
                        try await Task.sleep(for: .milliseconds(500))
                        try await sluice.start()
                    }
                    try await Self.settle(sluice, ledger)
                    try await etcd.compact(try await etcd.revision())
                    for number in 0..<5 { ledger.note(try await etcd.delete("app/before\(number)")) }
                    try await Self.settle(sluice, ledger)
                    let trigger = try await sluice.trigger("changes")
                    #expect(trigger["kind"]?.string == "long_polling")
                    #expect(trigger["polls_by_cause"]?["long_poll"]?.int64 ?? 0 > 0)
                }
            }
        }

        /// An etcd whose data were removed counts from 1 again, and with the same configuration has the same cluster_id: while Sluice
        /// watches it, and while Sluice is down and the new revisions pass the old ones.
        @Test func d_anEtcdThatWasWipedIsReadAnew() async throws {
            try await withTemporaryDirectory("sluice-etcd") { directory in
                let ports = (clients: try LocalPort.free(), peers: try LocalPort.free())
                let configuration = """
                    connections:
                      store: { connector: etcd, fields: { base_url: "http://127.0.0.1:\(ports.clients)" }, allow_private: true }
                    triggers:
                      changes: { connection: store, type: changed_key, input: { prefix: "app/" } }
                    """
                let sluice = try SluiceProcess(.init(directory: directory, configuration: configuration))
                defer { sluice.kill9() }
                var written: Set<String> = []
                for (life, count) in [3, 5, 9].enumerated() {
                    try? FileManager.default.removeItem(atPath: directory + "/etcd")
                    let values = (0..<count).map { "\($0) of life \(life)" }
                    let (isDown, before) = (life == 2, written)
                    if isDown { sluice.kill9() }
                    try await Etcd.with(directory: directory, ports: ports) { etcd in
                        // The same keys at the same revisions, and further ones.
                        for (number, value) in values.enumerated() { _ = try await etcd.put("app/\(number)", value) }
                        if life == 0 || isDown { try await sluice.start() }
                        let expected = before.union(values)
                        try? await waitUntil("each change is a job", seconds: 60, everyMilliseconds: 300) {
                            try await Self.values(sluice).count >= expected.count
                        }
                        let jobs = try await Self.values(sluice)
                        #expect(Set(jobs) == expected, "life \(life): missing \(expected.subtracting(jobs).sorted())")
                        #expect(jobs.count == expected.count, "life \(life): none twice")
                        try? await waitUntil("the alarm of a life that is not the first", seconds: 60, everyMilliseconds: 300) {
                            try await Self.alarms(sluice).contains { $0.contains("begun anew") } == (life > 0)
                        }
                        #expect(try await Self.alarms(sluice).contains { $0.contains("begun anew") } == (life > 0))
                        // The watch goes on in the new life.
                        _ = try await etcd.put("app/later", "later in life \(life)")
                        try? await waitUntil("what comes later", seconds: 60, everyMilliseconds: 300) {
                            (try? await Self.values(sluice))?.contains("later in life \(life)") ?? false
                        }
                        #expect(try await Self.values(sluice).count == expected.count + 1)
                    }
                    written.formUnion(values + ["later in life \(life)"])
                }
            }
        }

        private static func values(_ sluice: SluiceProcess) async throws -> [String] {
            try await sluice.jobs(trigger: "changes").compactMap { job in
                try JSONDocument(job.record).root["value"]?.string.flatMap { Data(base64Encoded: $0) }.map {
                    String(decoding: $0, as: UTF8.self)
                }
            }
        }

        /// Writes for as long as `body` takes: keys of the prefix and of others, some of them again and again.
        static func writeWhile(
            _ etcd: Etcd, _ ledger: Ledger, _ phase: String, overwrites: Bool, _ body: @Sendable () async throws -> Void
        ) async throws {
            let writing = Flag()
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    // Ended between two writes, so that each answer is heard.
                    for number in 0..<100_000 where !writing.isOver {
                        ledger.note(try await etcd.put("app/\(phase)\(number)", "value \(number) ü"))
                        _ = try await etcd.put("other/\(phase)\(number)", "not meant")
                        if overwrites { ledger.note(try await etcd.put("app/hot", "\(phase)\(number)")) }
                    }
                }
                defer { writing.end() }
                try await body()
                writing.end()
                try await group.waitForAll()
            }
        }

        /// Waits until each change is a job, and holds that none is one twice.
        static func settle(_ sluice: SluiceProcess, _ ledger: Ledger) async throws {
            try? await waitUntil("each change is a job", seconds: 60, everyMilliseconds: 300) {
                try await Self.jobs(sluice).count >= ledger.changes.count
            }
            let jobs = try await Self.jobs(sluice)
            let missing = ledger.changes.subtracting(jobs)
            #expect(missing.isEmpty, "missing \(missing.count) of \(ledger.changes.count), such as \(String(describing: missing.first))")
            #expect(Set(jobs).subtracting(ledger.changes).isEmpty, "nothing else")
            #expect(Set(jobs).count == jobs.count, "doubled \(jobs.count - Set(jobs).count)")
        }

        static func jobs(_ sluice: SluiceProcess) async throws -> [Etcd.Change] {
            try await sluice.jobs(trigger: "changes").map { try Etcd.change(of: $0.record) }
        }

        static func alarms(_ sluice: SluiceProcess) async throws -> [String] {
            let alarms = try await sluice.send("GET", "/v1/alarms").json()["alarms"]?.elements ?? []
            return alarms.compactMap { alarm in alarm["kind"]?.string.map { "\($0): \(alarm["message"]?.string ?? "")" } }
        }
    }
}
