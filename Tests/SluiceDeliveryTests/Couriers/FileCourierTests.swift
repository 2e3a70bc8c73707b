import Foundation
import SluiceCore
import SluiceTesting
import Synchronization
import Testing

@testable import SluiceDelivery

/// Files of jobs, on a real disk; where the disk must fail, its calls are replaced.
@Suite struct FileCourierTests {
    /// A disk that fails as it is told.
    final class Disk: Sendable {
        struct State {
            var writes = 0
            var syncs = 0
            /// Bytes that still fit; beyond them ENOSPC, after what fits was written.
            var room = Int.max
            /// The sync that fails, counted from 1.
            var failingSync = 0
        }
        let state = Mutex(State())
        var calls: JobFile.Calls {
            JobFile.Calls(
                write: { descriptor, bytes, count in
                    let fits = self.state.withLock { state in
                        state.writes += 1
                        let fits = min(count, state.room)
                        state.room -= state.room == .max ? 0 : fits
                        return fits
                    }
                    guard fits > 0 else {
                        errno = ENOSPC
                        return -1
                    }
                    return JobFile.Calls.system.write(descriptor, bytes, fits)
                },
                sync: { descriptor in
                    let fails = self.state.withLock { state in
                        state.syncs += 1
                        return state.syncs == state.failingSync
                    }
                    if fails {
                        errno = EIO
                        return -1
                    }
                    return JobFile.Calls.system.sync(descriptor)
                }, lockTries: 3)
        }
    }

    private func courier(
        _ directory: String, _ path: String = "orders.jsonl", _ rotation: FileRotation = FileRotation(), disk: Disk? = nil,
        clock: any TimeSource = SystemClock()
    ) throws -> FileCourier {
        let resolved = try #require(FileDestination.resolve(path, root: directory))
        let destination = FileDestination(name: "archive", path: resolved, root: directory, rotation: rotation)
        try destination.validate()
        return FileCourier(destination, wallTime: clock, calls: disk?.calls ?? .system)
    }

    struct SystemClock: TimeSource {
        func now() -> Timestamp { Timestamp(milliseconds: Int64(Date().timeIntervalSince1970 * 1000)) }
    }

    private func read(_ path: String) async throws -> String { try await offPool { try String(contentsOfFile: path, encoding: .utf8) } }

    private func write(_ text: String, _ path: String) async throws {
        try await offPool { try Data(text.utf8).write(to: URL(filePath: path)) }
    }

    private func lines(_ parcels: [Parcel]) -> String { String(decoding: parcels.flatMap(\.line), as: UTF8.self) }

    private func files(_ directory: String) async throws -> [String] {
        try await offPool { try FileManager.default.contentsOfDirectory(atPath: directory).sorted() }
    }

    @Test func P9_eachJobIsALineAndABatchIsOneSync() async throws {
        try await withTemporaryDirectory { directory in
            let disk = Disk()
            let courier = try courier(directory, "a/b/orders.jsonl", disk: disk)
            #expect(await courier.carry(Parcels.make(0..<300)).allSatisfy { $0 == CourierAnswer(.delivered) })
            let opening = disk.state.withLock(\.syncs)
            #expect(await courier.carry(Parcels.make(300..<500)).count == 200)
            #expect(disk.state.withLock(\.syncs) == opening + 1)
            #expect(try await read(directory + "/a/b/orders.jsonl") == lines(Parcels.make(0..<500)))
            await courier.close()
            #expect(await courier.carry(Parcels.make(0..<1))[0].result == .failed, "nothing is carried after")
        }
    }

