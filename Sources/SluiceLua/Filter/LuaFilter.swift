import SluiceCore
import Synchronization

/// A filter: a predicate in Lua over one job, compiled once.
///
/// Its source is an expression (`record.amount > 100`) or a body with `return`. It sees `record` (the record's bytes through the
/// same views that connectors have: integers whole, nothing rounded) and `job`, and of Lua what is pure: no clock, no
/// randomness, no files, no requests. `true` passes, `false` and `nil` skip; anything else, an error and a limit are failures
/// whose message begins with `filter:LINE:`. Nothing is kept from one call to the next.
public final class LuaFilter: Sendable {
    static let chunkName = "filter"
    /// A longer one is refused.
    public static let sourceBytesMax = 8192
    /// States kept for the next call: as many as are usually in use at the same time.
    private static let idleStatesMax = 2
    private static let function = LuaFunction(number: 1, line: 1, name: "the filter")

    /// What one call may use. Time is counted by the clock and is many times what the instructions take, so that a machine which
    /// is busy fails no job.
    public static let limits: LuaLimits = {
        var limits = LuaLimits()
        limits.callInstructionsMax = 200_000
        limits.callMillisecondsMax = 1000
        limits.memoryBytesMax = 32 * 1024 * 1024
        return limits
    }()

    public let source: String
    private let limits: LuaLimits
    private let isBody: Bool
    private let idle: Mutex<[LuaState]>

    /// Compiles it and runs nothing. Throws `.filter` that says what is wrong, with its line.
    public init(_ source: String, limits: LuaLimits = LuaFilter.limits) throws(SluiceError) {
        guard source.utf8.count <= LuaFilter.sourceBytesMax else {
            throw SluiceError(.filter, "a filter has at most \(LuaFilter.sourceBytesMax) bytes, not \(source.utf8.count)")
        }
        let bytes = Array(source.utf8)
        let tokens = LuaToken.all(in: bytes)
        guard !tokens.isEmpty else {
            throw SluiceError(.filter, "the filter is empty: write an expression, such as `record.amount > 100`, or leave it out")
        }
        self.source = source
        self.limits = limits
        isBody = tokens.contains { $0.isName("return") }
        do {
            idle = Mutex([try LuaState(filter: bytes, isBody: isBody, limits: limits)])
        } catch {
            throw SluiceError(.filter, error.message)
        }
        if let problem = FilterNames.problem(in: tokens) { throw SluiceError(.filter, problem) }
    }

    /// Whether a job passes. `record` is the record's bytes, which were checked when they came in. Throws `.filter`, with the
    /// line, where the filter fails on it.
    public func passes(_ record: [UInt8], _ job: FilteredJob) throws(SluiceError) -> Bool {
        guard let record = FilteredJob.trimmed(record) else { throw SluiceError(.filter, "the job has no record") }
        let state = try take()
        defer { giveBack(state) }
        do {
            return try state.flag(LuaFilter.function, record, LuaJob(job), limits)
        } catch let error as SluiceError {
            throw SluiceError(.filter, error.message)
        } catch {
            throw SluiceError(.filter, "the filter failed: \(error)")
        }
    }

    private func take() throws(SluiceError) -> LuaState {
        if let state = idle.withLock({ $0.popLast() }) { return state }
        do {
            return try LuaState(filter: Array(source.utf8), isBody: isBody, limits: limits)
        } catch {
            throw SluiceError(.filter, error.message)
        }
    }

    private func giveBack(_ state: LuaState) {
        guard !state.isSpent else { return }
        let surplus = idle.withLock { idle -> LuaState? in
            if idle.count >= LuaFilter.idleStatesMax { return state }
            idle.append(state)
            return nil
        }
        // Destroyed here, outside of the lock.
        _ = surplus
    }
}

/// What a filter is told of a job besides its record.
public struct FilteredJob: Sendable {
    /// Asked for only if the filter does.
    public var id: @Sendable () -> String
    public var trigger: String
    public var position: Int64
    public var cause: String
    public var createdAt: Timestamp
    public var isDerived: Bool
    public var isDeletion: Bool
    public init(
        id: @escaping @Sendable () -> String, trigger: String, position: Int64, cause: String, createdAt: Timestamp, isDerived: Bool,
        isDeletion: Bool
    ) {
        self.id = id
        self.trigger = trigger
        self.position = position
        self.cause = cause
        self.createdAt = createdAt
        self.isDerived = isDerived
        self.isDeletion = isDeletion
    }

    /// Without white space around it; nil if nothing is left.
    static func trimmed(_ record: [UInt8]) -> ArraySlice<UInt8>? {
        func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 }
        guard let first = record.firstIndex(where: { !isSpace($0) }), let last = record.lastIndex(where: { !isSpace($0) }) else {
            return nil
        }
        return record[first...last]
    }
}
