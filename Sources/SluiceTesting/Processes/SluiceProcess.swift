import AsyncHTTPClient
import FoundationEssentials
import NIOCore
import SluiceCore
import Synchronization

/// The real `sluice serve` as a process of its own, on a data directory that outlives it: started, killed, started again,
/// always on the same ports, so that a provider's webhooks find it again.
public final class SluiceProcess: Sendable {
    public struct Options: Sendable {
        /// Holds the data directory, the configuration and the log; must exist.
        public var directory: String
        /// The text of sluice.yaml.
        public var configuration: String
        public var environment: [String: String?]
        /// Added to the command line of `serve`.
        public var arguments: [String]
        /// The directory of connectors; the repository's unless given.
        public var connectors: String?
        public init(
            directory: String, configuration: String, environment: [String: String?] = [:], arguments: [String] = [],
            connectors: String? = nil
        ) {
            self.connectors = connectors
            self.directory = directory
            self.configuration = configuration
            self.environment = environment
            self.arguments = arguments
        }
    }

    public let options: Options
    public let hooksPort: Int
    public let apiPort: Int
    private let child = Mutex<ChildProcess?>(nil)

    /// The repository that this file is part of.
    public static let root = #filePath.split(separator: "/").dropLast(4).reduce("") { $0 + "/" + $1 }
    /// The command: SLUICE_BINARY, or what the build left in .build/debug.
    public static var binary: String { ProcessInfo.processInfo.environment["SLUICE_BINARY"] ?? root + "/.build/debug/sluice" }

    public var dataDirectory: String { options.directory + "/data" }
    public var logFile: String { options.directory + "/sluice.log" }
    public var apiURL: String { "http://127.0.0.1:\(apiPort)" }
    public var hooksURL: String { "http://127.0.0.1:\(hooksPort)" }
    public var pid: Int32? { child.withLock { $0?.pid } }
    public var process: ChildProcess? { child.withLock { $0 } }

    /// `hooksPort`: where webhooks come in; a free one unless given.
    public init(_ options: Options, hooksPort: Int? = nil) throws {
        self.options = options
        self.hooksPort = try hooksPort ?? LocalPort.free()
        apiPort = try LocalPort.free()
        try Data(options.configuration.utf8).write(to: URL(filePath: options.directory + "/sluice.yaml"))
    }

    deinit { child.withLock { $0?.kill9() } }

    /// Starts the server and waits until both listeners answer. Throws with the end of its log if it does not.
    public func start(seconds: Double = 90) async throws {
        let arguments = [
            "serve", "--data", dataDirectory, "--listen", "127.0.0.1:\(hooksPort)", "--api", "127.0.0.1:\(apiPort)", "--connectors",
            options.connectors ?? SluiceProcess.root + "/connectors", "--config", options.directory + "/sluice.yaml",
        ]
        let started = try ChildProcess(
            .init(
                SluiceProcess.binary, arguments + options.arguments, environment: options.environment, workingDirectory: options.directory,
                outputFile: logFile))
        child.withLock { $0 = started }
        do {
            try await waitUntil("sluice answers", seconds: seconds) {
                if !started.isRunning { return true }
                // Written last, once both listeners and the local token are there; a killed server leaves an old one.
                let session = (try? String(contentsOfFile: self.dataDirectory + "/server.json", encoding: .utf8)) ?? ""
                guard session.filter({ $0 != " " }).contains("\"pid\":\(started.pid)"), await LocalPort.accepts(self.hooksPort) else {
                    return false
                }
                return (try? await self.send("GET", "/v1/health"))?.status == 200
            }
            guard started.isRunning else { throw SluiceError(.internalError, "sluice ended early") }
        } catch {
            throw SluiceError(.internalError, "sluice did not start: \(try await started.output().suffix(2000))")
        }
    }

    /// Pulls the plug.
    public func kill9() { child.withLock { $0?.kill9() } }

    /// SIGTERM; nil if it had to be killed.
    public func terminate() async -> ChildProcess.Exit? {
        guard let process else { return nil }
        return await process.terminate(graceSeconds: 60)
    }

    public func log() throws -> String { try String(contentsOfFile: logFile, encoding: .utf8) }

    // MARK: The API

    public struct Answer: Sendable {
        public var status: Int
        public var body: [UInt8]
        public func json() throws -> JSONView { try JSONDocument(body).root }
        public var text: String { String(decoding: body, as: UTF8.self) }
    }

    /// One request to the API with the local token.
    @discardableResult
    public func send(_ method: String, _ path: String, body: String? = nil, timeoutSeconds: Int64 = 30) async throws -> Answer {
        var request = HTTPClientRequest(url: apiURL + path)
        request.method = .init(rawValue: method)
        if let token = try? String(contentsOfFile: dataDirectory + "/local.token", encoding: .utf8) {
            request.headers.add(name: "Authorization", value: "Bearer \(token.filter { !$0.isWhitespace })")
        }
        if let body {
            request.headers.add(name: "Content-Type", value: "application/json")
            request.body = .bytes(Array(body.utf8))
        }
        let response = try await HTTPClient.shared.execute(request, timeout: .seconds(timeoutSeconds))
        let bytes = try await response.body.collect(upTo: 64 << 20)
        return Answer(status: Int(response.status.code), body: Array(buffer: bytes))
    }

    /// The URL to give to the provider of a connection.
    public func webhookURL(_ connection: String) async throws -> String {
        let answer = try await send("GET", "/v1/connections/\(connection)")
        guard let url = try answer.json()["webhook_url"]?.string else {
            throw SluiceError(.notFound, "no webhook URL for \(connection): \(answer.text)")
        }
        return url
    }

    /// A trigger as the API shows it.
    public func trigger(_ name: String) async throws -> JSONView { try await send("GET", "/v1/triggers/\(name)").json() }

    /// All jobs, page by page, in order.
    public func jobs(trigger: String? = nil) async throws -> [DeliveryChecker.Job] {
        var jobs: [DeliveryChecker.Job] = []
        var after: String?
        for _ in 0..<10_000 {
            let query = ["limit=1000", after.map { "after=\($0)" }, trigger.map { "trigger=\($0)" }].compactMap { $0 }.joined(
                separator: "&")
            let answer = try await send("GET", "/v1/jobs?\(query)")
            guard answer.status == 200 else { throw SluiceError(.providerStatus, "the API answered \(answer.status): \(answer.text)") }
            let page = try JobsPage(answer.body)
            jobs += page.jobs
            after = page.next ?? after
            if !page.hasMore { return jobs }
        }
        return jobs
    }
}