    @Test func rotatesBySizeAndKeepsTheYoungest() async throws {
        try await withTemporaryDirectory { directory in
            let courier = try courier(directory, rotation: 4096, keep: 3)
            var all: [Parcel] = []
            for batch in 0..<12 {
                let parcels = Parcels.make(batch * 10..<batch * 10 + 10)
                all += parcels
                #expect(await courier.carry(parcels).allSatisfy { $0.result == .delivered })
            }
            let found = try await files(directory)
            #expect(found.count == 4 && found.first == "orders.jsonl")
            let numbers = found.compactMap { FileRotation.number(of: $0, in: "orders.jsonl") }
            #expect(numbers.count == 3 && numbers.max().map { [$0 - 2, $0 - 1, $0] } == numbers)
            var text = ""
            for name in found.dropFirst() + ["orders.jsonl"] {
                let part = try await read(directory + "/" + name)
                #expect(part.utf8.count <= 4096 && part.hasSuffix("\n"))
                text += part
            }
            #expect(lines(all).hasSuffix(text) && text.utf8.count > 3 * 2048, "the youngest jobs, none missing, none twice")
            // A larger batch than a file may be stays together.
            #expect(await courier.carry(Parcels.make(500..<600)).allSatisfy { $0.result == .delivered })
            #expect(try await read(directory + "/orders.jsonl") == lines(Parcels.make(500..<600)))
        }
    }

    private func courier(_ directory: String, rotation bytes: Int64, keep: Int) throws -> FileCourier {
        try courier(directory, "orders.jsonl", FileRotation(bytesMax: bytes, keep: keep))
    }

    @Test func rotatesByTheCalendar() async throws {
        let rotation = FileRotation(every: .hours(24))
        let midnight = Timestamp(milliseconds: 1_767_225_600_000)
        func isDue(_ modified: Span, _ now: Span, size: Int64 = 10) -> Bool {
            rotation.isDue(size: size, adding: 1, modifiedAt: midnight + modified, now: midnight + now)
        }
        #expect(!isDue(.zero, .hours(23)) && isDue(.zero - .seconds(1), .zero) && isDue(.hours(1), .hours(24)))
        #expect(isDue(.hours(1), .zero - .hours(1)), "a clock set back ends a period too")
        #expect(!isDue(.zero, .hours(48), size: 0), "an empty file stays")
        try await withTemporaryDirectory { directory in
            let courier = try courier(directory, "orders.jsonl", rotation)
            _ = await courier.carry(Parcels.make(0..<1))
            try await offPool {
                let yesterday = Date().addingTimeInterval(-25 * 3600)
                try FileManager.default.setAttributes([.modificationDate: yesterday], ofItemAtPath: directory + "/orders.jsonl")
            }
            _ = await courier.carry(Parcels.make(1..<2))
            #expect(try await files(directory) == ["orders.jsonl", "orders.jsonl.00000001"])
            #expect(try await read(directory + "/orders.jsonl.00000001") == lines(Parcels.make(0..<1)))
        }
    }

    @Test(arguments: ["", "{\"torn\":", String(repeating: "x", count: 200_000)])
    func P9_aTornLastLineIsCutOff(_ torn: String) async throws {
        try await withTemporaryDirectory { directory in
            for whole in ["", "{}\n", "{}\n{\"a\":1}\n"] {
                let path = directory + "/orders.jsonl"
                try await write(whole + torn, path)
                let courier = try courier(directory)
                #expect(await courier.carry(Parcels.make(0..<2)).allSatisfy { $0.result == .delivered })
                #expect(try await read(path) == whole + lines(Parcels.make(0..<2)))
                await courier.close()
            }
        }
    }

    @Test func P9_onAFullDiskNothingIsHalfThereAndNothingIsLost() async throws {
        try await withTemporaryDirectory { directory in
            let disk = Disk()
            let courier = try courier(directory, disk: disk)
            #expect(await courier.carry(Parcels.make(0..<5)).allSatisfy { $0.result == .delivered })
            disk.state.withLock { $0.room = 100 }
            let refused = await courier.carry(Parcels.make(5..<10))
            #expect(refused.allSatisfy { $0.result == .failed && $0.error?.contains("disk is full") == true && $0.isConnectFailure })
            #expect(try await read(directory + "/orders.jsonl") == lines(Parcels.make(0..<5)))
            disk.state.withLock { $0.room = .max }
            #expect(await courier.carry(Parcels.make(5..<10)).allSatisfy { $0.result == .delivered })
            #expect(try await read(directory + "/orders.jsonl") == lines(Parcels.make(0..<10)))
        }
    }

