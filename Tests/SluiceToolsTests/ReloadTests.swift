import Foundation
import SluiceConnectors
import SluiceCore
import Testing

@testable import SluiceServer

/// Which files are read again: a pure decision.
@Suite struct ReloadTests {
    private let second: Int64 = 1_000_000_000

    private func stamp(_ seconds: Int64, bytes: Int64 = 10, inode: UInt64 = 1) -> ConnectorFiles.Stamp {
        .init(modifiedAtNanoseconds: seconds * second, bytes: bytes, inode: inode)
    }

    @Test func aFileIsReadOnceUnlessItsStampChanges() {
        var files = ConnectorFiles()
        #expect(files.look(["a": stamp(1), "b": stamp(2)], nowNanoseconds: 100 * second).read == ["a", "b"])
        #expect(files.look(["a": stamp(1), "b": stamp(2)], nowNanoseconds: 102 * second).read == [])
        #expect(files.look(["a": stamp(1, bytes: 11), "b": stamp(2, inode: 2)], nowNanoseconds: 104 * second).read == ["a", "b"])
        #expect(files.look(["a": stamp(3, bytes: 11), "b": stamp(2, inode: 2)], nowNanoseconds: 106 * second).read == ["a"])
    }

    /// Two writes within one tick of the clock leave one stamp.
    @Test func aYoungFileIsReadAgain() {
        var files = ConnectorFiles()
        #expect(files.look(["a": stamp(100)], nowNanoseconds: 101 * second).read == ["a"])
        #expect(files.look(["a": stamp(100)], nowNanoseconds: 103 * second).read == ["a"])
        #expect(files.look(["a": stamp(100)], nowNanoseconds: 105 * second).read == [])
    }

    @Test func aFileThatIsGoneIsToldOnceAndReadWhenItComesBack() {
        var files = ConnectorFiles()
        _ = files.look(["a": stamp(1)], nowNanoseconds: 100 * second)
        #expect(files.look([:], nowNanoseconds: 102 * second).gone == ["a"])
        #expect(files.look([:], nowNanoseconds: 104 * second).gone == [])
        let back = files.look(["a": stamp(1)], nowNanoseconds: 106 * second)
        #expect(back.read == ["a"] && back.gone == [])
    }

    @Test func theShelfKeepsTheSinceOfAProblem() throws {
        let shelf = ConnectorShelf([:])
        let error = SluiceError(.connector, "one")
        #expect(shelf.setProblem(.init(file: "f", error: error, since: Timestamp(seconds: 1)), of: "a"))
        #expect(!shelf.setProblem(.init(file: "f", error: error, since: Timestamp(seconds: 2)), of: "a"))
        #expect(shelf.setProblem(.init(file: "f", error: SluiceError(.connector, "two"), since: Timestamp(seconds: 3)), of: "a"))
        #expect(shelf.problems["a"]?.since == Timestamp(seconds: 1) && shelf.problems["a"]?.error.message == "two")
        let connector = try ConnectorFile.load(Repository.path("connectors/chargebee"))
        #expect(shelf.put(connector) == nil)
        #expect(shelf.put(connector)?.definition.name == "chargebee")
    }
}
