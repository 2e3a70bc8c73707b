import Foundation
import SluiceCore
import SluiceTesting
import Testing

extension Live {
    /// Show d: a Kinto that nobody here wrote, written to and deleted from while Sluice reads, is killed and starts again.
    @Suite(.serialized) struct KintoLiveTests {
        static func configuration(_ kinto: Kinto) -> String {
            """
            connections:
              kinto:
                connector: kinto
                fields: { server_url: "\(kinto.serverURL)", user: \(Kinto.user), password: "${env:KINTO_PASSWORD}" }
                allow_private: true
            triggers:
              notes: { connection: kinto, type: changed_record, input: { bucket: notes, collection: all }, interval: 1s }
            """
        }

        @Test func d_theLastStateOfEachKintoRecordIsAJob_killedMidway() async throws {
            try await withTemporaryDirectory("sluice-kinto") { directory in
                try FileManager.default.createDirectory(atPath: directory + "/kinto", withIntermediateDirectories: true)
                try await Kinto.with(directory: directory + "/kinto") { try await Self.play($0, directory) }
            }
        }

        static func play(_ kinto: Kinto, _ directory: String) async throws {
            var ledger = Ledger()
            // With a mark from the first poll on, deletions show as tombstones.
            try await ledger.put(kinto, "seed")
            let sluice = try SluiceProcess(
                .init(directory: directory, configuration: configuration(kinto), environment: ["KINTO_PASSWORD": Kinto.password]))
            try await sluice.start()
            defer { sluice.kill9() }
            try await waitUntil("the first poll", seconds: 60) { try await !sluice.jobs().isEmpty }
            try await ledger.write(kinto, 120)
            sluice.kill9()
            try await ledger.write(kinto, 120)
            try await sluice.start()
            try await ledger.write(kinto, 120)
            try await judge(ledger, sluice)
        }

        static func judge(_ ledger: Ledger, _ sluice: SluiceProcess) async throws {
            let last = ledger.lastVersions
            try? await waitUntil("each last state is a job", seconds: 90, everyMilliseconds: 500) {
                Set(last).isSubset(of: try await versions(sluice))
            }
            let jobs = try await versions(sluice)
            let missing = Set(last).subtracting(jobs)
            #expect(missing.isEmpty, "missing \(missing.count) of \(last.count), such as \(missing.first ?? "")")
            #expect(Set(jobs).count == jobs.count, "doubled \(jobs.count - Set(jobs).count)")
            #expect(Set(jobs).isSubset(of: ledger.versions), "only what Kinto wrote")
            #expect(ledger.deletions > 20 && ledger.versions.count >= 360, "much was written, or this shows nothing")
            let tombstones = try await sluice.jobs().count { try JSONDocument($0.record).root["deleted"]?.bool == true }
            #expect(tombstones > 20, "deletions are jobs: \(tombstones)")
            #expect(try !sluice.log().contains(Kinto.password))
        }

        /// `id@last_modified` of each job.
        static func versions(_ sluice: SluiceProcess) async throws -> [String] {
            try await sluice.jobs().map { job in
                let record = try JSONDocument(job.record).root
                return "\(record["id"]?.string ?? "")@\(record["last_modified"]?.int64 ?? 0)"
            }
        }
    }
}

extension Live.KintoLiveTests {
    /// What was written, as Kinto says it.
    struct Ledger {
        private(set) var versions: Set<String> = []
        private(set) var deletions = 0
        private var last: [String: Int64] = [:]
        private var present: [String] = []
        private var count = 0

        var lastVersions: [String] { last.map { "\($0.key)@\($0.value)" } }

        mutating func put(_ kinto: Kinto, _ id: String) async throws {
            note(id, try await kinto.put(id, text: "Zoë \(count) 🚰"))
            if !present.contains(id) { present.append(id) }
        }

        /// In turn a new record, a change of an old one, a change of the newest, and a deletion; a pause now and then.
        mutating func write(_ kinto: Kinto, _ writes: Int) async throws {
            for number in 0..<writes {
                switch number % 8 {
                case 2 where present.count > 10:
                    let id = present.remove(at: present.count / 2)
                    note(id, try await kinto.delete(id))
                    deletions += 1
                case 4, 6: try await put(kinto, present[count % present.count])
                case 7: try await put(kinto, present[present.count - 1])
                case 5 where present.count > 10:
                    let id = present.removeFirst()
                    note(id, try await kinto.delete(id))
                    deletions += 1
                default: try await put(kinto, "record-\(count)")
                }
                if number % 20 == 0 { try await Task.sleep(for: .milliseconds(300)) }
            }
        }

        private mutating func note(_ id: String, _ modified: Int64) {
            count += 1
            versions.insert("\(id)@\(modified)")
            last[id] = modified
        }
    }
}
