import SluiceCore
import SluiceSQLite
import Testing

@testable import SluiceServer

/// A directory whose database is gone does not pass for a new one.
@Suite struct DatabaseLossTests {
    private func open(_ directory: String) async throws -> [String] {
        let opened = try await Opened.open(dataDirectory: directory, connectorsDirectory: nil, environment: [:])
        await opened.store.close()
        return opened.notices
    }

    private func failure(_ directory: String) async -> SluiceError? {
        do {
            _ = try await open(directory)
            return nil
        } catch {
            return error as? SluiceError
        }
    }

    @Test func aNewDirectoryHasLostNothing() async throws {
        try await Fixture.withDirectory { directory in
            let notices = try await open(directory)
            #expect(notices.count == 1 && notices[0].hasPrefix("made the master key"))
            #expect(try await open(directory) == [])
        }
    }

    /// As a start leaves it that was killed before it had made its tables.
    @Test func anEmptyFileAloneIsNoLoss() async throws {
        try await Fixture.withDirectory { directory in
            try SmallFile.writePrivate(directory + "/sluice.db", [])
            _ = try await open(directory)
        }
    }

    @Test(arguments: ["master.key", "local.token"]) func anEmptyDatabaseBesideTracesOfUseIsRefused(trace: String) async throws {
        try await Fixture.withDirectory { directory in
            _ = try await open(directory)
            for suffix in ["", "-wal", "-shm"] { SmallFile.remove(directory + "/sluice.db" + suffix) }
            if trace != "master.key" { SmallFile.remove(directory + "/master.key") }
            try SmallFile.writePrivate(directory + "/" + trace, Array(String(repeating: "ab", count: 32).utf8))
            try SmallFile.writePrivate(directory + "/sluice.db", [])
            let error = try #require(await failure(directory))
            #expect(error.code == .storage && error.message.contains("sluice.db is empty") && error.message.contains(trace))
            #expect(try SmallFile.read(directory + "/sluice.db") == [], "nothing was made in its place")

            // Nor with what its log still holds: SQLite would throw that away.
            try SmallFile.writePrivate(directory + "/sluice.db-wal", [1, 2, 3])
            #expect(await failure(directory)?.message.contains("sluice.db is empty") == true)
            SmallFile.remove(directory + "/sluice.db")
            #expect(await failure(directory)?.message.contains("sluice.db is missing, and its log") == true)
            #expect(try SmallFile.read(directory + "/sluice.db-wal") == [1, 2, 3])
            SmallFile.remove(directory + "/sluice.db-wal")
            let notices = try await open(directory)
            #expect(notices[0].hasPrefix("made a new database in \(directory), where \(trace)"))
        }
    }
}
