import AsyncHTTPClient
import FoundationEssentials
import NIOCore
import NIOHTTP1
import SluiceCore

/// Kinto (PyPI, 26.5.0): a store of JSON records that nobody here wrote, started as a process of its own on 127.0.0.1, in memory.
///
/// `last_modified` is unique within a collection and only grows. A deleted record is listed as a tombstone, but only where the
/// list is bounded by `_since`.
public struct Kinto: Sendable {
    public let port: Int
    public let process: ChildProcess
    /// For example http://127.0.0.1:40123/v1.
    public var serverURL: String { "http://127.0.0.1:\(port)/v1" }

    public static let user = "sluice"
    public static let password = "kinto-password-canary"
    private static let records = "/buckets/notes/collections/all/records"

    private static var command: String { LocalStripe.python.replacing("/python", with: "/kinto") }

    /// Whether `Tests/Live/setup` was run.
    public static var isInstalled: Bool { FileManager.default.isExecutableFile(atPath: command) }

    /// Runs Kinto with an empty collection for as long as `body` takes; `directory` must exist.
    @discardableResult
    public static func with<Result: Sendable>(directory: String, _ body: @Sendable (Kinto) async throws -> Result) async throws -> Result {
        guard isInstalled else { throw SluiceError(.notFound, "Kinto is not installed: run Tests/Live/setup.") }
        let port = try LocalPort.free()
        let configuration = LocalStripe.scriptsDirectory + "/kinto.ini"
        let options = ChildProcess.Options(
            command, ["start", "--ini", configuration, "--port", String(port)],
            environment: ["TMPDIR": directory, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"], workingDirectory: directory,
            outputFile: directory + "/kinto.log")
        return try await ChildProcess.with(options) { process in
            _ = try await process.waitForLine(containing: "Serving on", seconds: 60)
            let kinto = Kinto(port: port, process: process)
            _ = try await kinto.call(.PUT, "/buckets/notes")
            _ = try await kinto.call(.PUT, "/buckets/notes/collections/all")
            return try await body(kinto)
        }
    }

    /// Makes or replaces a record; returns its `last_modified`.
    public func put(_ id: String, text: String) async throws -> Int64 {
        var writer = JSONWriter()
        writer.object { writer in
            writer.key("data")
            writer.object { $0.member("text", text) }
        }
        return try await modified(call(.PUT, "\(Kinto.records)/\(id)", writer.bytes))
    }

    /// Deletes a record; returns the `last_modified` of its tombstone.
    public func delete(_ id: String) async throws -> Int64 { try await modified(call(.DELETE, "\(Kinto.records)/\(id)")) }

    private func modified(_ answer: JSONView) throws -> Int64 {
        guard let time = answer[path: ["data", "last_modified"]]?.int64 else {
            throw SluiceError(.providerAnswer, "Kinto's answer has no last_modified")
        }
        return time
    }

    private func call(_ method: HTTPMethod, _ path: String, _ body: [UInt8] = []) async throws -> JSONView {
        var request = HTTPClientRequest(url: serverURL + path)
        request.method = method
        request.headers.add(name: "Authorization", value: ProviderAPI.basicAuth(user: Kinto.user, password: Kinto.password))
        if !body.isEmpty {
            request.headers.add(name: "Content-Type", value: "application/json")
            request.body = .bytes(body)
        }
        let response = try await HTTPClient.shared.execute(request, timeout: .seconds(30))
        let answer = try await response.body.collect(upTo: 1 << 20)
        guard (200..<300).contains(Int(response.status.code)) else {
            throw SluiceError(.providerStatus, "Kinto answered \(response.status.code) to \(path): \(String(buffer: answer))")
        }
        return try JSONDocument(Array(buffer: answer)).root
    }
}
