import SluiceCore

/// Runs the real schedule and the real watch over ids for the two kinds of trigger whose upstream is not a list: one that long
/// polls a source which is restarted and forgets, and one that reads the inbox, through crashes, lost commits, pauses and
/// retention. Time is simulated and all chance comes from the seed.
///
/// Each run has a part with faults and a calm one. What it holds:
/// - each event of the source is a job once; one that is none raised a gap warning, and is gone from the source;
/// - each accepted webhook is a job once, however long its trigger was paused;
/// - one cycle of a trigger at a time, none of a paused one; nothing goes round without time passing;
/// - in the calm part a request is held at every moment, but for the blink between two.
public enum HeldSimulation {
    /// A mistake to make on purpose, to see it found.
    public enum Mistake: String, Sendable, CaseIterable {
        /// Ids of one life swallow those of another.
        case noEpochInKeys
        /// The source is not asked whether it was restarted.
        case noQuestion
        /// Webhooks go by age, read or not.
        case pruneByAge
        /// The cursor is stored before the jobs.
        case cursorFirst
        /// A held request follows a failure without a poll between.
        case neverReconnect
    }

    public struct Result: Sendable {
        public var seed: UInt64
        /// The first thing that did not hold.
        public var violation: String?
        public var jobs: Int
        public var restarts: Int
        public var crashes: Int
        public var gaps: Int
    }

    public static func run(seed: UInt64, steps: Int = 400, mistake: Mistake? = nil) -> Result {
        var world = HeldWorld(seed: seed, mistake: mistake)
        return world.run(steps: steps)
    }
}
