import SluiceCore
import SluiceTesting
import Testing

extension Live {
    /// Show d: a Syncthing that nobody here wrote, with events going on, restarted (its ids count from 1 again) with Sluice
    /// listening and with Sluice away; and Sluice killed.
    @Suite(.serialized) struct SyncthingLiveTests {
        static func configuration(_ syncthing: Syncthing) -> String {
            """
            connections:
              sync:
                connector: syncthing
                fields: { base_url: "\(syncthing.baseURL)", api_key: "${env:SYNC_KEY}" }
                allow_private: true
            triggers:
              events: { connection: sync, type: event }
            """
        }

        @Test func d_everyEventOfSyncthingIsOneJobOverRestarts() async throws {
            try await withTemporaryDirectory("sluice-syncthing") { directory in
                let syncthing = try await Syncthing(directory: directory)
                defer { syncthing.kill9() }
                try await syncthing.start()
                try await syncthing.addFolder()
                let sluice = try SluiceProcess(
                    .init(
                        directory: directory, configuration: Self.configuration(syncthing), environment: ["SYNC_KEY": Syncthing.apiKey]))
                defer { sluice.kill9() }
                try await sluice.start()
                var reader = Reader(syncthing: syncthing)

                try await Self.touch(syncthing, "a", 8)
                sluice.kill9()
                try await Self.touch(syncthing, "b", 8)
                try await sluice.start()
                try await Self.touch(syncthing, "c", 8)
                try await reader.settle(sluice)
                let first = reader.last
                #expect(first > 50, "events were made: \(first)")

                // Restarted under a held request.
                await syncthing.stop()
                try await syncthing.start()
                reader.last = 0
                try await Self.touch(syncthing, "d", 4)
                try await reader.settle(sluice)
                #expect(reader.last < first, "its ids did count from 1 again")

                // Restarted while Sluice is away; its ids pass those that Sluice has seen.
                sluice.kill9()
                await syncthing.stop()
                try await syncthing.start()
                reader.last = 0
                try await Self.touch(syncthing, "e", 12)
                try await sluice.start()
                try await Self.touch(syncthing, "f", 4)
                try await reader.settle(sluice)
                let alarms = try await EtcdLiveTests.alarms(sluice)
                #expect(alarms.contains { $0.hasPrefix("gap:") && $0.contains("counts anew") }, "\(alarms)")
                let log = try sluice.log()
                #expect(!log.contains(Syncthing.apiKey))
            }
        }

        static func touch(_ syncthing: Syncthing, _ phase: String, _ count: Int) async throws {
            for number in 0..<count { try await syncthing.touch("\(phase)\(number % 3)", "\(phase) \(number)") }
        }

        /// Reads the events by itself, as `id@time`.
        struct Reader {
            let syncthing: Syncthing
            var last: Int64 = 0
            var seen: Set<String> = []

            init(syncthing: Syncthing) { self.syncthing = syncthing }

            /// Reads on, waits until each event is a job, and holds that none is one twice.
            mutating func settle(_ sluice: SluiceProcess) async throws {
                // Events that a change causes come a moment after it.
                try await Task.sleep(for: .seconds(1))
                let (names, last) = try await syncthing.events(after: last)
                seen.formUnion(names)
                self.last = last
                let expected = seen
                try? await waitUntil("each event is a job", seconds: 90, everyMilliseconds: 500) {
                    expected.subtracting(try await Self.jobs(sluice)).isEmpty
                }
                let jobs = try await Self.jobs(sluice)
                let missing = expected.subtracting(jobs)
                #expect(missing.isEmpty, "missing \(missing.count) of \(expected.count), such as \(missing.first ?? "")")
                #expect(Set(jobs).count == jobs.count, "doubled \(jobs.count - Set(jobs).count)")
            }

            static func jobs(_ sluice: SluiceProcess) async throws -> [String] {
                try await sluice.jobs(trigger: "events").map { try Syncthing.name(try JSONDocument($0.record).root) }
            }
        }
    }
}
