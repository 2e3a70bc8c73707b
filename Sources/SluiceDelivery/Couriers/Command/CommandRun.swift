import Subprocess
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// One run of a program: input given, output read to its end and the first of it kept, the end awaited within a limit.
///
/// The program gets a session and so a process group of its own, no open file but its three streams, `/` as its directory, and
/// no variable that is not given here. It need not read what it is given.
struct CommandRun: Sendable {
    var program: String
    var arguments: [String]
    var environment: [String: String]
    var timeoutSeconds: Int
    var graceSeconds: Int
    var outputBytesKept: Int

    struct Ending: Sendable {
        enum How: Sendable, Equatable {
            case code(Int)
            case signal(Int)
            case outOfTime
            /// The task was cancelled, or the courier closed.
            case stopped
            case notStarted(String)
        }
        var how: How
        /// Standard output and standard error, as they came.
        var output: [UInt8] = []
    }

    private enum First: Sendable {
        case ended(Ending)
        case outOfTime, closed
    }

    /// Returns at most `timeoutSeconds` + `graceSeconds` later, give or take what the system takes to end a killed process.
    func run(_ input: [UInt8], variables: [String: String], unless closing: ClosedSignal) async -> Ending {
        // A program that ends before it has read everything must cost its writer an error, not its life.
        CommandRun.ignoreBrokenPipes
        if closing.isClosed || Task.isCancelled { return Ending(how: .stopped) }
        let output = KeptOutput(max: outputBytesKept)
        return await withTaskGroup(of: First.self) { group in
            group.addTask { .ended(await perform(input, variables, output)) }
            group.addTask {
                try? await Task.sleep(for: .seconds(timeoutSeconds))
                return .outOfTime
            }
            group.addTask {
                await closing.wait()
                return .closed
            }
            let first = await group.next()
            // Ends the program where it still runs: SIGTERM to its group, after the grace SIGKILL.
            group.cancelAll()
            if case .ended(let ending) = first { return Task.isCancelled ? Ending(how: .stopped, output: ending.output) : ending }
            await group.waitForAll()
            let how: Ending.How = if case .outOfTime = first, !Task.isCancelled { .outOfTime } else { .stopped }
            return Ending(how: how, output: output.bytes)
        }
    }

    private func perform(_ input: [UInt8], _ variables: [String: String], _ output: KeptOutput) async -> Ending {
        var options = PlatformOptions()
        options.createSession = true
        options.teardownSequence = [.gracefulShutDown(toProcessGroup: true, allowedDurationToNextStep: .seconds(graceSeconds))]
        let all = environment.merging(variables) { _, last in last }
        let configuration = Configuration(
            executable: .path(.init(program)), arguments: Arguments(arguments),
            environment: .custom(Dictionary(uniqueKeysWithValues: all.map { (Environment.Key(stringLiteral: $0.key), $0.value) })),
            workingDirectory: .init("/"), platformOptions: options)
        do {
            let whole = CommandInput(input)
            defer { withExtendedLifetime(whole) {} }
            let result =
                if let whole {
                    try await Subprocess.run(
                        configuration, input: .fileDescriptor(.init(rawValue: whole.descriptor), closeAfterSpawningProcess: false),
                        output: .sequence, error: .combinedWithOutput
                    ) { await CommandRun.read($0.standardOutput, into: output) }
                } else {
                    try await Subprocess.run(configuration, input: .inputWriter, output: .sequence, error: .combinedWithOutput) {
                        execution in
                        async let writing: Void = CommandRun.write(input, to: execution.standardInputWriter)
                        await CommandRun.read(execution.standardOutput, into: output)
                        await writing
                    }
                }
            // Everything of this session that still runs was left behind. The number cannot be another's while one of the
            // group lives; where none does, the call finds nobody, unless the system has gone through all its numbers since.
            kill(-result.processIdentifier.value, SIGKILL)
            switch result.terminationStatus {
            case .exited(let code): return Ending(how: .code(Int(code)), output: output.bytes)
            case .signaled(let number): return Ending(how: .signal(Int(number)), output: output.bytes)
            }
        } catch let error as SubprocessError {
            return Ending(how: .notStarted(reason(error)), output: output.bytes)
        } catch {
            return Ending(how: .notStarted("\(error)"), output: output.bytes)
        }
    }

    private static func read(_ stream: SubprocessOutputSequence, into output: KeptOutput) async {
        do {
            for try await buffer in stream { buffer.withUnsafeBytes { output.append($0) } }
        } catch {
            // What can no longer be read is not needed: the exit code is the answer.
        }
    }

    private static func write(_ input: [UInt8], to writer: StandardInputWriter) async {
        _ = try? await writer.write(input)
        try? await writer.finish()
    }

    /// The package says of whatever cannot be executed that it was not found; what is wrong with it can be looked at.
    private func reason(_ error: SubprocessError) -> String {
        if access(program, F_OK) != 0 { return "there is no such file" }
        if access(program, X_OK) != 0 { return "it may not be executed by the user that Sluice runs as" }
        guard let underlying = error.underlyingError, error.code != .executableNotFound else {
            return "it is a directory, or the interpreter that its first line names is not there"
        }
        if underlying.rawValue == ENOEXEC { return "it is no program: a script begins with #! and its interpreter" }
        return String(cString: strerror(underlying.rawValue))
    }

    static func name(ofSignal number: Int) -> String {
        let names = [
            Int(SIGHUP): "SIGHUP", Int(SIGINT): "SIGINT", Int(SIGQUIT): "SIGQUIT", Int(SIGILL): "SIGILL", Int(SIGABRT): "SIGABRT",
            Int(SIGBUS): "SIGBUS", Int(SIGFPE): "SIGFPE", Int(SIGKILL): "SIGKILL", Int(SIGSEGV): "SIGSEGV", Int(SIGPIPE): "SIGPIPE",
            Int(SIGALRM): "SIGALRM", Int(SIGTERM): "SIGTERM", Int(SIGXCPU): "SIGXCPU", Int(SIGXFSZ): "SIGXFSZ",
        ]
        return names[number] ?? "see signal(7)"
    }

    private static let ignoreBrokenPipes: Void = { _ = signal(SIGPIPE, SIG_IGN) }()
}

/// The first bytes of what a program writes.
private final class KeptOutput: Sendable {
    private let max: Int
    private let state = Mutex<[UInt8]>([])
    init(max: Int) { self.max = max }
    var bytes: [UInt8] { state.withLock { $0 } }
    func append(_ chunk: UnsafeRawBufferPointer) {
        state.withLock { bytes in
            if bytes.count < max { bytes.append(contentsOf: chunk.prefix(max - bytes.count)) }
        }
    }
}
