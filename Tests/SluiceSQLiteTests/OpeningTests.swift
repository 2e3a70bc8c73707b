import Foundation
import GRDB
import SluiceCore
import SluiceSQLite
import SluiceStore
import Testing

@Suite struct OpeningTests {
    private func failure(_ options: SQLiteOptions) async -> SluiceError? {
        do {
            await (try TemporaryDirectory.open(options)).close()
            return nil
        } catch {
            return error as? SluiceError
        }
    }

    @Test func aSecondServerIsRefusedAndNamesTheFirst() async throws {
        let directory = try TemporaryDirectory()
        let first = try await TemporaryDirectory.open(directory.options())
        let refusal = try #require(await failure(directory.options()))
        #expect(refusal.code == .locked)
        #expect(refusal.message.contains("\(ProcessInfo.processInfo.processIdentifier)"))
        await first.close()
        #expect(await failure(directory.options()) == nil)
    }

    /// Somebody tidies up: the next server would lock another file of that name.
    @Test func aDeletedLockFileLetsNobodyIn() async throws {
        let directory = try TemporaryDirectory()
        let first = try await TemporaryDirectory.open(directory.options())
        try FileManager.default.removeItem(atPath: directory.path + "/data/sluice.lock")
        let refusal = try #require(await failure(directory.options()))
        #expect(refusal.code == .locked && refusal.message.contains("deleted"), "\(refusal)")
        await first.close()
        #expect(await failure(directory.options()) == nil)
    }

    @Test func theDirectoryIsMadeForItsOwnerOnly() async throws {
        let directory = try TemporaryDirectory()
        await (try TemporaryDirectory.open(directory.options())).close()
        let attributes = try FileManager.default.attributesOfItem(atPath: directory.path + "/data")
        #expect(attributes[.posixPermissions] as? NSNumber == 0o700)
        let database = try FileManager.default.attributesOfItem(atPath: directory.path + "/data/sluice.db")
        #expect(database[.posixPermissions] as? NSNumber == 0o600)
    }

    @Test func whatIsNoDirectoryIsRefused() async throws {
        let directory = try TemporaryDirectory()
        try Data().write(to: URL(fileURLWithPath: directory.path + "/data"))
        let refusal = try #require(await failure(directory.options()))
        #expect(refusal.code == .storage)
        #expect(refusal.message.contains("not a directory"))
    }

    /// Under /proc not even root can make files.
    @Test(arguments: ["/proc/self", "/proc/self/data", "/proc/nothing/here"])
    func aDirectoryThatCannotBeWrittenIsRefused(_ path: String) async throws {
        let refusal = try #require(await failure(SQLiteOptions(directory: path)))
        #expect(refusal.code == .storage)
        #expect(refusal.message.contains(path))
    }

    @Test func aDamagedDatabaseIsRefused() async throws {
        let directory = try TemporaryDirectory()
        try FileManager.default.createDirectory(atPath: directory.path + "/data", withIntermediateDirectories: false)
        try Data(repeating: 0x5A, count: 8192).write(to: URL(fileURLWithPath: directory.path + "/data/sluice.db"))
        let refusal = try #require(await failure(directory.options()))
        #expect(refusal.code == .storage)
        #expect(refusal.message.contains("backup"))
        // And the lock is let go.
        try FileManager.default.removeItem(atPath: directory.path + "/data/sluice.db")
        #expect(await failure(directory.options()) == nil)
    }

    @Test func aDatabaseOfANewerVersionIsRefused() async throws {
        let directory = try TemporaryDirectory()
        await (try TemporaryDirectory.open(directory.options())).close()
        try change(directory, "INSERT INTO grdb_migrations (identifier) VALUES ('99')")
        let refusal = try #require(await failure(directory.options()))
        #expect(refusal.code == .storage)
        #expect(refusal.message.contains("newer"))
    }

    @Test func aDatabaseOfAnotherProgramIsRefused() async throws {
        let directory = try TemporaryDirectory()
        await (try TemporaryDirectory.open(directory.options())).close()
        try change(directory, "PRAGMA application_id = 7")
        let refusal = try #require(await failure(directory.options()))
        #expect(refusal.message.contains("another program"))
    }

    @Test func whatWasNotedOfRemovedJobsIsCarriedForward() async throws {
        let directory = try TemporaryDirectory()
        await (try TemporaryDirectory.open(directory.options())).close()
        try change(
            directory,
            """
            DROP INDEX removal_trigger;
            ALTER TABLE removal DROP COLUMN position;
            ALTER TABLE removal DROP COLUMN made_at;
            CREATE TABLE removed_jobs (trigger_id INTEGER PRIMARY KEY, position INTEGER NOT NULL, made_at INTEGER NOT NULL);
            INSERT INTO progress (trigger_id, ns, dedup_space) VALUES (7, 1, 1), (8, 1, 2);
            INSERT INTO removal (ns, trigger_id, max_seq) VALUES (1, 7, 40), (1, 7, 30), (1, 99, 50);
            INSERT INTO removed_jobs (trigger_id, position, made_at) VALUES (7, 5, 1000), (8, 6, 2000), (99, 7, 3000);
            DELETE FROM grdb_migrations WHERE identifier = '14 removals';
            """)
        let store = try await TemporaryDirectory.open(directory.options())
        #expect(try await store.removedJobs(TriggerID(7))?.through == JobPosition(5))
        #expect(try await store.removedJobs(TriggerID(8))?.madeAt == Timestamp(milliseconds: 2000))
        #expect(try await store.removedJobs(TriggerID(99)) == nil, "of a trigger that is gone nothing is kept")
        await store.close()
    }

    private func change(_ directory: TemporaryDirectory, _ sql: String) throws {
        let queue = try DatabaseQueue(path: directory.path + "/data/sluice.db")
        try queue.writeWithoutTransaction { try $0.execute(sql: sql) }
        try queue.close()
    }
}
