import Foundation
import SluiceSQLite

/// A directory of its own for one test, removed with it.
final class TemporaryDirectory: Sendable {
    let path: String

    init() throws {
        path = FileManager.default.temporaryDirectory.appendingPathComponent("sluice-\(UUID().uuidString)").path
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func options(_ change: (inout SQLiteOptions) -> Void = { _ in }) -> SQLiteOptions {
        var options = SQLiteOptions(directory: path + "/data")
        change(&options)
        return options
    }

    /// Opens off the cooperative pool, as servers must.
    static func open(_ options: SQLiteOptions) async throws -> SQLiteStore {
        try await withCheckedThrowingContinuation { continuation in
            DispatchQueue.global().async { continuation.resume(with: Result { try SQLiteStore.open(options) }) }
        }
    }
}
