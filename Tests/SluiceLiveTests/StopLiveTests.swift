import Foundation
import SluiceCore
import SluiceTesting
import Testing

extension Live {
    /// An orderly stop while jobs are carried: what is quick is brought to its end, what is not is carried again after the start.
    @Suite(.serialized) struct StopLiveTests {
        /// A program that notes when it begins and ends.
        static func program(_ directory: String, sleeps: String) async throws {
            let text =
                "#!/bin/sh\ncat >/dev/null\necho \"begun $SLUICE_JOB_ID\" >> \(directory)/log\n\(sleeps)\necho \"done $SLUICE_JOB_ID\" >> \(directory)/log\n"
            try await writeProgram(text, at: directory + "/commands/slow")
        }

        static func lines(_ directory: String, _ word: String) -> [String] {
            ((try? String(contentsOfFile: directory + "/log", encoding: .utf8)) ?? "").split(separator: "\n").map(String.init)
                .filter { $0.hasPrefix(word) }
        }

        static func withSluice(_ sleeps: String, _ body: @Sendable (SluiceProcess, StandInProvider, String) async throws -> Void)
            async throws
        {
            try await withTemporaryDirectory("sluice-stop") { directory in
                try await Self.program(directory, sleeps: sleeps)
                try await StandInProvider.with(PromiseLiveTests.settings(PromiseLiveTests.quiet)) { provider in
                    let text = Chargebee.configuration(
                        provider.baseURL, safety: "1s",
                        extra: "destinations:\n  slow: { kind: command, run: [slow], timeout: 60s, concurrency: 1 }\n"
                    ).replacing("safety_interval: 1s }", with: "safety_interval: 1s, destinations: [slow] }")
                    let sluice = try SluiceProcess(
                        .init(
                            directory: directory, configuration: text, environment: Chargebee.environment,
                            arguments: ["--commands-from", directory + "/commands"]))
                    defer { sluice.kill9() }
                    try await sluice.start()
                    provider.makeChanges(1)
                    try await waitUntil("the program runs", seconds: 60) { !Self.lines(directory, "begun").isEmpty }
                    try await body(sluice, provider, directory)
                }
            }
        }

        @Test func whatIsUnderWayIsBroughtToItsEnd() async throws {
            try await Self.withSluice("sleep 2") { sluice, _, directory in
                let begun = ContinuousClock.now
                let exit = try #require(await sluice.terminate())
                #expect(exit == .code(0))
                #expect(begun.duration(to: .now) < .seconds(40))
                #expect(Self.lines(directory, "done").count == Self.lines(directory, "begun").count, "it was let finish")
                let before = Set(Self.lines(directory, "done"))
                try await sluice.start()
                try await waitUntil("nothing is pending", seconds: 60) {
                    try await sluice.send("GET", "/v1/destinations/slow").json()["pending"]?.int64 == 0
                }
                #expect(Self.lines(directory, "done").filter(before.contains).count == before.count, "and is not run again")
            }
        }

        @Test func whatTakesTooLongIsBrokenOffAndRunAgainAtOnce() async throws {
            try await Self.withSluice("[ -e \"$(dirname \"$0\")/quick\" ] || sleep 55") { sluice, _, directory in
                let begun = ContinuousClock.now
                let exit = try #require(await sluice.terminate())
                #expect(exit == .code(0))
                #expect(begun.duration(to: .now) < .seconds(40))
                #expect(Self.lines(directory, "done").isEmpty)
                let first = Self.lines(directory, "begun")[0]
                _ = FileManager.default.createFile(atPath: directory + "/commands/quick", contents: nil)
                try await sluice.start()
                // Its claim would have held for more than five minutes.
                try await waitUntil("it is run again", seconds: 60) { Self.lines(directory, "begun").filter { $0 == first }.count == 2 }
                try await waitUntil("and done", seconds: 60) {
                    Self.lines(directory, "done").contains(first.replacing("begun", with: "done"))
                }
            }
        }
    }
}
