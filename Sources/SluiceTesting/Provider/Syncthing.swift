import AsyncHTTPClient
import FoundationEssentials
import NIOCore
import NIOHTTP1
import SluiceCore
import Synchronization

/// Syncthing (Debian, 1.19), started as a process of its own on 127.0.0.1, alone: no discovery, no relays, no ports opened.
///
/// Ids of events count from 1 anew after each start; `limit` gives the last events; a `since` that is too high is answered with
/// nothing after the timeout.
public final class Syncthing: Sendable {
    public static let apiKey = "syncthing-key-canary"
    public let directory: String
    public let port: Int
    private let child = Mutex<ChildProcess?>(nil)
    public var baseURL: String { "http://127.0.0.1:\(port)" }

    /// Makes a home in `directory`, which must exist. Started by `start`.
    public init(directory: String) async throws {
        self.directory = directory
        port = try LocalPort.free()
        let sync = try LocalPort.free()
        try FileManager.default.createDirectory(atPath: directory + "/folder", withIntermediateDirectories: true)
        let generate = try ChildProcess(
            .init(
                "syncthing", ["generate", "--home=\(home)", "--no-default-folder", "--skip-port-probing"],
                environment: ["HOME": directory], workingDirectory: directory, outputFile: directory + "/syncthing.log"))
        let path = home + "/config.xml"
        try await waitUntil("syncthing's configuration is made") { !generate.isRunning }
        var text = try String(contentsOfFile: path, encoding: .utf8)
        for (name, value) in [
            ("apikey", Syncthing.apiKey), ("listenAddress", "tcp://127.0.0.1:\(sync)"), ("globalAnnounceEnabled", "false"),
            ("localAnnounceEnabled", "false"), ("relaysEnabled", "false"), ("natEnabled", "false"), ("startBrowser", "false"),
            ("crashReportingEnabled", "false"), ("urAccepted", "-1"), ("autoUpgradeIntervalH", "0"),
        ] { text = Syncthing.setting(name, to: value, in: text) }
        text = text.replacing("<address>127.0.0.1:8384</address>", with: "<address>127.0.0.1:\(port)</address>")
        try Data(text.utf8).write(to: URL(filePath: path))
    }

    deinit { child.withLock { $0?.kill9() } }

    private var home: String { directory + "/home" }

    private static func setting(_ name: String, to value: String, in text: String) -> String {
        guard let open = text.firstRange(of: "<\(name)>"), let close = text[open.upperBound...].firstRange(of: "</\(name)>") else {
            return text
        }
        return text[..<open.upperBound] + value + text[close.lowerBound...]
    }

    /// Starts it, or starts it again after `stop`; ids count from 1. As one process: its monitor would leave another behind when it
    /// is killed.
    public func start() async throws {
        let process = try ChildProcess(
            .init(
                "syncthing", ["serve", "--home=\(home)", "--no-browser", "--no-restart", "--no-upgrade"],
                environment: ["HOME": directory, "STMONITORED": "yes"], workingDirectory: directory,
                outputFile: directory + "/syncthing.log")
        )
        child.withLock { $0 = process }
        try await waitUntil("syncthing answers", seconds: 60) {
            guard process.isRunning else {
                throw SluiceError(.internalError, "syncthing ended: \(try await process.output().suffix(1000))")
            }
            return (try? await self.call(.GET, "/rest/system/status")) != nil
        }
    }

    public func stop() async { _ = await child.withLock { $0 }?.terminate(graceSeconds: 20) }
    public func kill9() { child.withLock { $0?.kill9() } }

    /// Adds the folder that `touch` changes.
    public func addFolder() async throws {
        let body = "{\"id\":\"docs\",\"path\":\"\(directory)/folder\",\"fsWatcherEnabled\":false,\"rescanIntervalS\":0}"
        _ = try await call(.PUT, "/rest/config/folders/docs", body)
    }

    /// Changes a file and has it found: several events.
    public func touch(_ name: String, _ content: String) async throws {
        try Data(content.utf8).write(to: URL(filePath: directory + "/folder/" + name))
        _ = try await call(.POST, "/rest/db/scan?folder=docs")
    }

    /// The events after an id that it still lists, each as `id@time`, and the last id.
    public func events(after id: Int64) async throws -> (names: [String], last: Int64) {
        let list = try JSONDocument(try await call(.GET, "/rest/events?since=\(id)&timeout=0")).root.elements ?? []
        return (try list.map { try Syncthing.name($0) }, list.last?["id"]?.int64 ?? id)
    }

    /// `id@time`: what tells an event from all others, those of other lives too.
    public static func name(_ event: JSONView) throws -> String {
        guard let id = event["id"]?.int64, let time = event["time"]?.string else {
            throw SluiceError(.providerAnswer, "not an event: \(String(decoding: event.bytes.prefix(200), as: UTF8.self))")
        }
        return "\(id)@\(time)"
    }

    private func call(_ method: HTTPMethod, _ path: String, _ body: String = "") async throws -> [UInt8] {
        var request = HTTPClientRequest(url: baseURL + path)
        request.method = method
        request.headers.add(name: "X-API-Key", value: Syncthing.apiKey)
        if !body.isEmpty { request.body = .bytes(Array(body.utf8)) }
        let response = try await HTTPClient.shared.execute(request, timeout: .seconds(30))
        let bytes = Array(buffer: try await response.body.collect(upTo: 64 << 20))
        guard response.status.code == 200 else {
            throw SluiceError(.providerStatus, "syncthing answered \(response.status.code) to \(path)")
        }
        return bytes
    }
}
