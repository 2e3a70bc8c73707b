import CLua

/// What the code of a connector may use. A call that needs more ends with an error that names the line.
public struct LuaLimits: Sendable {
    /// Of one call of `webhook_keys`, `webhook_key`, `dedup` or `help`, in instructions of Lua's machine.
    public var callInstructionsMax: UInt64 = 1_000_000
    public var callMillisecondsMax: UInt64 = 100
    /// Of one poll, the time between request and answer not counted; also of loading the file.
    public var pollInstructionsMax: UInt64 = 20_000_000
    public var pollMillisecondsMax: UInt64 = 2000
    /// Of one page's `dedup` calls together.
    public var dedupPageMillisecondsMax: UInt64 = 2000
    public var pollRequestsMax = 200
    /// Of one state's own memory. What a call holds besides (bodies) is bounded by `PollLimits.pageBytesMax`.
    public var memoryBytesMax = 64 * 1024 * 1024
    /// Polls of one connector that run or wait for an answer at the same time: as many as there can be cycles, so that a provider that
    /// hangs for some connections takes no place from the others (P12).
    public var concurrentPollsMax = 320
    /// `long_poll` functions of one connector that wait for an answer at the same time; counted apart, so that they take no
    /// poll's place. Where `long_poll` is data, no state is held.
    public var concurrentLongPollsMax = 1000
    /// States that are kept for the next call.
    public var idleStatesMax = 8

    public init() {}

    var call: clua_limits { clua_limits(instructions: callInstructionsMax, nanoseconds: callMillisecondsMax * 1_000_000) }
    var poll: clua_limits { clua_limits(instructions: pollInstructionsMax, nanoseconds: pollMillisecondsMax * 1_000_000) }
}
