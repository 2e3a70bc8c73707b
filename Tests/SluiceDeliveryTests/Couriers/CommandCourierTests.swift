import Foundation
import SluiceCore
import SluiceTesting
import Testing

@testable import SluiceDelivery

/// Programs of every kind of ill will, each a script that really runs.
@Suite struct CommandCourierTests {
    /// A script in `directory`.
    private func script(_ directory: String, _ name: String, _ lines: String) async throws -> String {
        let path = directory + "/" + name
        try await writeProgram("#!/bin/sh\n\(lines)\n", at: path)
        return path
    }

    private func courier(_ program: String, _ change: (inout CommandDestination) -> Void = { _ in }) -> CommandCourier {
        var destination = CommandDestination(name: "importer", program: program, limitSeconds: 60)
        change(&destination)
        return CommandCourier(destination)
    }

    private func text(_ path: String) async throws -> String { try await offPool { try String(contentsOfFile: path, encoding: .utf8) } }

    /// Whether a process runs; one that only waits to be reaped does not.
    private static func isAlive(_ pid: String) -> Bool {
        guard let stat = try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8), let end = stat.lastIndex(of: ")") else {
            return false
        }
        return !["Z", "X"].contains(stat[stat.index(end, offsetBy: 2)...].prefix(1))
    }

    @Test func P9_aProgramGetsItsJobOnStandardInputAndItsExitCodeIsTheAnswer() async throws {
        try await withTemporaryDirectory { directory in
            let program = try await script(directory, "keep", "cat >\"$1\"; echo kept; echo \"and said\" >&2")
            let parcel = Parcels.make("a", record: "{\n \"n\": 1.50,\r\n \"s\": \"x\\ny\"\n}")
            let answers = await courier(program) { $0.arguments = [directory + "/got file"] }.carry([parcel])
            #expect(answers == [CourierAnswer(.delivered, status: 0, response: Array("kept\nand said\n".utf8))])
            let got = try await text(directory + "/got file")
            #expect(got.hasSuffix("}\n") && got.dropLast().allSatisfy { !$0.isNewline }, "one line: \(got)")
            #expect(got.contains("\"id\":\"\(parcel.id)\"") && got.contains(#""record":{  "n": 1.50,   "s": "x\ny" }"#), "\(got)")
        }
    }

    /// What it prints is kept and shown, and it may print what it was given.
    @Test func whatItIsGivenInSecretIsNotKept() async throws {
        let courier = courier("/bin/sh") {
            $0.environment = [
                "API_TOKEN": "canary-token-12345", "DATABASE_URL": "postgres://me:canary-password@db/jobs", "LANG": "canary-language",
            ]
            $0.arguments = ["-c", "echo \"$LANG: no $API_TOKEN\"; echo $DATABASE_URL; echo password canary-password refused >&2; exit 3"]
        }
        let answer = await courier.carry([Parcels.make("a")])[0]
        let text = String(decoding: answer.response, as: UTF8.self) + (answer.error ?? "")
        #expect(!text.contains("canary-token") && !text.contains("canary-password"), "\(text)")
        #expect(text.contains("canary-language: no [secret]") && text.contains("password [secret] refused"), "\(text)")
        #expect(answer.result == .failed && answer.status == 3)
    }

    @Test func itSeesOnlyWhatItIsGiven() async throws {
        let answers = await courier("/usr/bin/env") { $0.environment = ["DATABASE": "a ="] }.carry([Parcels.make("a", attempt: 3)])
        let lines = Set(String(decoding: answers[0].response, as: UTF8.self).split(separator: "\n").map(String.init))
        let expected: Set = [
            "PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/", "DATABASE=a =", "SLUICE_DESTINATION=importer", "SLUICE_JOB_COUNT=1",
            "SLUICE_JOB_ID=\(Parcels.make("a").id)", "SLUICE_TRIGGER=orders", "SLUICE_POSITION=7", "SLUICE_ATTEMPT=3",
        ]
        #expect(lines == expected)
        let open = await courier("/bin/ls") { $0.arguments = ["/proc/self/fd"] }.carry([Parcels.make("a")])
        // Its three streams, and the directory that it reads.
        #expect(String(decoding: open[0].response, as: UTF8.self).split(separator: "\n") == ["0", "1", "2", "3"])
    }

    @Test(arguments: [
        (0, [65], CourierAnswer.Result.delivered), (1, [65], .failed), (75, [65], .failed), (65, [65], .refused(reason: "refused")),
        (3, [3, 4], .refused(reason: "refused")), (65, [3], .failed), (255, [65], .failed),
    ])
    func exitCodesMeanWhatTheyAreSetTo(_ code: Int, _ refused: [Int], _ result: CourierAnswer.Result) async throws {
        try await withTemporaryDirectory { directory in
            let program = try await script(directory, "end", "echo because; exit \(code)")
            let answer = await courier(program) { $0.refuseCodes = Set(refused) }.carry([Parcels.make("a")])[0]
            #expect(answer.result == result && answer.status == code && answer.response == Array("because\n".utf8))
            #expect((answer.error == nil) == (code == 0) && answer.error?.contains("exit code \(code)") != false)
        }
    }

    @Test func P10_aProgramThatHangsIsEndedWithItsChildren() async throws {
        try await withTemporaryDirectory { directory in
            // SIGTERM is not enough for either: both ignore it.
            let lines = """
                trap '' TERM
                sh -c 'trap "" TERM; echo $$ >"$0/child"; while :; do sleep 0.1; done' "$1" &
                echo $$ >"$1/own"
                echo begun
                while :; do sleep 0.1; done
                """
            let program = try await script(directory, "hang", lines)
            let run = CommandRun(
                program: program, arguments: [directory], environment: ["PATH": "/usr/bin:/bin"], timeoutSeconds: 10, graceSeconds: 1,
                outputBytesKept: 4096)
            let ending = await run.run([], variables: [:], unless: ClosedSignal())
            #expect(ending.how == .outOfTime && ending.output == Array("begun\n".utf8))
            for name in ["own", "child"] {
                let pid = try await text("\(directory)/\(name)").filter(\.isNumber)
                try await waitUntil("the end of \(name)", seconds: 30) { !Self.isAlive(pid) }
            }
        }
    }

    @Test func whatAProgramLeavesBehindHoldsNothingUpAndIsEnded() async throws {
        try await withTemporaryDirectory { directory in
            let program = try await script(directory, "leave", "sleep 1000 & echo $! >\"$1/child\"; echo done; exit 0")
            let begun = ContinuousClock.now
            let answer = await courier(program) {
                $0.arguments = [directory]; $0.limitSeconds = 300
            }.carry([Parcels.make("a")])[0]
            #expect(answer.result == .delivered && answer.response == Array("done\n".utf8))
            #expect(begun.duration(to: .now) < .seconds(250), "its pipe was still open, and nobody waited for it")
            let pid = try await text(directory + "/child").filter(\.isNumber)
            try await waitUntil("the end of the child", seconds: 30) { !Self.isAlive(pid) }
        }
    }

    @Test func P10_ofAHundredMegabytesTheFirstFourKilobytesAreKept() async throws {
        try await withTemporaryDirectory { directory in
            let program = try await script(directory, "loud", "head -c 100000000 /dev/zero | tr '\\0' x; head -c 9000 /dev/zero >&2")
            let answer = await courier(program).carry([Parcels.make("a")])[0]
            #expect(answer.result == .delivered && answer.response == [UInt8](repeating: UInt8(ascii: "x"), count: 4096))
        }
    }

    @Test(arguments: ["exec 0<&-; sleep 0.1; exit 0", "exit 0", "sleep 0.2; head -c 10 >/dev/null", "exec 1>&- 2>&-; cat >/dev/null"])
    func aProgramNeedNotReadWhatItIsGiven(_ lines: String) async throws {
        try await withTemporaryDirectory { directory in
            let program = try await script(directory, "deaf", lines)
            let large = Parcels.make("a", record: "\"" + String(repeating: "x", count: 5_000_000) + "\"")
            #expect(await courier(program).carry([large])[0].result == .delivered)
        }
    }

    @Test func aSignalIsAFailure() async throws {
        try await withTemporaryDirectory { directory in
            let program = try await script(directory, "die", "kill -9 $$")
            let answer = await courier(program).carry([Parcels.make("a")])[0]
            #expect(answer.result == .failed && answer.status == nil && answer.error?.contains("signal 9 (SIGKILL)") == true)
        }
    }

    @Test func whatCannotBeStartedSaysWhy() async throws {
        try await withTemporaryDirectory { directory in
            let plain = directory + "/plain"
            try await offPool { try Data("data".utf8).write(to: URL(filePath: plain)) }
            let lost = directory + "/lost"
            try await writeProgram("#!/no/such/interpreter\n", at: lost)
            for (program, part) in [(directory + "/nothing", "no such file"), (plain, "may not be executed"), (lost, "interpreter")] {
                let answer = await courier(program).carry([Parcels.make("a")])[0]
                #expect(answer.result == .failed && answer.isConnectFailure, "\(answer)")
                #expect(answer.error?.contains(part) == true, "\(answer.error ?? "")")
            }
        }
    }

    @Test func aBatchIsOneLineForEachJobAndOnlyTheRefusedOneIsRefused() async throws {
        try await withTemporaryDirectory { directory in
            let lines = """
                got=$(cat); printf '%s\\n' "$got" >>"$1/got"; echo >>"$1/runs"
                case "$got" in *'"bad"'*) exit 65;; esac
                """
            let program = try await script(directory, "batch", lines)
            let courier = courier(program) {
                $0.arguments = [directory]; $0.isBatched = true; $0.jobsMax = 100
            }
            #expect(courier.batchMax == 100)
            let good = await courier.carry(Parcels.make(0..<100))
            #expect(good.allSatisfy { $0.result == .delivered } && good.count == 100)
            #expect(try await text(directory + "/got") == Parcels.make(0..<100).map { String(decoding: $0.line, as: UTF8.self) }.joined())
            let mixed = await courier.carry([Parcels.make("k1"), Parcels.make("bad"), Parcels.make("k2")])
            #expect(mixed.map(\.result) == [.delivered, .refused(reason: "refused"), .delivered])
            #expect(try await text(directory + "/runs").count == 5, "one batch, one refused batch, three alone")
        }
    }

    @Test(.timeLimit(.minutes(10))) func aStopIsSoonOver() async throws {
        try await withTemporaryDirectory { directory in
            let program = try await script(directory, "long", "echo $$ >\"$1/$SLUICE_ATTEMPT\"; exec sleep 1000")
            let courier = courier(program) { $0.arguments = [directory] }
            try await withThrowingTaskGroup(of: [CourierAnswer].self) { group in
                group.addTask { await courier.carry([Parcels.make("a", attempt: 1)]) }
                try await waitUntil("it runs", seconds: 30) { (try? await text(directory + "/1"))?.contains("\n") == true }
                group.cancelAll()
                #expect(try await group.next()?.first?.result == .failed)
            }
            try await withThrowingTaskGroup(of: [CourierAnswer].self) { group in
                group.addTask { await courier.carry([Parcels.make("a", attempt: 2)]) }
                try await waitUntil("it runs", seconds: 30) { (try? await text(directory + "/2"))?.contains("\n") == true }
                await courier.close()
                #expect(try await group.next()?.first?.result == .failed)
            }
            #expect(await courier.carry([Parcels.make("a", attempt: 3)])[0].result == .failed, "nothing is carried after")
            for attempt in 1...2 {
                let pid = try await text("\(directory)/\(attempt)").filter(\.isNumber)
                try await waitUntil("the end of \(pid)", seconds: 30) { !Self.isAlive(pid) }
            }
        }
    }

    /// The program that docs/DESTINATIONS.md shows, as it stands there but for its directory.
    @Test func theProgramOfThePageKeepsOneFileAJob() async throws {
        try await withTemporaryDirectory { directory in
            let page = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../../../docs/DESTINATIONS.md").standardized
            let text = try await text(page.path(percentEncoded: false))
            let part = try #require(text.components(separatedBy: "```sh\n#!/bin/sh\n").last?.components(separatedBy: "```").first)
            #expect(part.contains("/var/lib/import"))
            let program = try await script(directory, "import", part.replacing("/var/lib/import", with: directory + "/out"))
            try await offPool { try FileManager.default.createDirectory(atPath: directory + "/out", withIntermediateDirectories: true) }
            for attempt in 1...2 {
                #expect(await courier(program).carry([Parcels.make("a", attempt: attempt)])[0].result == .delivered)
            }
            let name = "\(directory)/out/\(Parcels.make("a").id).json"
            #expect(try await self.text(name) == String(decoding: Parcels.make("a").line, as: UTF8.self))
        }
    }

    @Test func settingsAreChecked() {
        let cases: [(String, (inout CommandDestination) -> Void)] = [
            ("absolute path", { $0.program = "sh" }), ("batch_max", { $0.jobsMax = 0 }), ("batch_max", { $0.jobsMax = 1001 }),
            ("refuse_codes", { $0.refuseCodes = [0] }), ("refuse_codes", { $0.refuseCodes = [256] }),
            ("no name of a variable", { $0.environment = ["a b": ""] }), ("no name of a variable", { $0.environment = ["1a": ""] }),
            ("other code than its own", { $0.environment = ["PATH": "/tmp"] }),
            ("other code than its own", { $0.environment = ["BASH_ENV": "$(id)"] }),
            ("other code than its own", { $0.environment = ["LD_PRELOAD": "/x.so"] }),
            ("no name of a variable", { $0.environment = ["BASH_FUNC_cat%%": "() { id; }"] }),
            ("other code than its own", { $0.environment = ["node_options": "--require=/x.js"] }),
            ("SLUICE_", { $0.environment = ["SLUICE_JOB_ID": "x"] }), ("zero byte", { $0.arguments = ["a\0b"] }),
            ("KiB", { $0.arguments = [String(repeating: "x", count: 200_000)] }), ("timeout", { $0.limitSeconds = 501 }),
            ("arguments", { $0.arguments = Array(repeating: "x", count: 65) }),
        ]
        for (part, change) in cases {
            var destination = CommandDestination(name: "a", program: "/bin/true", environment: ["PGHOST": "db", "_x1": "y"])
            #expect(throws: Never.self) { try destination.validate() }
            change(&destination)
            #expect { try destination.validate() } throws: { ($0 as? SluiceError)?.message.contains(part) == true }
        }
    }
}
