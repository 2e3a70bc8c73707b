import Logging
import SluiceCore
import SluiceSQLite
import SluiceTesting
import Testing

@testable import SluiceServer

@Suite struct SecretTests {
    let sealer: SecretSealer
    init() throws { sealer = try SecretSealer(key: Fixture.key, source: "here") }

    @Test func whatIsSealedOpensForItsOwnerOnly() throws {
        let sealed = try sealer.seal(Array("canary".utf8), owner: "connection a")
        #expect(try sealer.open(sealed, owner: "connection a") == Array("canary".utf8))
        let error = #expect(throws: SluiceError.self) { try sealer.open(sealed, owner: "connection b") }
        #expect(error?.code == .storage)
        #expect(sealed.firstRange(of: Array("canary".utf8)) == nil)
    }

    @Test func sealingTwiceGivesOtherBytes() throws {
        let first = try sealer.seal([1], owner: "a")
        let second = try sealer.seal([1], owner: "a")
        #expect(first != second)
    }

    @Test func everyChangedByteIsFound() throws {
        let sealed = try sealer.seal(Array("secret".utf8), owner: "a")
        for index in sealed.indices {
            var changed = sealed
            changed[index] ^= 1
            #expect(throws: SluiceError.self, "byte \(index)") { try sealer.open(changed, owner: "a") }
        }
        for count in 0..<sealed.count {
            #expect(throws: SluiceError.self) { try sealer.open(Array(sealed.prefix(count)), owner: "a") }
        }
    }

    @Test func anotherKeyIsNamedByItsSource() throws {
        let other = try SecretSealer(key: [UInt8](repeating: 8, count: 32), source: "/elsewhere/master.key")
        let sealed = try sealer.seal([1, 2, 3], owner: "a")
        let error = try #require(throws: SluiceError.self) { try other.open(sealed, owner: "a") }
        #expect(error.code == .wrongKey && error.message.contains("/elsewhere/master.key"))
    }

    @Test func aMissingOrWrongMasterKeyIsRefusedByName() async throws {
        try await Fixture.withDirectory { directory in
            let store = try SQLiteStore.open(SQLiteOptions(directory: directory, synchronous: .off))
            let first = try await MasterKey.sealer(environment: [:], dataDirectory: directory, store: store)
            #expect(first.notice != nil)
            #expect(try await MasterKey.sealer(environment: [:], dataDirectory: directory, store: store).notice == nil)
            #expect(SmallFile.mode(directory + "/master.key") == 0o600)

            let wrong = String(repeating: "ab", count: 32)
            let error = try #require(
                await failure {
                    try await MasterKey.sealer(environment: ["SLUICE_MASTER_KEY": wrong], dataDirectory: directory, store: store)
                })
            #expect(error.code == .wrongKey && error.message.contains("SLUICE_MASTER_KEY"))

            SmallFile.remove(directory + "/master.key")
            let missing = try #require(
                await failure { try await MasterKey.sealer(environment: [:], dataDirectory: directory, store: store) })
            #expect(missing.code == .wrongKey && missing.message.contains(directory + "/master.key is missing"))
            #expect(try SmallFile.read(directory + "/master.key") == nil, "a lost key must not be replaced")
            await store.close()
        }
    }

    private func failure(_ body: () async throws -> (sealer: SecretSealer, notice: String?)) async -> SluiceError? {
        do {
            _ = try await body()
            return nil
        } catch {
            return error as? SluiceError
        }
    }

    @Test func alarmsAreBoundedAndKeepTheirTime() {
        let board = AlarmBoard(clock: AnchoredClock(wallMillisecondsAtStart: 0), alarmsMax: 2)
        for name in ["a", "b", "c"] { board.raise(Alarm(kind: .gap, subject: name, message: "1")) }
        #expect(board.standing().count == 2 && board.dropped == 1)
        let since = board.standing().last?.since
        board.raise(Alarm(kind: .gap, subject: "c", message: "2"))
        #expect(board.standing().first { $0.alarm.subject == "c" }?.alarm.message == "2")
        #expect(board.standing().first { $0.alarm.subject == "c" }?.since == since)
        board.clear(.gap, subject: "c")
        #expect(board.standing().count == 1)
    }

    /// Once when it begins to stand and once when it is cleared, in one line whatever is in its message.
    @Test func alarmsAreLoggedOnceEach() {
        let lines = LogLines()
        let board = AlarmBoard(clock: AnchoredClock(wallMillisecondsAtStart: 0), logger: Logger(label: "alarms") { _ in lines })
        let alarm = Alarm(
            kind: .deadLetters, subject: "destination out", message: "one delivery\nERROR forged \(String(repeating: "x", count: 9000))")
        for _ in 0..<3 { board.raise(alarm) }
        #expect(lines.all.count == 1)
        let line = lines.all.first ?? ""
        #expect(line.hasPrefix("warning alarm raised alarm=dead_letters ") && line.contains("subject=destination out"), "\(line)")
        #expect(!line.contains("\n") && line.utf8.count < 700)
        for _ in 0..<2 { board.clear(.deadLetters, subject: "destination out") }
        #expect(lines.all.dropFirst() == ["info alarm cleared alarm=dead_letters subject=destination out"])
        board.raise(alarm)
        #expect(lines.all.count == 3, "raised again after it was cleared")
        for number in 0..<1000 { board.raise(Alarm(kind: .gap, subject: "trigger \(number)", message: "gap")) }
        #expect(lines.all.count <= 400 && lines.all.contains { $0.contains("more alarms come and go") }, "bounded in each minute")
    }
}
