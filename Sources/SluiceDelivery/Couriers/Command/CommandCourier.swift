import SluiceConnectors
import SluiceCore

/// Gives jobs to a program on its standard input and takes its exit code for the answer.
///
/// - 0: delivered.
/// - One of `refuse_codes` (65 unless set): refused, a dead letter at once. Where a batch is refused, each of its jobs is given
///   to a program of its own, so that only the one it is about becomes a dead letter.
/// - Any other (75, EX_TEMPFAIL, is the one to use), a signal, or no end in time: failed, tried again by the schedule.
///
/// A program gets its jobs at least once: where Sluice itself is killed, a program may still be at work when its jobs come
/// again. What it leaves running in its process group is killed when it has ended.
public final class CommandCourier: Courier {
    private let destination: CommandDestination
    private let run: CommandRun
    private let closing = ClosedSignal()
    private let scrubber: SecretScrubber
    private let outputBytesKept: Int

    public var batchMax: Int { destination.jobsMax }

    /// - Parameters:
    ///   - path: `PATH` of the program; `home`: its `HOME`.
    ///   - outputBytesKept: how much of standard output and standard error together is kept with the attempt.
    public init(
        _ destination: CommandDestination, path: String = "/usr/local/bin:/usr/bin:/bin", home: String = "/", outputBytesKept: Int = 4096
    ) {
        self.destination = destination
        self.outputBytesKept = outputBytesKept
        scrubber = SecretScrubber(destination.credentials)
        var environment = destination.environment
        environment["PATH"] = environment["PATH"] ?? path
        environment["HOME"] = environment["HOME"] ?? home
        environment["SLUICE_DESTINATION"] = destination.name
        run = CommandRun(
            program: destination.program, arguments: destination.arguments, environment: environment,
            timeoutSeconds: destination.limitSeconds, graceSeconds: CommandDestination.graceSeconds, outputBytesKept: outputBytesKept)
    }

    public func carry(_ parcels: [Parcel]) async -> [CourierAnswer] {
        guard !parcels.isEmpty else { return [] }
        let begun = ContinuousClock.now
        let answer = await give(parcels)
        guard case .refused = answer.result, parcels.count > 1 else { return parcels.map { _ in answer } }
        // Twice the time limit for all of it; who is not reached comes again, in a batch that is shorter by then.
        var answers: [CourierAnswer] = []
        for parcel in parcels {
            if !answers.isEmpty, begun.duration(to: .now) > .seconds(2 * destination.limitSeconds) || Task.isCancelled {
                answers.append(CourierAnswer(.failed, error: "its batch was refused, and there was no time left to try it alone"))
            } else {
                answers.append(await give([parcel]))
            }
        }
        return answers
    }

    public func close() async { closing.close() }

    private func give(_ parcels: [Parcel]) async -> CourierAnswer {
        var variables = ["SLUICE_JOB_COUNT": "\(parcels.count)"]
        if !destination.isBatched, let parcel = parcels.first {
            variables["SLUICE_JOB_ID"] = parcel.id
            variables["SLUICE_TRIGGER"] = parcel.trigger.name
            variables["SLUICE_POSITION"] = "\(parcel.job.position)"
            variables["SLUICE_ATTEMPT"] = "\(parcel.attempt)"
        }
        var answer = answer(await run.run(parcels.flatMap(\.line), variables: variables, unless: closing))
        answer.error = answer.error.map(scrubber.scrubbed)
        answer.response = Array(scrubber.scrubbed(answer.response).prefix(outputBytesKept))
        return answer
    }

    private func answer(_ ending: CommandRun.Ending) -> CourierAnswer {
        switch ending.how {
        case .code(0): return CourierAnswer(.delivered, status: 0, response: ending.output)
        case .code(let code):
            let isRefusal = destination.refuseCodes.contains(code)
            return CourierAnswer(
                isRefusal ? .refused(reason: DeliveryMachine.DeadReason.refused.rawValue) : .failed, status: code,
                error: "the program ended with exit code \(code)" + (isRefusal ? ", which refuses the job" : ""), response: ending.output)
        case .signal(let number):
            return CourierAnswer(
                .failed, error: "the program was ended by signal \(number) (\(CommandRun.name(ofSignal: number)))", response: ending.output)
        case .outOfTime:
            return CourierAnswer(.failed, error: "the program had not ended after \(destination.limitSeconds) s", response: ending.output)
        case .stopped: return CourierAnswer(.failed, error: "the server was stopped", response: ending.output)
        case .notStarted(let why):
            return CourierAnswer(.failed, error: "the program could not be started: \(why)", isConnectFailure: true)
        }
    }
}
