import SluiceCore

/// An open cycle as it lies in two columns: JSON, and the page state's bytes just as the connector wrote them.
struct OpenCycleColumn {
    var json: String
    var pageState: [UInt8]?

    init(_ cycle: OpenCycle) {
        var writer = JSONWriter()
        writer.object { object in
            object.member("number", cycle.number)
            object.member("cause", cycle.cause.rawValue)
            object.member("started_at", cycle.startedAt.milliseconds)
            object.member("read_bound", cycle.readBound.milliseconds)
            object.member("noted_sequence", cycle.notedSequence.rawValue)
            object.member("next_page", Int64(cycle.nextPage))
            object.member("jobs", Int64(cycle.jobs))
            object.member("connector", cycle.connector)
        }
        json = writer.string
        pageState = cycle.pageState
    }

    /// Throws `.storage` for what no Sluice wrote.
    static func decode(_ json: [UInt8], pageState: [UInt8]?) throws(SluiceError) -> OpenCycle {
        guard let root = try? JSONDocument(json).root, let number = root["number"]?.int64,
            let cause = root["cause"]?.string.flatMap(PollCause.init(rawValue:)), let startedAt = root["started_at"]?.int64,
            let readBound = root["read_bound"]?.int64, let noted = root["noted_sequence"]?.int64, let nextPage = root["next_page"]?.int64
        else { throw SluiceError(.storage, "the database is damaged: a trigger's open cycle cannot be read") }
        return OpenCycle(
            number: number, cause: cause, startedAt: Timestamp(milliseconds: startedAt), readBound: Timestamp(milliseconds: readBound),
            notedSequence: InboxSequence(noted), nextPage: Int(nextPage), pageState: pageState, jobs: Int(root["jobs"]?.int64 ?? 0),
            connector: root["connector"]?.string ?? "")
    }
}

/// Polls by cause as a small JSON object. A cause that a newer version wrote is left out, not an error.
enum PollCounts {
    static func encode(_ counts: [PollCause: Int64]) -> String {
        var writer = JSONWriter()
        writer.object { object in
            for (cause, count) in counts.sorted(by: { $0.key.rawValue < $1.key.rawValue }) { object.member(cause.rawValue, count) }
        }
        return writer.string
    }

    static func decode(_ json: [UInt8]) -> [PollCause: Int64] {
        var counts: [PollCause: Int64] = [:]
        for (key, value) in (try? JSONDocument(json).root.members) ?? [] {
            if let cause = PollCause(rawValue: key), let count = value.int64 { counts[cause] = count }
        }
        return counts
    }
}
