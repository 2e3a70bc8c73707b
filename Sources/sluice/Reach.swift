import ArgumentParser
import AsyncHTTPClient
import Foundation
import NIOCore
import SluiceCore
import SluiceServer

/// Where a command finds Sluice.
struct Reach: ParsableArguments {
    @Option(help: ArgumentHelp("The server's data directory (or SLUICE_DATA).", valueName: "directory")) var data: String?
    @Option(
        help: ArgumentHelp("A server's API (or SLUICE_API_URL), with its token in SLUICE_TOKEN or SLUICE_TOKEN_FILE.", valueName: "url"))
    var apiURL: String?

    var dataDirectory: String { data ?? environment["SLUICE_DATA"] ?? "./data" }
    var environment: [String: String] { ProcessInfo.processInfo.environment }

    /// The API that was named; else that of the server on this data directory; else the data itself, under its lock.
    /// Without data, `absentData` says whether to make some.
    func connected<Value>(absentData: AbsentData = .isAnError, _ body: (Caller) async throws -> Value) async throws -> Value {
        if let url = apiURL ?? environment["SLUICE_API_URL"] {
            return try await overHTTP(url, token: try givenToken(for: url), body)
        }
        if let session = try Session.read(dataDirectory: dataDirectory), session.isAlive {
            return try await overHTTP(session.apiURL, token: session.token, body)
        }
        let hasData = FileManager.default.fileExists(atPath: dataDirectory + "/sluice.db")
        if !hasData, absentData == .isTemporary { return try await onNothing(body) }
        guard hasData || absentData == .isMade else {
            throw SluiceError(
                .notFound,
                "no server runs on \(dataDirectory), and there is no data in it: start one with `sluice serve`, or name another with --data or --api-url"
            )
        }
        return try await inside(dataDirectory, body)
    }

    /// What to do where there is no server and no data.
    enum AbsentData { case isAnError, isMade, isTemporary }

    /// Against an empty store that is thrown away: a dry run before there is anything leaves nothing behind.
    private func onNothing<Value>(_ body: (Caller) async throws -> Value) async throws -> Value {
        let directory = FileManager.default.temporaryDirectory.appendingPathComponent("sluice-dry-run-\(UUID().uuidString)").path
        defer { try? FileManager.default.removeItem(atPath: directory) }
        return try await inside(directory, showsNotices: false, body)
    }

    /// The API in this process, on the data itself.
    private func inside<Value>(
        _ directory: String, showsNotices: Bool = true, _ body: (Caller) async throws -> Value
    ) async throws -> Value {
        let connectors = ConnectorsDirectory.found(nil, environment)
        let opened = try await Opened.open(dataDirectory: directory, connectorsDirectory: connectors, environment: environment)
        if showsNotices { for notice in opened.notices { Terminal.error("Note: \(notice)") } }
        let api = opened.api()
        do {
            let value = try await body(
                Caller(isServer: false, connectors: connectors) { request in await api.respond(to: request) })
            await opened.store.close()
            return value
        } catch {
            await opened.store.close()
            throw error
        }
    }

