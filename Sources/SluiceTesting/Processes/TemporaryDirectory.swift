import FoundationEssentials

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// A directory of one's own for as long as `body` takes.
@discardableResult
public func withTemporaryDirectory<Result: Sendable>(
    _ name: String = "sluice-test", _ body: @Sendable (_ path: String) async throws -> Result
) async throws -> Result {
    let path = try await offPool {
        let base = ProcessInfo.processInfo.environment["TMPDIR"] ?? "/tmp"
        let path = "\(base)/\(name)-\(getpid())-\(UUID().uuidString.prefix(8))"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        return path
    }
    do {
        let result = try await body(path)
        try? await offPool { try FileManager.default.removeItem(atPath: path) }
        return result
    } catch {
        try? await offPool { try FileManager.default.removeItem(atPath: path) }
        throw error
    }
}
