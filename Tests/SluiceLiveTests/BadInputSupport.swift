import AsyncHTTPClient
import Foundation
import NIOCore
import SluiceCore
import SluiceTesting

/// The real command, beside a server or without one.
struct Command: Sendable {
    let directory: String
    let dataDirectory: String
    let environment: [String: String?]

    init(_ sluice: SluiceProcess) {
        (directory, dataDirectory, environment) = (sluice.options.directory, sluice.dataDirectory, sluice.options.environment)
    }

    init(_ directory: String, environment: [String: String?] = [:]) {
        (self.directory, dataDirectory, self.environment) = (directory, directory + "/data", environment)
    }

    /// A server on any free ports.
    static func serve(_ directory: String) -> [String] {
        ["serve", "--data", directory, "--listen", "127.0.0.1:0", "--api", "127.0.0.1:0"]
    }

    /// Runs to its end; a server that starts against all expectation is killed and has code -1.
    func run(_ arguments: [String]) async throws -> (code: Int32, text: String) {
        let file = "\(directory)/command-\(UInt32.random(in: 0...UInt32.max)).txt"
        var environment = environment
        environment["SLUICE_DATA"] = dataDirectory
        let child = try ChildProcess(
            .init(SluiceProcess.binary, arguments, environment: environment, workingDirectory: directory, outputFile: file))
        defer { child.kill9() }
        let exit = try? await child.waitForExit(seconds: 90)
        let text = try await child.output()
        if case .code(let code) = exit { return (code, text) }
        return (-1, text)
    }

    func json(_ arguments: [String]) async throws -> JSONView {
        let answer = try await run(arguments)
        guard answer.code == 0 else { throw SluiceError(.internalError, "\(arguments): \(answer.text)") }
        return try JSONDocument(Array(answer.text.utf8)).root
    }
}

/// Webhooks of one's own making.
enum Hook {
    struct Answer: Sendable {
        var status: Int
        var text: String
        var retryAfter: Int?
    }

    static func basic(_ password: String) -> (String, String) {
        ("Authorization", "Basic " + Data("\(Chargebee.user):\(password)".utf8).base64EncodedString())
    }

    static func post(_ url: String, _ body: [UInt8], _ headers: [(String, String)]) async throws -> Answer {
        let answer = try await HTTPClient.shared.execute(request(url, headers, .bytes(body)), timeout: .seconds(20))
        let text = String(buffer: try await answer.body.collect(upTo: 1 << 20))
        return Answer(
            status: Int(answer.status.code), text: text, retryAfter: answer.headers.first(name: "Retry-After").flatMap { Int($0) })
    }

    /// Sends less than it announced and closes. Whether it got no 2xx.
    static func cutOff(_ url: String, _ headers: [(String, String)]) async -> Bool {
        let half = AsyncStream<ByteBuffer> { stream in
            stream.yield(ByteBuffer(string: #"{"id":"ev_half","#))
            stream.finish()
        }
        let request = request(url, headers, .stream(half, length: .known(Int64(100))))
        guard let answer = try? await HTTPClient.shared.execute(request, timeout: .seconds(5)) else { return true }
        return answer.status.code >= 300
    }

    private static func request(_ url: String, _ headers: [(String, String)], _ body: HTTPClientRequest.Body) -> HTTPClientRequest {
        var request = HTTPClientRequest(url: url)
        request.method = .POST
        for (name, value) in headers { request.headers.add(name: name, value: value) }
        request.body = body
        return request
    }
}

/// A file system in memory, small enough to fill.
enum SmallDisk {
    /// Whether this process may mount one.
    static var isPossible: Bool {
        get async {
            let path = "/tmp/sluice-mount-\(UInt32.random(in: 0...UInt32.max))"
            return await (try? with(path, megabytes: 1) { true }) ?? false
        }
    }

    static func with<Value: Sendable>(
        _ path: String, megabytes: Int, isReadOnly: Bool = false, _ body: @Sendable () async throws -> Value
    ) async throws -> Value {
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        let options = "size=\(megabytes)m,mode=700" + (isReadOnly ? ",ro" : "")
        guard try await run("mount", ["-t", "tmpfs", "-o", options, "sluice-test", path]) == .code(0) else {
            try? FileManager.default.removeItem(atPath: path)
            throw SluiceError(.storage, "no file system can be mounted at \(path)")
        }
        let result: Result<Value, any Error>
        do { result = .success(try await body()) } catch { result = .failure(error) }
        _ = try await run("umount", ["-l", path])
        try? FileManager.default.removeItem(atPath: path)
        return try result.get()
    }

    private static func run(_ executable: String, _ arguments: [String]) async throws -> ChildProcess.Exit {
        try await ChildProcess(.init(executable, arguments, outputFile: "/dev/null")).waitForExit()
    }

    /// Takes all the room there is.
    static func fill(_ directory: String) throws {
        guard let file = fopen(directory + "/filler", "w") else { throw SluiceError(.storage, "no filler") }
        defer { fclose(file) }
        setvbuf(file, nil, _IONBF, 0)
        for size in [65_536, 4096, 1] {
            let block = [UInt8](repeating: 1, count: size)
            for _ in 0..<100_000 where fwrite(block, 1, size, file) == size {}
        }
    }

    static func free(_ directory: String) throws { try FileManager.default.removeItem(atPath: directory + "/filler") }
}
