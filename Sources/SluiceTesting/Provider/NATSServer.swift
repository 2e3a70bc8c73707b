import CNATS
import FoundationEssentials
import SluiceCore
import Synchronization

/// Debian's nats-server with JetStream, as a process of its own on 127.0.0.1: started, killed, started again on the same port
/// and the same store.
public final class NATSServer: Sendable {
    public let port: Int
    public let directory: String
    /// What stands in its configuration beside port and store: `authorization {…}`, `tls {…}`.
    public let extra: String
    private let child = Mutex<ChildProcess?>(nil)

    public var url: String { "nats://127.0.0.1:\(port)" }
    public var process: ChildProcess? { child.withLock { $0 } }

    /// `directory` must exist; the store lies in it.
    public init(directory: String, extra: String = "") throws {
        self.directory = directory
        self.extra = extra
        port = try LocalPort.free()
    }

    deinit { child.withLock { $0?.kill9() } }

    /// Runs a server for as long as `body` takes.
    @discardableResult
    public static func with<Result: Sendable>(
        directory: String, extra: String = "", _ body: @Sendable (NATSServer) async throws -> Result
    ) async throws -> Result {
        let server = try NATSServer(directory: directory, extra: extra)
        defer { server.kill9() }
        try await server.start()
        return try await body(server)
    }

    public func start() async throws {
        let configuration = """
            listen: "127.0.0.1:\(port)"
            jetstream { store_dir: "\(directory)/nats" }
            \(extra)
            """
        let path = directory + "/nats.conf"
        try await offPool { try Data(configuration.utf8).write(to: URL(filePath: path)) }
        let started = try ChildProcess(
            .init("nats-server", ["-c", path], workingDirectory: directory, outputFile: directory + "/nats.log"))
        child.withLock { $0 = started }
        try await waitUntil("nats-server answers") {
            guard started.isRunning else {
                throw SluiceError("child_ended", "nats-server ended: \(try await started.output().suffix(500))")
            }
            return await LocalPort.accepts(self.port)
        }
    }

    public func kill9() { child.withLock { $0?.kill9() } }

    /// A client, connected: as `user`, where one is named.
    public func client(user: (name: String, password: String)? = nil) async throws -> NATSClient {
        let url = url
        // A server that is short of time may end a connection before it has said who it is.
        for _ in 0..<4 {
            if let client = try? await offPool({ try NATSClient(url: url, user: user) }) { return client }
            try await Task.sleep(for: .milliseconds(200))
        }
        return try await offPool { try NATSClient(url: url, user: user) }
    }
}

/// Makes streams and reads what is in them, for tests. Its calls block, and go one after the other.
public final class NATSClient: Sendable {
    public struct Message: Sendable, Equatable {
        public var sequence: Int64
        public var subject: String
        public var payload: [UInt8]
        /// As they stand in the message, by name.
        public var headers: [String: String]
        public var id: String? { headers["Nats-Msg-Id"] }
    }

    private struct Handle: @unchecked Sendable { var connection: OpaquePointer? }
    private let handle: Mutex<Handle>

    init(url: String, user: (name: String, password: String)?) throws {
        var (options, connection): (OpaquePointer?, OpaquePointer?)
        var status = natsOptions_Create(&options)
        defer { natsOptions_Destroy(options) }
        if status == NATS_OK { status = natsOptions_SetURL(options, url) }
        if status == NATS_OK { status = natsOptions_SetTimeout(options, 5000) }
        if status == NATS_OK, let user { status = natsOptions_SetUserInfo(options, user.name, user.password) }
        if status == NATS_OK { status = natsConnection_Connect(&connection, options) }
        guard status == NATS_OK else { throw SluiceError(.providerUnreachable, "no connection to \(url): \(NATSClient.word(status))") }
        handle = Mutex(Handle(connection: connection))
    }

    deinit { handle.withLock { natsConnection_Destroy($0.connection) } }

    private static func word(_ status: natsStatus) -> String { natsStatus_GetText(status).map { String(cString: $0) } ?? "unknown" }

    /// A stream on disk. `window`: how long it knows the ids of its messages, in seconds.
    public func createStream(_ name: String, subjects: [String], window: Int = 120, more: String = "") async throws {
        let list = subjects.map { "\"\($0)\"" }.joined(separator: ",")
        let body = """
            {"name":"\(name)","subjects":[\(list)],"storage":"file","retention":"limits","discard":"new",\
            "duplicate_window":\(window)000000000\(more)}
            """
        // A server that has just started is not ready to keep streams at once.
        try await waitUntil("the stream \(name)") {
            guard let answer = try? await self.request("$JS.API.STREAM.CREATE.\(name)", body) else { return false }
            guard let error = try JSONDocument(answer).root["error"] else { return true }
            if error["code"]?.int64 == 503 { return false }
            throw SluiceError(.providerAnswer, "no stream: \(error["description"]?.string ?? "")")
        }
    }

    /// Every message of a stream, oldest first.
    public func messages(_ stream: String) async throws -> [Message] {
        let state = try JSONDocument(try await request("$JS.API.STREAM.INFO.\(stream)", "")).root["state"]
        guard let first = state?["first_seq"]?.int64, let last = state?["last_seq"]?.int64 else {
            throw SluiceError(.providerAnswer, "the stream \(stream) has no state")
        }
        guard first <= last else { return [] }
        var messages: [Message] = []
        for sequence in first...last {
            let answer = try await request("$JS.API.STREAM.MSG.GET.\(stream)", "{\"seq\":\(sequence)}")
            guard let message = try JSONDocument(answer).root["message"] else { continue }
            let headers = String(decoding: NATSClient.bytes(message["hdrs"]), as: UTF8.self)
            var named: [String: String] = [:]
            for line in headers.split(separator: "\r\n").dropFirst() {
                guard let colon = line.firstIndex(of: ":") else { continue }
                named[String(line[..<colon])] = line[line.index(after: colon)...].trimmingCharacters(in: .whitespaces)
            }
            messages.append(
                Message(
                    sequence: sequence, subject: message["subject"]?.string ?? "", payload: NATSClient.bytes(message["data"]),
                    headers: named))
        }
        return messages
    }

    private static func bytes(_ text: JSONView?) -> [UInt8] { text?.string.flatMap { Data(base64Encoded: $0) }.map { Array($0) } ?? [] }

    private func request(_ subject: String, _ body: String) async throws -> [UInt8] {
        try await offPool {
            try self.handle.withLock { handle in
                var reply: OpaquePointer?
                let status = natsConnection_RequestString(&reply, handle.connection, subject, body, 5000)
                defer { natsMsg_Destroy(reply) }
                guard status == NATS_OK, let reply, let data = natsMsg_GetData(reply) else {
                    throw SluiceError(.providerAnswer, "\(subject) was not answered: \(NATSClient.word(status))")
                }
                return Array(UnsafeRawBufferPointer(start: data, count: Int(natsMsg_GetDataLength(reply))))
            }
        }
    }
}
