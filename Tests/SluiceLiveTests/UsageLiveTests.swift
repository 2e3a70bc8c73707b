import Foundation
import SluiceCore
import SluiceTesting
import Testing

extension Live {
    /// What people type, on a data directory without a server.
    @Suite(.serialized) struct UsageLiveTests {
        private static func commanded(_ body: @Sendable (Command) async throws -> Void) async throws {
            try await withTemporaryDirectory("sluice-usage") { directory in
                try await offPool {
                    try Data("destinations:\n  billing: { kind: pull }\n".utf8).write(to: URL(filePath: directory + "/sluice.yaml"))
                }
                let command = Command(directory)
                let applied = try await command.run(["apply", "-f", directory + "/sluice.yaml"])
                #expect(applied.code == 0, "\(applied.text)")
                try await body(command)
            }
        }

        @Test(arguments: [["--visibility", "5s"], ["--visibility", "5"], ["--visibility", "1m", "--wait", "1s", "--json"]])
        func aFetchTakesSpansAndPlainSeconds(_ options: [String]) async throws {
            try await Self.commanded { command in
                let answer = try await command.json(["consumer", "fetch", "billing"] + options)
                #expect(answer["jobs"]?.elements?.isEmpty == true)
                let wrong = try await command.run(["consumer", "fetch", "billing", "--visibility", "500ms"])
                #expect(wrong.code == 2 && wrong.text.contains("500ms"), "\(wrong.text)")
                let foreign = try await command.run(["consumer", "fetch", "billing", "--ack", "nonsense"] + options)
                #expect(foreign.code == 1 && foreign.text.contains("lease"), "\(foreign.text)")
            }
        }

        /// As README has it: TOKEN=$(sluice token create my-program).
        @Test func aTokenStandsAloneOnStandardOutput() async throws {
            try await Self.commanded { command in
                let (file, binary) = (command.directory + "/token", SluiceProcess.binary)
                let child = try ChildProcess(
                    .init(
                        "/bin/sh", ["-c", "exec '\(binary)' token create a >'\(file)'"],
                        environment: ["SLUICE_DATA": command.dataDirectory],
                        workingDirectory: command.directory, outputFile: command.directory + "/remarks"))
                defer { child.kill9() }
                guard case .code(0) = try await child.waitForExit(seconds: 30) else { throw SluiceError(.internalError, "no token") }
                let text = try await offPool { try String(contentsOfFile: file, encoding: .utf8) }
                #expect(text.hasPrefix("sluice_") && text.split(whereSeparator: \.isWhitespace).count == 1, "\(text)")
                #expect(try await child.output().contains("only its hash is stored"))
            }
        }

        /// Said by what knows the range, and not as if there were no value.
        @Test(arguments: [
            ["dead-letter", "list", "--limit", "-5"], ["consumer", "fetch", "billing", "--max", "-1"],
            ["consumer", "fetch", "billing", "--visibility", "-1"], ["dead-letter", "list", "--since", "-1h"],
            ["destination", "rotate-secret", "billing", "--overlap", "-1h"],
        ])
        func f_negativeValuesAreRefusedByTheirName(_ arguments: [String]) async throws {
            try await Self.commanded { command in
                let answer = try await command.run(arguments)
                #expect(answer.code == 1 && answer.text.hasPrefix("Error (invalid): "), "\(answer.code) \(answer.text)")
                #expect(!answer.text.contains("Missing value"), "\(answer.text)")
            }
        }
    }
}
