import Foundation
import SluiceCore
import SluiceTesting
import Testing

extension Live {
    /// `/openapi.json`, by judges that nobody here wrote.
    @Suite(.serialized) struct APIDocumentLiveTests {
        static let home = LocalStripe.home + "/venv-api/bin"

        static func run(
            _ executable: String, _ arguments: [String], _ directory: String, token: String? = nil, seconds: Double
        ) async throws -> (exit: ChildProcess.Exit?, text: String) {
            let child = try ChildProcess(
                .init(
                    executable, arguments,
                    environment: [
                        "PYTHONDONTWRITEBYTECODE": "1", "NO_COLOR": "1", "COLUMNS": "140", "SLUICE_TOKEN": token,
                        "PYTHONPATH": LocalStripe.scriptsDirectory,
                    ],
                    workingDirectory: directory, outputFile: directory + "/checked.txt"))
            defer { child.kill9() }
            let exit = try? await child.waitForExit(seconds: seconds)
            return (exit, try await child.output())
        }

        @Test func theDocumentIsValidOpenAPI() async throws {
            try await withTemporaryDirectory { directory in
                let sluice = try SluiceProcess(.init(directory: directory, configuration: "{}"))
                defer { sluice.kill9() }
                try await sluice.start()
                let document = try await sluice.send("GET", "/openapi.json")
                #expect(document.status == 200)
                try Data(document.body).write(to: URL(filePath: directory + "/openapi.json"))
                let script = LocalStripe.scriptsDirectory + "/validate_openapi.py"
                let verdict = try await Self.run(Self.home + "/python", [script, "openapi.json"], directory, seconds: 180)
                #expect(verdict.exit == .code(0) && verdict.text.contains(" 0 errors"), "\(verdict.text)")
            }
        }

        /// Something of each kind, so that requests find what they are about: a consumer, and pushes that nobody takes.
        static func configuration(_ provider: StandInProvider) -> String {
            Chargebee.configuration(
                provider.baseURL,
                extra: """
                    destinations:
                      worker: { kind: pull }
                      out: { kind: push, url: "http://127.0.0.1:9/", secret: "whsec_YXBpYXBpYXBpYXBpYXBpYXBpYXBpYXBpYXBp", allow_private: true, retries: [1s] }
                    """
            ).replacing("safety_interval: 12h", with: "safety_interval: 12h, destinations: [worker, out]")
        }

        /// Requests made from the document, right ones and wrong ones: every answer must be one that the document has.
        @Test func theAPIDoesWhatItsDocumentSays() async throws {
            let settings = PromiseLiveTests.settings(PromiseLiveTests.quiet)
            try await withTemporaryDirectory { directory in
                try await StandInProvider.with(settings) { provider in
                    provider.makeChanges(20)
                    let sluice = try SluiceProcess(
                        .init(
                            directory: directory, configuration: Self.configuration(provider),
                            environment: Chargebee.environment))
                    defer { sluice.kill9() }
                    try await sluice.start()
                    try await waitUntil("there are jobs", seconds: 30) { try await !sluice.jobs().isEmpty }
                    let token = try String(contentsOfFile: sluice.dataDirectory + "/local.token", encoding: .utf8)
                    let variables = ProcessInfo.processInfo.environment
                    let seconds = variables["SLUICE_API_SECONDS"].flatMap(Int.init) ?? 40
                    let verdict = try await Self.run(
                        Self.home + "/schemathesis",
                        [
                            "--config-file", LocalStripe.scriptsDirectory + "/schemathesis.toml", "run", sluice.apiURL + "/openapi.json",
                            "--max-time", String(seconds), "--seed", variables["SLUICE_API_SEED"] ?? "20260101",
                        ], directory, token: token.filter { !$0.isWhitespace }, seconds: max(600, Double(seconds) * 5))
                    // Failures come before warnings and the summary, each with the request that shows it.
                    let text = verdict.text
                    let failures = text.range(of: " FAILURES ").map { text[$0.lowerBound...] } ?? text.suffix(12_000)
                    #expect(verdict.exit == .code(0), "\(failures.prefix(12_000))")
                    #expect(sluice.process?.isRunning == true, "it still runs")
                    #expect(try await sluice.send("GET", "/v1/health").status == 200)
                }
            }
        }
    }
}
