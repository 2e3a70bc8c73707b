import Foundation
import SluiceCore
import SluiceTesting
import Testing

extension Live {
    /// Consumers with workers that are processes of their own.
    @Suite(.serialized) struct ConsumerLiveTests {
        static let visibilitySeconds: Int64 = 3

        /// A line of a worker's file.
        struct Step {
            var kind: String
            var job: String
            var attempt: Int64
            var expiresAt: Int64
            var at: Int64
            var line: String
        }

        /// Show d: three workers on one consumer, one of them killed again and again, the server too. Each job is acked once
        /// its handler finished, no job is in two valid leases, and none is stuck beyond the visibility timeout.
        @Test func d_threeWorkersOneKilledRepeatedly() async throws {
            let settings = PromiseLiveTests.settings(PromiseLiveTests.quiet)
            try await withTemporaryDirectory { directory in
                try await StandInProvider.with(settings) { provider in
                    let destinations = "destinations:\n  billing: { kind: pull, attempts_max: 1000 }"
                    let attached = Chargebee.configuration(provider.baseURL, safety: "1s", extra: destinations).replacing(
                        "safety_interval: 1s }", with: "safety_interval: 1s, destinations: [billing] }")
                    let sluice = try SluiceProcess(.init(directory: directory, configuration: attached, environment: Chargebee.environment))
                    defer { sluice.kill9() }
                    try await sluice.start()
                    let workers = try (1...3).map { try worker($0, sluice, directory) }
                    defer { for worker in workers { worker.kill9() } }
                    var killed = workers[0]
                    let file = directory + "/w1.jsonl"
                    var written = 0
                    for round in 0..<24 {
                        provider.makeChanges(12)
                        try await Task.sleep(for: .milliseconds(Int64.random(in: 200...600)))
                        if round % 3 == 0 {
                            // The others may have taken all there is: then this one is killed with nothing in hand.
                            let before = written
                            try? await waitUntil("a job in hand", seconds: 5, everyMilliseconds: 2) {
                                Self.hasJobInHand(file, beyond: before)
                            }
                        }
                        killed.kill9()
                        written = FileManager.default.contents(atPath: file)?.count ?? 0
                        if round % 8 == 7 {
                            sluice.kill9()
                            try await sluice.start()
                        }
                        killed = try worker(1, sluice, directory)
                    }
                    defer { killed.kill9() }
                    try await Chargebee.settled(provider, sluice, seconds: 60)
                    try await waitUntil("every job is acked", seconds: 60, everyMilliseconds: 300) {
                        let consumer = try await sluice.send("GET", "/v1/consumers/billing").json()
                        return consumer["unacked"]?.int64 == 0 && consumer["waiting"]?.int64 == 0
                    }
                    let jobs = try await sluice.jobs().map(\.id)
                    let steps = try (1...3).flatMap { try Self.steps(directory + "/w\($0).jsonl") }
                    try Self.judge(Set(jobs), steps)
                }
            }
        }

        private func worker(_ number: Int, _ sluice: SluiceProcess, _ directory: String) throws -> ChildProcess {
            try ChildProcess(
                .init(
                    "python3",
                    [
                        "-B", SluiceProcess.root + "/Tests/Live/consumer_worker.py", "--api", sluice.apiURL, "--consumer", "billing",
                        "--name",
                        "w\(number)", "--out", directory + "/w\(number).jsonl", "--visibility", "\(Self.visibilitySeconds)",
                    ], environment: ["SLUICE_TOKEN_FILE": sluice.dataDirectory + "/local.token"], outputFile: directory + "/workers.log"))
        }

