import SluiceCore

/// The clock of a running server: the machine's wall clock as it was when the server started, plus the monotonic time that
/// has passed since. Setting the machine's clock neither postpones a poll nor runs time backwards.
public struct AnchoredClock: TimeSource {
    private let wallMillisecondsAtStart: Int64
    private let start: ContinuousClock.Instant

    /// Anchored to the machine's clock as it is now.
    public init() {
        self.init(wallMillisecondsAtStart: AnchoredClock.wallMilliseconds())
    }

    /// Anchored to a given wall time in milliseconds since 1970.
    public init(wallMillisecondsAtStart: Int64) {
        self.wallMillisecondsAtStart = wallMillisecondsAtStart
        start = ContinuousClock.now
    }

    public func now() -> Timestamp {
        let passed = ContinuousClock.now - start
        return Timestamp(
            milliseconds: wallMillisecondsAtStart + passed.components.seconds * 1000
                + passed.components.attoseconds / 1_000_000_000_000_000)
    }

    fileprivate static func wallMilliseconds() -> Int64 {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000
    }
}

/// The machine's clock as it is set now: for timestamps that go to others or come from them. A clock that is set right while
/// the server runs must not leave every signed webhook refused as stale.
public struct WallClock: TimeSource {
    public init() {}
    public func now() -> Timestamp { Timestamp(milliseconds: AnchoredClock.wallMilliseconds()) }
}

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif
