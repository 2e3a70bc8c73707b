import SluiceLua

extension LuaLimits {
    /// Limits as small as each may become, so that every place at which one can strike is reached; and none so large that an
    /// input takes long.
    static func small(_ choice: Int) -> LuaLimits {
        var limits = LuaLimits()
        let instructions: [UInt64] = [60_000, 200, 3000, 60_000, 250_000, 60_000, 1, 20_000]
        let memory = [8 << 20, 8 << 20, 1 << 20, 160 << 10, 8 << 20, 320 << 10, 2 << 20, 240 << 10]
        (limits.callInstructionsMax, limits.pollInstructionsMax) = (instructions[choice & 7], instructions[choice & 7])
        limits.memoryBytesMax = memory[choice >> 3 & 7]
        let milliseconds: UInt64 = choice & 0xC0 == 0xC0 ? 1 : 2000
        (limits.callMillisecondsMax, limits.pollMillisecondsMax) = (milliseconds, milliseconds)
        limits.pollRequestsMax = 6
        limits.idleStatesMax = 2
        return limits
    }
}
