import ArgumentParser
import SluiceCore
import SluiceTesting

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// `sluice-demo watch`: live counters, and with --seconds the checker's verdict at the end.
struct WatchCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "watch", abstract: "Show live counters of the provider and of Sluice.",
        discussion: """
            With --seconds it ends: the provider makes no more changes, what is on its way gets --settle-seconds to arrive, \
            and the check decides the exit code. Afterwards the provider goes on, unless --leave-paused.
            """)

    /// Younger changes without a job are on their way: a trigger's polls start up to 25 s apart, and the API's lag adds.
    static let missingAfter = Span.seconds(40)

    @OptionGroup var sides: Sides
    @Option(help: "End after this many seconds with a verdict; without it, run on.") var seconds: Int?
    @Option(help: "At the end, wait at most this long for what is missing.") var settleSeconds = 45.0
    @Flag(help: "Leave the provider paused at the end.") var leavePaused = false

    func run() async throws {
        var observer = try sides.observer()
        var screen = Screen(isTerminal: isatty(1) == 1)
        let clock = ContinuousClock()
        let deadline = seconds.map { clock.now + .seconds($0) }
        var next = clock.now
        while deadline.map({ clock.now < $0 }) ?? true {
            do {
                try await observer.refresh()
                screen.show(try await live(observer))
            } catch let error where !(error is CancellationError) {
                // A server that restarts is part of the show.
                screen.show(.text("no answer: \(error)"))
            }
            next = max(next + .seconds(1), clock.now)
            try await clock.sleep(until: deadline.map { min($0, next) } ?? next)
        }
        let report = try await conclude(&observer)
        say("\n" + Summary.text(report))
        if !report.isGood { throw ExitCode(1) }
    }

    private func live(_ observer: DeliveryObserver) async throws -> Screen.Content {
        let now = SystemTime.now()
        let report = try await observer.report(cutoff: now)
        let missing = observer.checker.verdict(cutoff: now - WatchCommand.missingAfter).missing.count
        return .report(report, missing: missing, waiting: report.verdict.missing.count - missing)
    }

    private func conclude(_ observer: inout DeliveryObserver) async throws -> DeliveryObserver.Report {
        try await observer.setProviderPaused(true)
        say("the provider pauses; waiting up to \(Int(settleSeconds)) s for what is on its way")
        // What the API shows only later must be seen as well.
        try await Task.sleep(for: .seconds(3))
        let report = try await observer.settle(seconds: settleSeconds)
        if !leavePaused { try await observer.setProviderPaused(false) }
        return report
    }
}

/// A block that is drawn over itself on a terminal; lines elsewhere.
struct Screen {
    enum Content {
        case text(String)
        case report(DeliveryObserver.Report, missing: Int, waiting: Int)
    }

    let isTerminal: Bool
    private var linesDrawn = 0

    init(isTerminal: Bool) { self.isTerminal = isTerminal }

    mutating func show(_ content: Content) {
        guard isTerminal else {
            switch content {
            case .text(let text): say(text)
            case .report(let report, let missing, let waiting): say(Summary.line(report, missing: missing, waiting: waiting))
            }
            return
        }
        let lines: [String]
        switch content {
        case .text(let text): lines = [text]
        case .report(let report, let missing, let waiting): lines = Summary.live(report, missing: missing, waiting: waiting)
        }
        // Up to the block's first line, and clear to the end of the screen.
        let up = linesDrawn > 0 ? "\u{1B}[\(linesDrawn)A\u{1B}[0J" : ""
        say(up + lines.joined(separator: "\n"))
        linesDrawn = lines.count
    }
}
