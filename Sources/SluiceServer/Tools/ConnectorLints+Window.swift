import SluiceConnectors
import SluiceCore

/// What a poll that is code says of times, so that `sluice backfill` and `sluice audit` can read a window again.
extension ConnectorLints {
    mutating func lintWindow(_ type: TriggerTypeDefinition, _ key: String) {
        guard let connector, type.kind != .webhook else { return }
        let feed = connector.simulation(triggerType: type.name)
        guard type.hasCursorAt else {
            guard feed?.rules?.cursor?.marksPerSecond != nil else { return }
            return warn(
                "no-cursor-at", key + ".poll", "its list is read by time, and it does not say which closure belongs to one",
                loses: "nothing, but no window can be read again: `sluice backfill` and `sluice audit` need --cursor",
                fix: "add cursor_at = function(time, input) … end, and record_time = function(record) … end")
        }
        if !type.hasRecordTime {
            warn(
                "no-record-time", key + ".cursor_at", "it says where a backfill begins, and not which records lie before its end",
                loses: "nothing, but backfills and audits read on to the end of the list",
                fix: "add record_time = function(record) … end")
        }
        tryCursor(connector, type, key, feed)
        tryTime(connector, type, key)
    }

    /// With the input that `simulate` gives, or without one where none is needed.
    private mutating func tryCursor(_ connector: any Connector, _ type: TriggerTypeDefinition, _ key: String, _ feed: SimulatedFeed?) {
        let given = feed?.input.map { Array($0.bytes) }
        guard given != nil || type.inputFields.allSatisfy(\.isOptional) else { return }
        do {
            let input = try JSONDocument(given ?? Array("{}".utf8))
            let (early, late) = (Timestamp(seconds: 1_600_000_000), Timestamp(seconds: 1_700_000_000))
            let first = try connector.cursorAt(early, triggerType: type.name, input: input)
            let second = try connector.cursorAt(late, triggerType: type.name, input: input)
            guard first != nil, first == second, !type.hasRecordTime else { return }
            warn(
                "cursor-at-ignores-time", key + ".cursor_at", "it gives the same for 2020 and for 2023",
                loses: "nothing, but a backfill reads the whole list and counts all of it", fix: "use its argument, or add record_time")
        } catch {
            let message = (error as? SluiceError)?.message ?? (error as? PollFailure)?.error.message ?? "\(error)"
            warn(
                "cursor-at-fails", key + ".cursor_at", "tried for a time it fails: \(message)",
                loses: "nothing, but no window can be read again", fix: "see the message")
        }
    }

    private mutating func tryTime(_ connector: any Connector, _ type: TriggerTypeDefinition, _ key: String) {
        guard type.hasRecordTime, let sample = type.sampleOutput,
            let times = try? connector.recordTimes(triggerType: type.name, records: [Record(bytes: sample[...])]), times.first == .some(nil)
        else { return }
        warn(
            "record-time-unread", key + ".record_time", "it gives no time for sample_output",
            loses: "nothing, but such records are counted in every window",
            fix: "return seconds since 1970, or an RFC 3339 time with its zone")
    }
}
