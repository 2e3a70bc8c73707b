import FoundationEssentials
import SluiceCore

/// A receiver of pushes that shares no code with Sluice: Tests/Live/verify_push.py, which checks every POST with the
/// PyPI libraries `standardwebhooks` and `svix`, and ed25519 with `pynacl`, as a process of its own.
public struct PushVerifier: Sendable {
    /// One request as it was received.
    public struct Push: Sendable, Equatable {
        /// Whether the signature held.
        public var isVerified: Bool
        /// What was answered: 200, 401, or 500 where it was told to fail.
        public var status: Int
        /// The header `webhook-id`.
        public var id: String?
        /// Which request with this id it was, from 1.
        public var attempt: Int
        public var body: String
        /// Why it was not verified.
        public var error: String?
        /// By `NAME/LIBRARY`, for each secret of the file: whether it verified.
        public var checks: [String: Bool]
    }

    public let port: Int
    public let process: ChildProcess
    let file: String
    /// Where to push to.
    public var url: String { "http://127.0.0.1:\(port)/push" }

    /// Runs a receiver for as long as `body` takes; its files lie in `directory`. The first `failFirst` requests of all,
    /// and the first `failEach` attempts of every id, are checked, recorded and answered 500. `secretsFile`: lines of
    /// `NAME SECRET`, read anew for each request, instead of one secret.
    @discardableResult
    public static func with<Result: Sendable>(
        directory: String, secret: String = "", secretsFile: String? = nil, port: Int = 0, failFirst: Int = 0, failEach: Int = 0,
        _ body: @Sendable (PushVerifier) async throws -> Result
    ) async throws -> Result {
        guard LocalStripe.isInstalled else { throw SluiceError(.notFound, "standardwebhooks is not installed: run Tests/Live/setup.") }
        let file = directory + "/pushes.jsonl"
        var arguments = [
            LocalStripe.scriptsDirectory + "/verify_push.py", "--out", file, "--port", String(port), "--fail-first", String(failFirst),
            "--fail-each", String(failEach),
        ]
        if let secretsFile { arguments += ["--secrets-file", secretsFile] }
        let options = ChildProcess.Options(
            LocalStripe.python, arguments, environment: ["PUSH_SECRET": secret, "PYTHONDONTWRITEBYTECODE": "1"],
            workingDirectory: directory, outputFile: directory + "/verify_push.log")
        return try await ChildProcess.with(options) { process in
            let line = try await process.waitForLine(containing: "listening on 127.0.0.1:", seconds: 90)
            guard let port = line.split(separator: ":").last.flatMap({ Int($0) }) else {
                throw SluiceError(.internalError, "verify_push.py did not say its port.")
            }
            return try await body(PushVerifier(port: port, process: process, file: file))
        }
    }

    /// All requests so far, in the order in which they were answered.
    public func pushes() async throws -> [Push] {
        let file = file
        let text = try await offPool { (try? Data(contentsOf: URL(filePath: file))).map { Array($0) } ?? [] }
        // What follows the last line feed is still being written.
        let whole = text.prefix(text.lastIndex(of: 0x0A) ?? 0)
        return try whole.split(separator: 0x0A).map { line in
            let root = try JSONDocument(line).root
            let checks = (root["checks"]?.members ?? []).map { ($0.key, $0.value.bool ?? false) }
            return Push(
                isVerified: root["ok"]?.bool ?? false, status: root["status"]?.int64.map { Int($0) } ?? 0, id: root["id"]?.string,
                attempt: root["attempt"]?.int64.map { Int($0) } ?? 0, body: root["body"]?.string ?? "", error: root["error"]?.string,
                checks: Dictionary(checks) { first, _ in first })
        }
    }
}