        static func steps(_ path: String) throws -> [Step] {
            let text = (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
            // A worker that was killed may leave half a line.
            return text.split(separator: "\n").compactMap { line in
                guard let root = (try? JSONDocument(Array(line.utf8)))?.root, let kind = root["step"]?.string else { return nil }
                return Step(
                    kind: kind, job: root["job"]?.string ?? "", attempt: root["attempt"]?.int64 ?? 0,
                    expiresAt: root["expires_at_ms"]?.int64 ?? 0, at: root["at_ms"]?.int64 ?? 0, line: String(line))
            }
        }

        /// Whether the last line of a worker's file is the start of a job, and was written after the first so many bytes.
        static func hasJobInHand(_ path: String, beyond bytes: Int) -> Bool {
            guard let data = FileManager.default.contents(atPath: path), data.count > bytes else { return false }
            return String(decoding: data, as: UTF8.self).split(separator: "\n").last?.hasPrefix(#"{"step": "start""#) == true
        }

        /// Beyond the visibility: the server is restarted in between, and the machine is busy.
        private static let stuckMillisecondsMax: Int64 = 30_000

        /// What the workers wrote down, held against what is promised.
        static func judge(_ jobs: Set<String>, _ steps: [Step]) throws {
            #expect(steps.filter { $0.kind == "failed" }.isEmpty, "\(steps.filter { $0.kind == "failed" }.prefix(3).map(\.line))")
            #expect(jobs.count > 200, "\(jobs.count) jobs")
            let byJob = Dictionary(grouping: steps.filter { $0.kind != "failed" }, by: \.job)
            #expect(Set(byJob.keys) == jobs, "\(jobs.subtracting(byJob.keys).count) jobs were never handed out")
            var again = 0
            for (job, steps) in byJob {
                let starts = steps.filter { $0.kind == "start" }.sorted { $0.attempt < $1.attempt }
                let acks = steps.filter { $0.kind == "acked" }.map(\.at)
                #expect(steps.contains { $0.kind == "done" }, "\(job) was never done")
                #expect(acks.count <= 1, "\(job) was acked \(acks.count) times")
                #expect(!starts.contains { start in acks.contains { $0 < start.at } }, "\(job) was handed out after its ack")
                #expect(Set(starts.map(\.attempt)).count == starts.count, "\(job): an attempt was handed out twice")
                again += starts.count - 1
                for (before, after) in zip(starts, starts.dropFirst()) where after.attempt == before.attempt + 1 {
                    // The server's clock is anchored anew when it is started.
                    #expect(after.at >= before.expiresAt - 250, "\(job) was in two valid leases")
                    #expect(after.at - before.expiresAt < stuckMillisecondsMax, "\(job) was stuck \(after.at - before.expiresAt) ms")
                }
                if let last = starts.last, let ack = acks.first {
                    #expect(ack - last.expiresAt < stuckMillisecondsMax, "\(job) was acked \(ack - last.expiresAt) ms beyond its time")
                }
            }
            #expect(again > 0, "nobody was killed with a job in hand")
        }

        /// Whoever waited and hung up gets nothing: the jobs go to the next at once, and it was no attempt.
        @Test func P9_whoHangsUpWhileItWaitsGetsNoJobs() async throws {
            let settings = PromiseLiveTests.settings(PromiseLiveTests.quiet)
            try await withTemporaryDirectory { directory in
                try await StandInProvider.with(settings) { provider in
                    let configuration = Chargebee.configuration(
                        provider.baseURL, safety: "1s", extra: "destinations:\n  billing: { kind: pull, visibility: 1h }"
                    ).replacing("safety_interval: 1s }", with: "safety_interval: 1s, destinations: [billing] }")
                    let sluice = try SluiceProcess(
                        .init(directory: directory, configuration: configuration, environment: Chargebee.environment))
                    defer { sluice.kill9() }
                    try await sluice.start()
                    let token = try String(contentsOfFile: sluice.dataDirectory + "/local.token", encoding: .utf8).filter {
                        !$0.isWhitespace
                    }
                    let url = "\(sluice.apiURL)/v1/consumers/billing/fetch"
                    let arguments = ["-s", "--max-time", "1", "-H", "Authorization: Bearer \(token)", url, "-d", "{\"wait\":60}"]
                    for number in 1...3 {
                        let end = try await ChildProcess.with(.init("curl", arguments, outputFile: directory + "/curl-\(number).txt")) {
                            try await $0.waitForExit()
                        }
                        #expect(end == .code(28), "curl gave up")
                    }
                    // The ends of their connections have arrived, or arrive before a job does: a poll is not that fast.
                    provider.makeChanges(1)
                    let answer = try await sluice.send("POST", "/v1/consumers/billing/fetch", body: "{\"wait\":40}").json()
                    let standing = try await sluice.send("GET", "/v1/consumers/billing").text
                    #expect(
                        answer["jobs"]?.elements?.map { $0["attempt"]?.int64 } == [1],
                        "\(String(decoding: answer.bytes, as: UTF8.self)), \(standing)")
                }
            }
        }

        /// A stream, read by curl from the real server over a restart: Last-Event-ID resumes it, nothing is missing or doubled.
        @Test func P9_aStreamIsResumedOverARestart() async throws {
            let settings = PromiseLiveTests.settings(PromiseLiveTests.quiet)
            try await PromiseLiveTests.together(settings, safety: "1s") { provider, sluice in
                provider.makeChanges(20)
                let first = try await Self.stream(sluice, events: 20, lastEventID: nil)
                sluice.kill9()
                provider.makeChanges(15)
                try await sluice.start()
                let second = try await Self.stream(sluice, events: 15, lastEventID: first.last?.id)
                let ids = (first + second).map(\.job)
                #expect(try await sluice.jobs().map(\.id) == ids)
            }
        }

        static func stream(_ sluice: SluiceProcess, events: Int, lastEventID: String?) async throws -> [(id: String, job: String)] {
            let directory = sluice.options.directory
            let token = try String(contentsOfFile: sluice.dataDirectory + "/local.token", encoding: .utf8).filter { !$0.isWhitespace }
            let file = directory + "/stream-\(lastEventID == nil ? 1 : 2).txt"
            var arguments = ["-sSN", "-H", "Authorization: Bearer \(token)", "\(sluice.apiURL)/v1/jobs/stream"]
            if let lastEventID { arguments += ["-H", "Last-Event-ID: \(lastEventID)"] }
            return try await ChildProcess.with(.init("curl", arguments, outputFile: file)) { curl in
                try await waitUntil("\(events) events", seconds: 40) {
                    try await curl.output().components(separatedBy: "\nevent: job\n").count > events
                }
                try await waitUntil("the last event whole", seconds: 30) { try await curl.output().hasSuffix("\n\n") }
                var found: [(id: String, job: String)] = []
                var id = ""
                for line in try await curl.output().split(separator: "\n") {
                    if line.hasPrefix("id: ") { id = String(line.dropFirst(4)) }
                    guard line.hasPrefix("data: "), let job = try JSONDocument(Array(line.utf8.dropFirst(6))).root["id"]?.string else {
                        continue
                    }
                    found.append((id, job))
                }
                return found
            }
        }
    }
}
