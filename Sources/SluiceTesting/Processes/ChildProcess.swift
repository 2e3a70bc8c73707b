import FoundationEssentials
import SluiceCore
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// A program that a test runs beside itself, in a process group of its own, its output in a file.
///
/// It never outlives its owner: `with` ends it on every way out, and so does `deinit`, by SIGKILL to its whole group.
/// A signal is sent only while the process is known not to be reaped, so it cannot hit another one of the same number.
public final class ChildProcess: Sendable {
    public enum Exit: Equatable, Sendable {
        case code(Int32)
        case signal(Int32)
    }

    public struct Options: Sendable {
        /// A path; looked up in PATH where it has no slash.
        public var executable: String
        public var arguments: [String]
        /// Added to this process's environment; a nil value takes a variable away.
        public var environment: [String: String?]
        public var workingDirectory: String?
        /// Gets standard output and standard error; appended to.
        public var outputFile: String

        public init(
            _ executable: String, _ arguments: [String] = [], environment: [String: String?] = [:], workingDirectory: String? = nil,
            outputFile: String
        ) {
            self.executable = executable
            self.arguments = arguments
            self.environment = environment
            self.workingDirectory = workingDirectory
            self.outputFile = outputFile
        }
    }

    public let pid: Int32
    public let options: Options
    private let ending = Mutex<Exit?>(nil)

    /// Starts the program. Throws if it cannot be started.
    public init(_ options: Options) throws {
        self.options = options
        pid = try ChildProcess.spawn(options)
    }

    deinit { kill9() }

    /// Runs a program for as long as `body` takes.
    @discardableResult
    public static func with<Result: Sendable>(
        _ options: Options, _ body: @Sendable (ChildProcess) async throws -> Result
    ) async throws -> Result {
        let child = try ChildProcess(options)
        defer { child.kill9() }
        return try await body(child)
    }

    /// How it ended; nil while it runs.
    public var exit: Exit? { ending.withLock { ChildProcess.reap(pid, &$0, options: WNOHANG) } }
    public var isRunning: Bool { exit == nil }

    /// Sends a signal to the process alone. False if it has already ended.
    @discardableResult
    public func send(_ signal: Int32) -> Bool {
        ending.withLock { ending in
            ChildProcess.reap(pid, &ending, options: WNOHANG) == nil && kill(pid, signal) == 0
        }
    }

    /// Kills it and its children with SIGKILL, at once, and waits for its end (which SIGKILL makes a matter of a moment).
    public func kill9() {
        ending.withLock { ending in
            guard ChildProcess.reap(pid, &ending, options: WNOHANG) == nil else { return }
            kill(-pid, SIGKILL)
            kill(pid, SIGKILL)
            _ = ChildProcess.reap(pid, &ending, options: 0)
        }
    }

    /// Waits for its end.
    public func waitForExit(seconds: Double = 60) async throws -> Exit {
        try await waitUntil("the end of \(options.executable), process \(pid)", seconds: seconds) { self.exit != nil }
        return exit ?? .code(-1)
    }

    /// SIGTERM, and SIGKILL where that does not end it in time.
    @discardableResult
    public func terminate(graceSeconds: Double = 10) async -> Exit? {
        send(SIGTERM)
        _ = try? await waitForExit(seconds: graceSeconds)
        kill9()
        return exit
    }

    /// What it has written so far; empty where the file is not there.
    public func output() async throws -> String {
        let path = options.outputFile
        return try await offPool { (try? String(contentsOf: URL(filePath: path), encoding: .utf8)) ?? "" }
    }

    /// Waits for a line of output with `text` in it, and answers that line. Throws at once if the program ends without it.
    public func waitForLine(containing text: String, seconds: Double = 20) async throws -> String {
        let found = Mutex<String?>(nil)
        try await waitUntil("\"\(text)\" from \(options.executable)", seconds: seconds) {
            let isOver = self.exit != nil  // asked before reading: the last words count
            let lines = try await self.output().split(separator: "\n", omittingEmptySubsequences: false).dropLast()
            if let line = lines.first(where: { $0.contains(text) }) {
                found.withLock { $0 = String(line) }
                return true
            }
            if isOver {
                let last = lines.suffix(10).joined(separator: "\n")
                throw SluiceError("child_ended", "\(self.options.executable) ended before it wrote \"\(text)\". Its last lines:\n\(last)")
            }
            return false
        }
        return found.withLock { $0 } ?? ""
    }

    private static func reap(_ pid: Int32, _ ending: inout Exit?, options: Int32) -> Exit? {
        if ending != nil { return ending }
        var status: Int32 = 0
        var result = waitpid(pid, &status, options)
        while result == -1 && errno == EINTR { result = waitpid(pid, &status, options) }
        if result == pid { ending = status & 0x7F == 0 ? .code((status >> 8) & 0xFF) : .signal(status & 0x7F) }
        if result == -1 { ending = .code(-1) }  // somebody else reaped it
        return ending
    }

    private static func spawn(_ options: Options) throws -> Int32 {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 1, options.outputFile, O_WRONLY | O_CREAT | O_APPEND, 0o600)
        posix_spawn_file_actions_adddup2(&actions, 1, 2)
        // Without this a child would inherit what the test has open without close-on-exec, and keep ports and pipes open.
        for descriptor in try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").compactMap({ Int32($0) })
        where descriptor > 2 {
            posix_spawn_file_actions_addclose(&actions, descriptor)
        }
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var unblocked = sigset_t()
        sigemptyset(&unblocked)
        var restored = sigset_t()
        sigemptyset(&restored)
        for signal in [SIGTERM, SIGINT, SIGPIPE, SIGHUP] { sigaddset(&restored, signal) }
        posix_spawnattr_setsigmask(&attributes, &unblocked)
        posix_spawnattr_setsigdefault(&attributes, &restored)
        posix_spawnattr_setpgroup(&attributes, 0)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))

        var environment = ProcessInfo.processInfo.environment
        for (name, value) in options.environment { environment[name] = value }
        var words = [options.executable] + options.arguments
        if let directory = options.workingDirectory {
            // posix_spawn has no portable way to change the directory; the shell does it and becomes the program.
            words = ["/bin/sh", "-c", "cd -- \"$0\" && exec \"$@\"", directory] + words
        }
        var arguments: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
        var variables: [UnsafeMutablePointer<CChar>?] = environment.map { strdup("\($0.key)=\($0.value)") } + [nil]
        defer { for pointer in arguments + variables { free(pointer) } }
        var pid: Int32 = 0
        let result = posix_spawnp(&pid, words[0], &actions, &attributes, &arguments, &variables)
        guard result == 0 else {
            throw SluiceError(.internalError, "\(options.executable) cannot be started: \(String(cString: strerror(result))).")
        }
        return pid
    }
}