    private func givenToken(for url: String) throws -> String {
        if let token = environment["SLUICE_TOKEN"] { return token }
        if let path = environment["SLUICE_TOKEN_FILE"] {
            guard let bytes = try SmallFile.read(path, bytesMax: 4096) else {
                throw SluiceError(.unauthorized, "SLUICE_TOKEN_FILE names \(path), which does not exist").with("file", path)
            }
            return String(decoding: bytes, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
        }
        // This machine's own token is for this machine's server only.
        if let session = try Session.read(dataDirectory: dataDirectory), session.apiURL == url { return session.token }
        throw SluiceError(.unauthorized, "put a token into SLUICE_TOKEN or SLUICE_TOKEN_FILE; `sluice token create NAME` makes one")
    }

    private func overHTTP<Value>(_ url: String, token: String, _ body: (Caller) async throws -> Value) async throws -> Value {
        guard url.hasPrefix("http://") || url.hasPrefix("https://") else {
            throw SluiceError(.invalid, "the API's URL begins with http:// or https://, for example http://127.0.0.1:8081")
        }
        let client = HTTPClient(eventLoopGroupProvider: .singleton)
        let base = url.hasSuffix("/") ? String(url.dropLast()) : url
        do {
            let value = try await body(Caller(isServer: true) { try await Reach.send($0, base: base, token: token, client) })
            try await client.shutdown()
            return value
        } catch {
            try? await client.shutdown()
            throw error
        }
    }

    private static func send(_ request: APIRequest, base: String, token: String, _ client: HTTPClient) async throws -> APIResponse {
        let query = request.query.map { "\($0.name)=\(Percent.encoded($0.value))" }.joined(separator: "&")
        var message = HTTPClientRequest(url: base + request.path + (query.isEmpty ? "" : "?" + query))
        message.method = .init(rawValue: request.method)
        message.headers.add(name: "Authorization", value: "Bearer " + token)
        if let type = request.contentType { message.headers.add(name: "Content-Type", value: type) }
        if !request.body.isEmpty { message.body = .bytes(ByteBuffer(bytes: request.body)) }
        do {
            let answer = try await client.execute(message, timeout: .seconds(90))
            guard answer.headers.contains(name: APIMark.header) else {
                throw SluiceError(
                    .serverUnreachable,
                    "what answers at \(base) (status \(answer.status.code)) is no Sluice API: check --api-url, which is what `sluice serve` listens on with --api"
                )
            }
            let body = try await answer.body.collect(upTo: 256 * 1024 * 1024)
            return APIResponse(status: Int(answer.status.code), body: Array(buffer: body))
        } catch let error as HTTPClientError {
            throw SluiceError(.serverUnreachable, "the server at \(base) does not answer (\(error.shortDescription)): is it running?")
        } catch let error as CancellationError {
            throw error
        } catch let error as SluiceError {
            throw error
        } catch {
            throw SluiceError(.serverUnreachable, "the server at \(base) does not answer: is it running?")
        }
    }
}

/// Asks the API, wherever it is.
struct Caller {
    /// False: there is no server, and nothing polls.
    let isServer: Bool
    /// Without a server: where this process found connectors, if anywhere.
    let connectors: String?
    private let send: (APIRequest) async throws -> APIResponse

    init(isServer: Bool, connectors: String? = nil, _ send: @escaping (APIRequest) async throws -> APIResponse) {
        self.isServer = isServer
        self.connectors = connectors
        self.send = send
    }

    /// Tells that only the connectors of this binary are known here, where that is so.
    func noteAbsentConnectors() {
        if !isServer, connectors == nil { Terminal.error("Note: \(ConnectorsDirectory.absent)") }
    }

    /// The body of a good answer; throws the error of another.
    func ask(_ request: APIRequest) async throws -> JSONView {
        var request = request
        request.isTrusted = true
        let answer = try await send(request)
        if let error = answer.error { throw error }
        do {
            return try JSONDocument(answer.body).root
        } catch {
            throw SluiceError(.serverUnreachable, "no Sluice API answers at that address (no JSON): check --api-url")
        }
    }

    func get(_ path: String, _ query: [(name: String, value: String?)] = []) async throws -> JSONView {
        try await ask(APIRequest("GET", path, query: query.compactMap { item in item.value.map { (item.name, $0) } }))
    }

    func post(_ path: String, method: String = "POST", _ body: (inout JSONWriter) -> Void = { _ in }) async throws -> JSONView {
        var writer = JSONWriter()
        writer.object(body)
        return try await ask(APIRequest(method, path, contentType: "application/json", body: writer.bytes))
    }
}

/// Where connectors are looked for.
enum ConnectorsDirectory {
    static let absent = "there is no directory ./connectors, so no Lua connector is loaded: name theirs in SLUICE_CONNECTORS"

    /// The one that was named, or SLUICE_CONNECTORS, or ./connectors if there is one.
    static func found(_ named: String?, _ environment: [String: String]) -> String? {
        if let directory = named ?? environment["SLUICE_CONNECTORS"] { return directory }
        var isDirectory: ObjCBool = false
        return FileManager.default.fileExists(atPath: "connectors", isDirectory: &isDirectory) && isDirectory.boolValue ? "connectors" : nil
    }
}