    @Test func P9_whereASyncFailsTheBatchIsNotDelivered() async throws {
        // Each sync of a run fails once: of the directories, of the opened file, of the lines, around a rotation.
        for failing in 1...12 {
            try await withTemporaryDirectory { directory in
                let disk = Disk()
                disk.state.withLock { $0.failingSync = failing }
                let courier = try courier(directory, "a/orders.jsonl", FileRotation(bytesMax: 4096), disk: disk)
                var delivered: [Parcel] = []
                var failures = 0
                for batch in 0..<6 {
                    let parcels = Parcels.make(batch * 10..<batch * 10 + 10)
                    while await courier.carry(parcels)[0].result != .delivered { failures += 1 }
                    delivered += parcels
                }
                #expect(failures == 1)
                let names = try await files(directory + "/a")
                var text = ""
                for name in names.dropFirst() + ["orders.jsonl"] { text += try await read(directory + "/a/" + name) }
                #expect(text == lines(delivered), "sync \(failing): each job once, in order")
            }
        }
    }

    @Test func P9_fromWhateverACrashLeavesItGoesOnInWholeLines() async throws {
        try await withTemporaryDirectory { directory in
            var random = ProviderRandom(seed: 7)
            let path = directory + "/orders.jsonl"
            var durable = ""
            for round in 0..<40 {
                let parcels = Parcels.make(round * 5..<round * 5 + 5)
                let courier = try courier(directory)
                #expect(await courier.carry(parcels).allSatisfy { $0.result == .delivered })
                durable += lines(parcels)
                await courier.close()
                // The next batch was cut off by a kill -9 or a power loss, anywhere.
                let next = lines(Parcels.make(1000 + round..<1003 + round))
                let left = String(next.prefix(Int(random.next() % UInt64(next.count + 1))))
                try await write(durable + left, path)
                durable += left[..<(left.lastIndex(of: "\n").map { left.index(after: $0) } ?? left.startIndex)]
            }
            _ = await (try courier(directory)).carry(Parcels.make(0..<1))
            #expect(try await read(path) == durable + lines(Parcels.make(0..<1)))
        }
    }

    @Test func aFileThatSomebodyMovedIsBegunAnew() async throws {
        try await withTemporaryDirectory { directory in
            let courier = try courier(directory)
            _ = await courier.carry(Parcels.make(0..<1))
            try await offPool { try FileManager.default.moveItem(atPath: directory + "/orders.jsonl", toPath: directory + "/moved") }
            _ = await courier.carry(Parcels.make(1..<2))
            #expect(try await read(directory + "/moved") == lines(Parcels.make(0..<1)))
            #expect(try await read(directory + "/orders.jsonl") == lines(Parcels.make(1..<2)))
        }
    }

    @Test func whatIsNoFileOfItsOwnIsRefused() async throws {
        try await withTemporaryDirectory { outside in
            try await withTemporaryDirectory { directory in
                try await offPool {
                    try FileManager.default.createSymbolicLink(atPath: directory + "/link", withDestinationPath: outside)
                    try FileManager.default.createSymbolicLink(atPath: directory + "/f.jsonl", withDestinationPath: outside + "/f")
                    try FileManager.default.createDirectory(atPath: directory + "/d.jsonl", withIntermediateDirectories: true)
                    #expect(mkfifo(directory + "/p.jsonl", 0o600) == 0)
                }
                for (path, part) in [
                    ("link/a.jsonl", "symbolic link"), ("f.jsonl", "opened"), ("d.jsonl", "opened"), ("p.jsonl", "no plain file"),
                ] {
                    let answer = await (try courier(directory, path)).carry(Parcels.make(0..<1))[0]
                    #expect(answer.result == .failed && answer.error?.contains(part) == true, "\(path): \(answer.error ?? "delivered")")
                }
                #expect(try await files(outside).isEmpty)
                let first = try courier(directory, disk: Disk())
                #expect(await first.carry(Parcels.make(0..<1))[0].result == .delivered)
                let second = try courier(directory, disk: Disk())
                let answer = await second.carry(Parcels.make(0..<1))[0]
                #expect(answer.result == .failed && answer.error?.contains("another process") == true)
                await first.close()
                try await waitUntil("the first lets go", seconds: 20) { await second.carry(Parcels.make(1..<2))[0].result == .delivered }
            }
        }
    }

