import Foundation
import SluiceCore
import SluiceTesting
import Testing

extension Live {
    /// Show c, for commands, files and NATS: Sluice, the program and nats-server are killed at random while jobs are carried.
    @Suite(.serialized) struct CarriedLiveTests {
        static let kills = ProcessInfo.processInfo.environment["SLUICE_CARRIED_KILLS"].flatMap(Int.init) ?? 14

        static func configuration(_ provider: StandInProvider, _ sinks: CarriedSinks) -> String {
            let names = CarriedSinks.names.joined(separator: ", ")
            // So that what a kill interrupts comes again while the test waits.
            let waits = Array(repeating: "1s", count: 40).joined(separator: ", ")
            return Chargebee.configuration(provider.baseURL, safety: "2s", extra: sinks.configuration(more: ", retries: [\(waits)]"))
                .replacing("safety_interval: 2s }", with: "safety_interval: 2s, destinations: [\(names)] }")
        }

        @Test func c_killedAtRandomNothingIsLostAndWhatIsDoubledHasTheSameID() async throws {
            let settings = PromiseLiveTests.settings(PromiseLiveTests.quiet)
            try await withTemporaryDirectory("sluice-carried") { directory in
                try await NATSServer.with(directory: directory) { nats in
                    let client = try await nats.client()
                    try await client.createStream(CarriedSinks.stream, subjects: ["jobs.>"], window: 600)
                    let sinks = try await CarriedSinks(directory: directory, nats: nats)
                    try await StandInProvider.with(settings) { provider in
                        let sluice = try SluiceProcess(
                            .init(
                                directory: directory, configuration: Self.configuration(provider, sinks),
                                environment: Chargebee.environment,
                                arguments: sinks.arguments))
                        defer { sluice.kill9() }
                        try await sluice.start()
                        try await Self.killWhileJobsAreCarried(provider, sluice, sinks)
                        try await Self.settle(provider, sluice, sinks)
                    }
                }
            }
        }

        static func killWhileJobsAreCarried(_ provider: StandInProvider, _ sluice: SluiceProcess, _ sinks: CarriedSinks) async throws {
            var generator = SystemRandomNumberGenerator()
            for _ in 0..<kills {
                provider.makeChanges(Int.random(in: 5...30, using: &generator))
                try await Task.sleep(for: .milliseconds(Int.random(in: 50...900, using: &generator)))
                switch Int.random(in: 0..<4, using: &generator) {
                case 0, 1:
                    sluice.kill9()
                    try await sluice.start()
                case 2:
                    sinks.nats.kill9()
                    try await Task.sleep(for: .milliseconds(Int.random(in: 0...500, using: &generator)))
                    try await sinks.nats.start()
                default: _ = await sinks.killProgram()
                }
            }
        }

        /// Waits until every change is a job and every job is everywhere, and holds what arrived against the jobs.
        static func settle(_ provider: StandInProvider, _ sluice: SluiceProcess, _ sinks: CarriedSinks) async throws {
            // No change is made any more, and none that the provider shows late is left: from here on the jobs are what they are.
            let verdict = try await Chargebee.settled(provider, sluice, seconds: 120)
            #expect(verdict.isClean, "\(verdict)")
            let ids = Set(try await sluice.jobs().map(\.id))
            #expect(ids.count >= kills * 5, "the load was real: \(ids.count) jobs")
            for name in CarriedSinks.names {
                try await waitUntil("every job is at \(name)", seconds: 150, everyMilliseconds: 500) {
                    // What cannot be read just then is asked for again.
                    Set(((try? await sinks.arrivals(name)) ?? []).map(\.id)).isSuperset(of: ids)
                }
                let arrivals = try await sinks.arrivals(name)
                #expect(Set(arrivals.map(\.id)) == ids, "\(name): nothing but jobs, by their ids")
                #expect(Set(arrivals).count == ids.count, "\(name): what came twice is the same to the byte")
                if name == "bus" { #expect(arrivals.count == ids.count, "the stream knew what came twice") }
            }
            let pending = try await sluice.send("GET", "/v1/deliveries?state=dead").json()["deliveries"]?.elements ?? []
            #expect(pending.isEmpty, "no dead letters: \(pending.count)")
        }
    }
}
