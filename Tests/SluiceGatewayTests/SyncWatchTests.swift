import Foundation
import SluiceCore
import SluiceTesting
import Testing

/// The shim in Tests/Shims on a real program, a small server on SQLite: it must tell the one that keeps promise P1 from
/// those that break it.
@Suite(.timeLimit(.minutes(10)))
struct SyncWatchTests {
    static let shims = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().appending(path: "Shims")

    @Test(
        arguments: [
            (["FULL"], nil), (["NORMAL"], "was written but not synced"), (["FULL", "answer-first"], "was never written"),
        ] as [([String], String?)])
    func P1_theShimSeesWhetherASyncComesBeforeTheAnswer(_ mode: [String], _ violation: String?) async throws {
        let directory = FileManager.default.temporaryDirectory.appending(path: "syncwatch-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        let shim = directory.appending(path: "libsyncwatch.so")
        try await run("cc", ["-shared", "-fPIC", "-O2", "-o", shim.path, Self.shims.appending(path: "syncwatch.c").path, "-ldl"])
        let log = directory.appending(path: "log")

        let server = ToyServer(database: directory.appending(path: "toy.db"), mode: mode, shim: shim, log: log)
        let port = try await server.start()
        for number in 1...5 {
            let client = try await RawClient(port: port)
            let body = "sluice-marker-0000000\(number)"
            #expect(try await client.answer(to: "POST / HTTP/1.1\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)").status == 200)
            await client.close()
        }
        try await server.stop()

        let text = try String(contentsOf: log, encoding: .utf8)
        #expect(SyncOrder.successCount(text) == 5)
        let violations = SyncOrder.violations(text)
        #expect(violations.count == (violation == nil ? 0 : 5), "\(violations)")
        if let violation { #expect(violations.allSatisfy { $0.contains(violation) }) }
    }

    private func run(_ tool: String, _ arguments: [String]) async throws {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = [tool] + arguments
        let status = try await withCheckedThrowingContinuation { continuation in
            process.terminationHandler = { continuation.resume(returning: $0.terminationStatus) }
            do { try process.run() } catch { continuation.resume(throwing: error) }
        }
        try #require(status == 0, "\(tool) failed")
    }
}

/// toy_server.py under the shim. It ends when its input does.
private final class ToyServer: @unchecked Sendable {
    private let process = Process()
    private let input = Pipe()
    private let output = Pipe()
    private let ended: AsyncStream<Void>

    init(database: URL, mode: [String], shim: URL, log: URL) {
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments =
            ["LD_PRELOAD=\(shim.path)", "SYNCWATCH_LOG=\(log.path)", "python3"]
            + [SyncWatchTests.shims.appending(path: "toy_server.py").path, database.path] + mode
        process.standardInput = input
        process.standardOutput = output
        let (ended, continuation) = AsyncStream.makeStream(of: Void.self)
        self.ended = ended
        process.terminationHandler = { _ in continuation.finish() }
    }

    func start() async throws -> Int {
        let line = AsyncStream<String> { continuation in
            output.fileHandleForReading.readabilityHandler = { handle in
                continuation.yield(String(decoding: handle.availableData, as: UTF8.self))
                handle.readabilityHandler = nil
                continuation.finish()
            }
        }
        try process.run()
        for await text in line {
            if let port = Int(text.trimmingCharacters(in: .whitespacesAndNewlines)) { return port }
        }
        throw SluiceError("ended", "The toy server told no port.")
    }

    func stop() async throws {
        try input.fileHandleForWriting.close()
        for await _ in ended {}
    }
}
