import Foundation
import SluiceCore
import SluiceTesting
import Testing

extension Live {
    /// Commands on the real server: what a killed one had claimed, and batches from end to end.
    @Suite(.serialized) struct CommandLiveTests {
        /// With a program in the directory of commands, and destinations in the configuration.
        static func served(
            program: String, destinations: String, attached: String,
            _ body: @Sendable @escaping (StandInProvider, SluiceProcess, _ directory: String) async throws -> Void
        ) async throws {
            try await withTemporaryDirectory("sluice-command") { directory in
                try await StandInProvider.with(PromiseLiveTests.settings(PromiseLiveTests.quiet)) { provider in
                    try await offPool {
                        try FileManager.default.createDirectory(atPath: directory + "/done", withIntermediateDirectories: true)
                    }
                    try await writeProgram("#!/bin/sh\nset -eu\n\(program)\n", at: directory + "/commands/program")
                    let extra = "destinations:\n" + destinations.replacing("DIRECTORY", with: directory)
                    let configuration = Chargebee.configuration(provider.baseURL, safety: "1s", extra: extra)
                        .replacing("safety_interval: 1s }", with: "safety_interval: 1s, destinations: [\(attached)] }")
                    let sluice = try SluiceProcess(
                        .init(
                            directory: directory, configuration: configuration, environment: Chargebee.environment,
                            arguments: ["--commands-from", directory + "/commands"]))
                    defer { sluice.kill9() }
                    try await sluice.start()
                    try await body(provider, sluice, directory)
                }
            }
        }

        private static func files(_ directory: String) async throws -> [String: String] {
            try await offPool {
                let names = try FileManager.default.contentsOfDirectory(atPath: directory).filter { !$0.hasPrefix("part") }
                return try Dictionary(
                    uniqueKeysWithValues: names.map { ($0, try String(contentsOfFile: "\(directory)/\($0)", encoding: .utf8)) })
            }
        }

        /// Its claim is good for 42 minutes, and the server that made it is gone: the next one gives it back at its start. A retry keeps
        /// its time and its attempts.
        @Test func P9_whatAKilledServerCarriedIsCarriedAgainWithinSeconds() async throws {
            // The very first run hangs until it is killed.
            let program = """
                if mkdir "$1/first" 2>/dev/null; then
                  echo $$ >"$1/part"
                  mv "$1/part" "$1/first/pid"
                  exec sleep 600
                fi
                cat >"$1/part.$$"
                mv "$1/part.$$" "$1/done/$SLUICE_JOB_ID.job"
                """
            let destinations = """
                  slow: { kind: command, run: [program, "DIRECTORY"], timeout: 500s, concurrency: 2 }
                  later: { kind: push, url: "http://127.0.0.1:1/", allow_private: true, secret: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw, retries: [5h] }
                """
            try await Self.served(program: program, destinations: destinations, attached: "slow, later") { provider, sluice, directory in
                provider.makeChanges(1, resource: "subscription")
                let pid: @Sendable () async throws -> Int32? = {
                    try await offPool {
                        let text = try? String(contentsOfFile: directory + "/first/pid", encoding: .utf8)
                        return text.flatMap { Int32($0.trimmingCharacters(in: .whitespacesAndNewlines)) }
                    }
                }
                try await waitUntil("the program runs", seconds: 40) { try await pid() != nil }
                let failed: @Sendable () async throws -> JSONView? = {
                    try await sluice.send("GET", "/v1/deliveries?destination=later").json()["deliveries"]?.elements?.first {
                        $0["attempts"]?.int64 == 1 && $0["next_attempt_at"]?.string != nil
                    }
                }
                try await waitUntil("the other waits to be tried again", seconds: 40) { try await failed() != nil }
                let due = try #require(try await failed()?["next_attempt_at"]?.string)
                sluice.kill9()
                // The program that it left behind; sh became sleep.
                kill(try #require(try await pid()), SIGKILL)
                try await sluice.start()
                try await waitUntil("it is carried again", seconds: 30) {
                    try await offPool {
                        try FileManager.default.contentsOfDirectory(atPath: directory + "/done").contains { $0.hasSuffix(".job") }
                    }
                }
                try await waitUntil("all is delivered there", seconds: 30) {
                    try await sluice.send("GET", "/v1/destinations/slow").json()["pending"]?.int64 == 0
                }
                let list = try await sluice.send("GET", "/v1/deliveries?destination=slow").json()["deliveries"]?.elements ?? []
                #expect(!list.isEmpty && list.allSatisfy { $0["state"]?.string == "delivered" && $0["attempts"]?.int64 == 1 })
                let after = try await failed()
                #expect(after?["next_attempt_at"]?.string == due, "the retry keeps its time")
            }
        }

        /// `per: batch` from the provider to the program: a line for each job, the count as it says, and where one job spoils its batch,
        /// that one alone becomes a dead letter.
        @Test func P9_batchesReachTheirProgramAndOneBadJobSpoilsNoOther() async throws {
            let program = """
                batch="$1/part.$$"
                cat >"$batch"
                [ "$(wc -l <"$batch")" = "$SLUICE_JOB_COUNT" ] || exit 66
                [ -z "${SLUICE_JOB_ID-}" ] || exit 67
                if grep -q '"trigger":"subscriptions","position":3,' "$batch"; then exit 65; fi
                sleep 0.3
                mv "$batch" "$1/done/$$.$SLUICE_JOB_COUNT.$(date +%N)"
                """
            let destinations = """
                  batches: { kind: command, run: [program, "DIRECTORY"], per: batch, batch_max: 20, concurrency: 1, timeout: 30s }
                """
            try await Self.served(program: program, destinations: destinations, attached: "batches") { provider, sluice, directory in
                for _ in 0..<4 {
                    provider.makeChanges(20, resource: "subscription")
                    provider.makeChanges(20, resource: "customer")
                    try await Task.sleep(for: .milliseconds(500))
                }
                // No change is made any more, and none that the provider shows late is left: from here on the jobs are what they are.
                let verdict = try await Chargebee.settled(provider, sluice, seconds: 120)
                #expect(verdict.isClean, "\(verdict)")
                try await waitUntil("every job is settled", seconds: 120) {
                    try await sluice.send("GET", "/v1/destinations/batches").json()["pending"]?.int64 == 0
                }
                let jobs = try await sluice.jobs().map(\.id)
                #expect(jobs.count > 40, "the load was real: \(jobs.count) jobs")
                let dead = try await sluice.send("GET", "/v1/dead-letters?destination=batches").json()["dead_letters"]?.elements ?? []
                #expect(dead.map { $0["reason"]?.string } == ["refused"], "\(dead.count) dead letters")
                #expect(dead.first?["position"]?.int64 == 3)
                let shown = try await Command(sluice).run(["dead-letter", "show", String(try #require(dead.first?["id"]?.int64))])
                #expect(shown.text.contains("  exit code 65, "), "\(shown.text)")
                let batches = try await Self.files(directory + "/done").values.map { text in
                    try text.split(separator: "\n").map { try JSONDocument(Array($0.utf8)).root }
                }
                let carried = batches.joined().compactMap { $0["id"]?.string }
                let refused = try #require(dead.first?["job"]?.string)
                #expect(Set(carried) == Set(jobs).subtracting([refused]), "all but the one that was refused")
                #expect(carried.count == Set(carried).count, "each once: nothing was killed")
                #expect(batches.contains { $0.count > 1 } && batches.allSatisfy { $0.count <= 20 })
            }
        }
    }
}
