import Foundation
import SluiceCore
import SluiceTesting
import Synchronization
import Testing

extension Live {
    /// Sluice, the receiver of its pushes and its NATS server are killed at random moments, while jobs flow to a destination of each
    /// kind. What arrived is held against the provider's own change log. `SLUICE_CHAOS_KILLS=100` makes it longer.
    @Suite(.serialized) struct ChaosLiveTests {
        static let kills = ProcessInfo.processInfo.environment["SLUICE_CHAOS_KILLS"].flatMap(Int.init) ?? 24
        static let patience = Double(180 + 2 * kills)

        struct Places: Sendable {
            var directory: String
            var commands: String { directory + "/commands" }
            var commandFile: String { directory + "/command.jsonl" }
            var file: String { directory + "/data/files/jobs.jsonl" }
        }

        @Test func c_killedAtRandomWithItsDestinationsNothingIsLost() async throws {
            try #require(LocalStripe.isInstalled, "run Tests/Live/setup")
            let settings = PromiseLiveTests.settings(PromiseLiveTests.quiet)
            try await withTemporaryDirectory { directory in
                let places = Places(directory: directory)
                try await Self.writeCommand(places)
                let sink = try KillableSink(directory: directory)
                defer { sink.kill9() }
                try await sink.start()
                try await NATSServer.with(directory: directory) { nats in
                    try await nats.client().createStream("JOBS", subjects: ["jobs.>"])
                    try await StandInProvider.with(settings) { provider in
                        let sluice = try SluiceProcess(
                            .init(
                                directory: directory, configuration: Self.configuration(provider, sink, nats),
                                environment: Chargebee.environment, arguments: ["--commands-from", places.commands]))
                        defer { sluice.kill9() }
                        try await sluice.start()
                        let worker = ChaosWorker()
                        try await withThrowingTaskGroup(of: Void.self) { group in
                            group.addTask { await worker.run(sluice, consumer: "worker") }
                            try await Self.chaos(provider, sluice, sink, nats)
                            try await Self.judge(places, provider, sluice, sink, nats, worker)
                            group.cancelAll()
                        }
                    }
                }
            }
        }

        /// Short waits between attempts, so that a test need not last for hours; and enough of them for every kill.
        static func configuration(_ provider: StandInProvider, _ sink: KillableSink, _ nats: NATSServer) -> String {
            let retries = "[" + Array(repeating: "1s", count: 50).joined(separator: ", ") + "]"
            let names = "[push, program, file, broker, worker]"
            return Chargebee.configuration(
                provider.baseURL, safety: "3s",
                extra: """
                    destinations:
                      push: { kind: push, url: "\(sink.url)", secret: "\(KillableSink.secret)", allow_private: true, timeout: 2s, retries: \(retries) }
                      program: { kind: command, run: [take], per: batch, concurrency: 1, timeout: 5s, retries: \(retries) }
                      file: { kind: file, path: jobs.jsonl, timeout: 2s, retries: \(retries) }
                      broker: { kind: nats, url: "\(nats.url)", subject: "jobs.{trigger}", stream: JOBS, allow_private: true, timeout: 2s, retries: \(retries) }
                      worker: { kind: pull }
                    """
            ).replacing("safety_interval: 3s", with: "safety_interval: 3s, destinations: \(names)")
        }

        /// Takes whole lines only: where Sluice is killed while it writes, the last one ends early.
        static func writeCommand(_ places: Places) async throws {
            let script = "#!/bin/sh\nwhile IFS= read -r line; do printf '%s\\n' \"$line\"; done >> '\(places.commandFile)'\n"
            try await writeProgram(script, at: places.commands + "/take")
        }

        /// Kills and starts again, one at a time, while the provider changes things and says so.
        static func chaos(_ provider: StandInProvider, _ sluice: SluiceProcess, _ sink: KillableSink, _ nats: NATSServer) async throws {
            let url = try await sluice.webhookURL("demo")
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    for number in 0..<1_000_000 where !Task.isCancelled {
                        provider.makeChanges(1)
                        let kind = ["subscription", "customer", "invoice"][number % 3]
                        let body = #"{"id":"ev_\#(number)","event_type":"\#(kind)_changed","content":{}}"#
                        _ = await Web.post(url, Array(body.utf8), headers: [Hook.basic(Chargebee.password)])
                        try? await Task.sleep(for: .milliseconds(15))
                    }
                }
                var generator = SystemRandomNumberGenerator()
                for round in 0..<kills {
                    try await Task.sleep(for: .milliseconds(Int.random(in: 20...700, using: &generator)))
                    // Each in its turn first, so that a short run kills all of them; then whoever it hits.
                    switch round < 3 ? round : Int.random(in: 0..<3, using: &generator) {
                    case 0:
                        sluice.kill9()
                        try await sluice.start()
                    case 1:
                        sink.kill9()
                        try await Task.sleep(for: .milliseconds(Int.random(in: 0...300, using: &generator)))
                        try await sink.start()
                        // As a person would who has mended it; a circuit breaker would wait for half a minute.
                        try await sluice.send("POST", "/v1/destinations/push/resume")
                    default:
                        nats.kill9()
                        try await Task.sleep(for: .milliseconds(Int.random(in: 0...300, using: &generator)))
                        try await nats.start()
                        try await sluice.send("POST", "/v1/destinations/broker/resume")
                    }
                }
                group.cancelAll()
            }
        }

        static func judge(
            _ places: Places, _ provider: StandInProvider, _ sluice: SluiceProcess, _ sink: KillableSink, _ nats: NATSServer,
            _ worker: ChaosWorker
        ) async throws {
            let broker = try await nats.client()
            let arrived: @Sendable () async throws -> [(name: String, arrivals: Arrivals)] = {
                var messages = Arrivals()
                for message in try await broker.messages("JOBS") { try messages.add(try JSONDocument(message.payload).root) }
                return [
                    ("push", try sink.arrivals().taken), ("program", try Arrivals.lines(places.commandFile)),
                    ("file", try Arrivals.lines(places.file)), ("broker", messages), ("worker", try worker.arrivals()),
                ]
            }
            try await Chargebee.settled(provider, sluice, seconds: 180)
            let made = Set(try await sluice.jobs().map(\.id))
            try? await waitUntil("every job is everywhere", seconds: patience, everyMilliseconds: 1000) {
                (try? await arrived())?.allSatisfy { made.isSubset(of: $0.arrivals.jobs.keys) } ?? false
            }
            let changes = provider.changes
            #expect(made.count > kills, "the load was real: \(made.count) jobs")
            #expect(try await Chargebee.verdict(provider, sluice).isClean)
            for (name, arrivals) in try await arrived() {
                let verdict = arrivals.verdict(changes)
                print("\(name): \(arrivals.jobs.count) jobs, \(arrivals.repeated) of them delivered again")
                #expect(verdict.isClean, "\(name): \(verdict)")
                #expect(made.subtracting(arrivals.jobs.keys).isEmpty, "\(name) lacks jobs")
                #expect(arrivals.changed.isEmpty, "\(name): what came again is what came before")
            }
            #expect(try sink.arrivals().forged == 0, "every push was signed")
        }
    }
}
