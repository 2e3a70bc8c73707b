import Foundation
import SluiceConnectors
import SluiceCore
import SluiceServer
import SluiceSimulation
import Testing

enum Repository {
    static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    static func path(_ name: String) -> String { root.appending(path: name).path(percentEncoded: false) }
    static let naive = path("Tests/Fixtures/connectors/")
}

/// A directory of its own, removed after the body.
func withDirectory<Value>(_ body: (String) async throws -> Value) async throws -> Value {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("sluice-tools-\(UUID().uuidString)").path
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: path) }
    return try await body(path)
}

/// All findings of a connector, as `sluice connector check` has them.
func findings(_ path: String, seeds: UInt64 = 3) async throws -> [ConnectorFinding] {
    let lints = try ConnectorLints(file: path)
    guard let connector = lints.connector else { return lints.findings }
    let seen = ConnectorSimulation.findings(await ConnectorSimulation.run(connector, seeds: seeds), locate: lints.locate)
    return lints.findings + seen.filter { !lints.allows($0) }
}

/// The findings of a connector's source.
func findings(source: String) async throws -> [ConnectorFinding] {
    try await withDirectory { directory in
        try FileManager.default.createDirectory(atPath: directory + "/test", withIntermediateDirectories: true)
        try source.write(toFile: directory + "/test/connector.lua", atomically: true, encoding: .utf8)
        return try await findings(directory + "/test")
    }
}
