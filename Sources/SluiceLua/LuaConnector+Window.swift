import SluiceConnectors
import SluiceCore

extension LuaDefinition.Trigger {
    /// `cursor_at`, `record_time` and `version_seconds`, which only a poll that is code needs.
    mutating func readWindow(_ table: LuaTable) throws(SluiceError) {
        cursorAt = try table.function("cursor_at")
        recordTime = try table.function("record_time")
        for key in ["cursor_at", "record_time"] where table[key] != nil {
            if incremental != nil { throw table.error(key, "is for poll; incremental says by itself which cursor belongs to a time") }
            if poll == nil { throw table.error(key, "needs a poll: there is no list that could be read again") }
        }
        if recordTime != nil, cursorAt == nil {
            throw table.error(
                "record_time",
                "needs cursor_at besides, where a backfill begins; write cursor_at = function(time, input) return { mark = time } end")
        }
        guard let span = try table.seconds("version_seconds") else { return }
        if incremental != nil { throw table.error("version_seconds", "is for poll; incremental sees by itself how fine its times are") }
        guard recordTime != nil else {
            throw table.error("version_seconds", "needs record_time besides, which says when a record was changed")
        }
        guard span >= .seconds(1), span <= .days(1) else { throw table.error("version_seconds", "must be from 1 to 86400") }
        versionSpan = span
    }
}

extension LuaConnector {
    /// `cursor_at(time, input)`: time in whole seconds, rounded down.
    public func cursorAt(_ time: Timestamp, triggerType: String, input: JSONDocument) throws -> [UInt8]? {
        guard let function = try trigger(triggerType).cursorAt else { return nil }
        return try named {
            try pool.with { state in
                let seconds = try JSONDocument(Array(String(LuaConnector.wholeSeconds(time)).utf8))
                guard case .done(let result) = try state.start(function, arguments: [seconds, input], limits) else {
                    throw state.error("cannot send requests: return what the poll is to get as its closure", function)
                }
                guard let cursor = result.next else {
                    throw state.error(
                        "returned nothing; return a closure from which poll reads what was changed at that time or later", function)
                }
                return cursor
            }
        }
    }

    private static func wholeSeconds(_ time: Timestamp) -> Int64 {
        let (seconds, rest) = time.milliseconds.quotientAndRemainder(dividingBy: 1000)
        return rest < 0 ? seconds - 1 : seconds
    }

    /// `record_time(record)`: whole seconds since 1970, a text of them with a fraction, an RFC 3339 time, or nil. One that fails on a record gives no time for that one.
    public func recordTimes(triggerType: String, records: [Record]) throws -> [Timestamp?]? {
        guard let function = try trigger(triggerType).recordTime else { return nil }
        var state = try pool.take()
        defer { pool.giveBack(state) }
        let end = ContinuousClock.now + .milliseconds(Int(limits.dedupPageMillisecondsMax))
        var times: [Timestamp?] = []
        times.reserveCapacity(records.count)
        for record in records {
            times.append((try? state.optionalText(function, record, limits)).flatMap { $0.flatMap(LuaConnector.time) })
            guard state.isSpent else { continue }
            guard ContinuousClock.now < end else {
                throw state.error("used up the time of a whole page after \(times.count) of \(records.count) records", function)
            }
            pool.giveBack(state)
            state = try pool.take()
        }
        return times
    }

    private static func time(_ text: String) -> Timestamp? {
        seconds(text) ?? (try? Timestamp(rfc3339: text, "record_time"))
    }

    /// Seconds since 1970, with or without a fraction, of which whole milliseconds count.
    private static func seconds(_ text: String) -> Timestamp? {
        let parts = text.split(separator: ".", maxSplits: 1, omittingEmptySubsequences: false)
        guard let seconds = Int64(parts[0]) else { return nil }
        var fraction: Int64 = 0
        if parts.count == 2 {
            guard !parts[1].isEmpty, parts[1].utf8.allSatisfy({ $0 &- 0x30 < 10 }) else { return nil }
            fraction = Int64(parts[1].prefix(3)).map { $0 * [100, 10, 1][min(parts[1].utf8.count, 3) - 1] } ?? 0
        }
        let (milliseconds, overflow) = seconds.multipliedReportingOverflow(by: 1000)
        let (result, isTooLarge) = milliseconds.addingReportingOverflow(text.hasPrefix("-") ? -fraction : fraction)
        return overflow || isTooLarge ? nil : Timestamp(milliseconds: result)
    }
}
