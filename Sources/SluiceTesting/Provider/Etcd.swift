import AsyncHTTPClient
import FoundationEssentials
import NIOCore
import SluiceCore

/// etcd (Debian's etcd-server, 3.4), started as a process of its own on 127.0.0.1, spoken to over its JSON gateway.
///
/// Keys and values are base64, 64-bit integers strings. After a compaction a watch from an older revision is answered
/// `canceled: true` with status 200, and a range at one with 400.
public struct Etcd: Sendable {
    public let port: Int
    public let process: ChildProcess
    public var baseURL: String { "http://127.0.0.1:\(port)" }

    /// A change that etcd has acknowledged.
    public struct Change: Sendable, Hashable {
        public var key: String
        public var revision: Int64
    }

    /// Runs etcd for as long as `body` takes; its data and output lie in `directory`, which must exist. On the same `ports`, for
    /// clients and for peers, an etcd whose data were removed has the same cluster_id as before.
    @discardableResult
    public static func with<Result: Sendable>(
        directory: String, ports: (clients: Int, peers: Int)? = nil, _ body: @Sendable (Etcd) async throws -> Result
    ) async throws -> Result {
        let (port, peers) = try ports ?? (LocalPort.free(), LocalPort.free())
        let (client, peer) = ("http://127.0.0.1:\(port)", "http://127.0.0.1:\(peers)")
        let options = ChildProcess.Options(
            "etcd",
            [
                "--data-dir", directory + "/etcd", "--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls",
                peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default=\(peer)", "--logger", "zap", "--log-level",
                "warn",
            ], workingDirectory: directory, outputFile: directory + "/etcd.log")
        return try await ChildProcess.with(options) { process in
            let etcd = Etcd(port: port, process: process)
            try await waitUntil("etcd answers") { (try? await etcd.revision()) != nil }
            return try await body(etcd)
        }
    }

    public func put(_ key: String, _ value: String) async throws -> Change {
        try await change(key, "/v3/kv/put", "{\"key\":\"\(Etcd.base64(key))\",\"value\":\"\(Etcd.base64(value))\"}")
    }

    public func delete(_ key: String) async throws -> Change {
        try await change(key, "/v3/kv/deleterange", "{\"key\":\"\(Etcd.base64(key))\"}")
    }

    private func change(_ key: String, _ path: String, _ body: String) async throws -> Change {
        Change(key: key, revision: try Etcd.revision(try await call(path, body)))
    }

    /// The newest revision.
    public func revision() async throws -> Int64 { try Etcd.revision(try await call("/v3/kv/range", "{\"key\":\"AA==\",\"limit\":\"1\"}")) }

    /// Forgets everything before a revision.
    public func compact(_ revision: Int64) async throws { _ = try await call("/v3/kv/compaction", "{\"revision\":\"\(revision)\"}") }

    private static func revision(_ answer: [UInt8]) throws -> Int64 {
        guard let text = try JSONDocument(answer).root["header"]?["revision"]?.string, let revision = Int64(text) else {
            throw SluiceError(.providerAnswer, "etcd named no revision: \(String(decoding: answer, as: UTF8.self))")
        }
        return revision
    }

    /// What a record of the connector says.
    public static func change(of record: [UInt8]) throws -> Change {
        let root = try JSONDocument(record).root
        guard let key = root["key"]?.string.flatMap({ Data(base64Encoded: $0) }), let text = root["mod_revision"]?.string,
            let revision = Int64(text)
        else { throw SluiceError(.providerAnswer, "not a key-value: \(String(decoding: record, as: UTF8.self))") }
        return Change(key: String(decoding: key, as: UTF8.self), revision: revision)
    }

    private static func base64(_ text: String) -> String { Data(text.utf8).base64EncodedString() }

    private func call(_ path: String, _ body: String) async throws -> [UInt8] {
        var request = HTTPClientRequest(url: baseURL + path)
        request.method = .POST
        request.body = .bytes(Array(body.utf8))
        let response = try await HTTPClient.shared.execute(request, timeout: .seconds(20))
        let bytes = Array(buffer: try await response.body.collect(upTo: 1 << 20))
        guard response.status.code == 200 else {
            throw SluiceError(
                .providerStatus, "etcd answered \(response.status.code) to \(path): \(String(decoding: bytes, as: UTF8.self))")
        }
        return bytes
    }
}
