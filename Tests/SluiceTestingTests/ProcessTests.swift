import FoundationEssentials
import SluiceCore
import Synchronization
import Testing

@testable import SluiceTesting

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

struct ProcessTests {
    /// Whether a process of this number exists.
    static func exists(_ pid: Int32) -> Bool { kill(pid, 0) == 0 }

    static func shell(_ script: String, in directory: String, environment: [String: String?] = [:]) -> ChildProcess.Options {
        ChildProcess.Options(
            "sh", ["-c", script], environment: environment, workingDirectory: directory, outputFile: directory + "/output")
    }

    @Test func getsItsEnvironmentAndDirectoryAndItsOutputIsKept() async throws {
        try await withTemporaryDirectory { directory in
            let script = "echo here $(pwd); echo said $WORD >&2; echo home ${HOME-none}; exit 3"
            try await ChildProcess.with(ProcessTests.shell(script, in: directory, environment: ["WORD": "a b", "HOME": nil])) { child in
                let line = try await child.waitForLine(containing: "said")
                #expect(line == "said a b")
                let exit = try await child.waitForExit()
                #expect(exit == .code(3))
                let output = try await child.output()
                #expect(output == "here \(directory)\nsaid a b\nhome none\n")
            }
        }
    }

    @Test func endsEarlyWithItsLastLines() async throws {
        try await withTemporaryDirectory { directory in
            try await ChildProcess.with(ProcessTests.shell("echo no port; exit 1", in: directory)) { child in
                let error = await #expect(throws: SluiceError.self) { try await child.waitForLine(containing: "listening", seconds: 30) }
                #expect(error?.code == "child_ended" && error?.message.contains("no port") == true)
            }
        }
    }

    @Test func isKilledWithItsChildrenOnEveryWayOut() async throws {
        struct Stop: Error {}
        try await withTemporaryDirectory { directory in
            let pids = Mutex<[Int32]>([])
            await #expect(throws: Stop.self) {
                try await ChildProcess.with(ProcessTests.shell("sleep 300 & echo child $!; wait", in: directory)) { child in
                    let line = try await child.waitForLine(containing: "child ", seconds: 120)
                    pids.withLock { $0 = [child.pid, Int32(line.dropFirst(6)) ?? 0] }
                    #expect(child.isRunning)
                    throw Stop()
                }
            }
            let ended = pids.withLock { $0 }
            try #require(ended.count == 2 && ended[1] > 1)
            #expect(!ProcessTests.exists(ended[0]))
            // The grandchild belongs to init now, which reaps it when it gets to it.
            try await waitUntil("the end of the grandchild") {
                if !ProcessTests.exists(ended[1]) { return true }
                // It may be reaped between the two looks.
                let status = try? await offPool { try String(contentsOfFile: "/proc/\(ended[1])/stat", encoding: .utf8) }
                return status?.contains(") Z ") ?? !ProcessTests.exists(ended[1])
            }
        }
    }

    @Test func dyingByASignalIsToldFromAnExitCode() async throws {
        try await withTemporaryDirectory { directory in
            let child = try ChildProcess(ProcessTests.shell("echo up; exec sleep 300", in: directory))
            _ = try await child.waitForLine(containing: "up")
            child.kill9()
            #expect(child.exit == .signal(SIGKILL))
            #expect(!child.send(SIGTERM), "no signal to a number that may be somebody else's by now")
            let polite = try ChildProcess(ProcessTests.shell("trap 'exit 7' TERM; echo up2; while :; do sleep 0.05; done", in: directory))
            _ = try await polite.waitForLine(containing: "up2")
            #expect(await polite.terminate() == .code(7))
        }
    }

    @Test func aMissingProgramIsAnError() async throws {
        try await withTemporaryDirectory { directory in
            #expect(throws: SluiceError.self) {
                _ = try ChildProcess(.init("no-such-program-anywhere", outputFile: directory + "/output"))
            }
        }
    }

    @Test func waitingInVainSaysForWhat() async {
        let error = await #expect(throws: SluiceError.self) { try await waitUntil("rain", seconds: 0.05) { false } }
        #expect(error?.message.contains("rain") == true)
    }
}