    @Test(.timeLimit(.minutes(10))) func P12_aDiskThatHangsIsGivenUpWaitingFor() async throws {
        try await withTemporaryDirectory { directory in
            let held = Mutex(true)
            let gate = Mutex(0)
            let calls = JobFile.Calls(
                write: { descriptor, bytes, count in
                    gate.withLock { $0 += 1 }
                    while held.withLock({ $0 }) { usleep(5000) }
                    return JobFile.Calls.system.write(descriptor, bytes, count)
                }, sync: JobFile.Calls.system.sync, lockTries: 1)
            let destination = FileDestination(name: "a", path: directory + "/a.jsonl", root: directory, timeoutSeconds: 5)
            let courier = FileCourier(destination, wallTime: SystemClock(), calls: calls)
            let answer = await courier.carry(Parcels.make(0..<1))[0]
            #expect(answer.result == .failed && answer.error?.contains("not answered") == true)
            // While the call is late nothing is put behind it.
            try await waitUntil("the call hangs") { gate.withLock { $0 } == 1 }
            for _ in 0..<3 { #expect(await courier.carry(Parcels.make(1..<2))[0].result == .failed) }
            #expect(gate.withLock { $0 } == 1)
            held.withLock { $0 = false }
            try await waitUntil("it goes on", seconds: 20) { await courier.carry(Parcels.make(2..<3))[0].result == .delivered }
            // What was carried again because its answer came late stands there once more.
            let second = lines([Parcels.make("k2")])
            let text = try await read(directory + "/a.jsonl")
            let first = lines([Parcels.make("k0")])
            #expect(text.hasPrefix(first + second), "\(text)")
            #expect(text.dropFirst(first.count).replacing(second, with: "").isEmpty, "\(text)")
        }
    }

    @Test func pathsStayWithinTheirDirectory() {
        let cases: [(String, String?)] = [
            ("orders.jsonl", "/data/files/orders.jsonl"), ("a//b.jsonl", "/data/files/a/b.jsonl"),
            ("/data/files/x", "/data/files/x"), ("../x", nil), ("a/../../x", nil), ("/etc/passwd", nil), ("/data/filesx", nil), ("", nil),
            (".", nil), ("a/", nil), ("/data/files", nil), ("a/./b", nil), ("a\0b", nil),
        ]
        for (text, path) in cases { #expect(FileDestination.resolve(text, root: "/data/files") == path, "\(text)") }
        #expect(FileDestination.collide("/a/x", "/a/x") && FileDestination.collide("/a/x.00000007", "/a/x"))
        #expect(FileDestination.collide("/a/x", "/a/x.12345678") && !FileDestination.collide("/a/x", "/a/x.1"))
        #expect(FileRotation.rotated("a", number: 12) == "a.00000012" && FileRotation.number(of: "a.00000012", in: "a") == 12)
        for rotation in [
            FileRotation(bytesMax: 10), FileRotation(every: .seconds(1)), FileRotation(keep: 3), FileRotation(bytesMax: 1 << 20, keep: 0),
        ] {
            let destination = FileDestination(name: "a", path: "/d/a", root: "/d", rotation: rotation)
            #expect(throws: SluiceError.self) { try destination.validate() }
        }
    }
}
