import SluiceCore
import Synchronization

/// What `version_seconds` of a poll that is code says: the time in its dedup key stays the same for so long, so two changes within it show
/// one key. The states of such a record are told apart by its bytes until that time is over, as an `incremental` does by itself.
extension Connector {
    /// `read` with the states of its records beside them. Without `version_seconds` it is `read` and nothing else.
    package func tellingStatesApart(
        _ type: TriggerTypeDefinition, _ request: PollRequest, _ http: any HTTPSending,
        _ read: (any HTTPSending) async throws -> PollPage
    ) async throws -> PollPage {
        guard let granule = type.versionSpan else { return try await read(http) }
        let dated = DatedHTTP(http)
        var page = try await read(dated)
        guard !page.records.isEmpty, let times = try timesOfAll(type.name, page.records) else { return page }
        // Seconds, where the poll says so; whatever else it means, the bound keeps it harmless.
        let overlap = Span.seconds(min(max(type.lookback, 0), CoarseVersions.lookbackSecondsMax))
        let settle = max(CoarseVersions.settleMin, type.visibilityLag, overlap)
        let readAt = dated.earliest ?? request.now
        let untold = times.count { $0 == nil }
        if untold > 0 {
            page.warnings.append(
                "record_time gives no time for \(untold) of \(times.count) records: a second change of theirs within version_seconds is not seen"
            )
        }
        page.states = zip(page.records, times).map { record, time in
            time.map { time in
                let end = CoarseVersions.end(of: time, granule: granule)
                return RecordState(digest: Incremental.digest(record), isOpen: readAt - settle < end)
            }
        }
        return page
    }
}

extension Connector {
    /// `recordTimes`, one for each record. Throws `PollFailure` where the connector gives another number of them.
    package func timesOfAll(_ triggerType: String, _ records: [Record]) throws -> [Timestamp?]? {
        guard let times = try recordTimes(triggerType: triggerType, records: records) else { return nil }
        guard times.count == records.count else {
            throw PollFailure(
                .permanent, SluiceError(.connector, "record_time gave \(times.count) times for \(records.count) records"))
        }
        return times
    }
}

/// How long states of one version are told apart.
enum CoarseVersions {
    /// A record is read as of some time before the answer's Date; and lists lag.
    static let settleMin = Span.seconds(10)
    /// Of a longer lookback no more is waited for: what changes in a record without its version would make a job with each poll.
    static let lookbackSecondsMax: Int64 = 60
    /// `version_seconds` at most: a day.
    static let granuleMax = Span.days(1)

    /// When the granule that a time lies in is over.
    static func end(of time: Timestamp, granule: Span) -> Timestamp {
        let size = max(1, granule.milliseconds)
        let rest = time.milliseconds % size
        let start = time.milliseconds - (rest < 0 ? rest + size : rest)
        let (end, overflow) = start.addingReportingOverflow(size)
        return Timestamp(milliseconds: overflow ? .max : end)
    }
}

/// Notes the earliest Date of the answers to one poll.
private final class DatedHTTP: HTTPSending {
    private let inner: any HTTPSending
    private let noted = Mutex(Timestamp?.none)
    var earliest: Timestamp? { noted.withLock { $0 } }

    init(_ inner: any HTTPSending) { self.inner = inner }

    func send(_ request: HTTPRequestPlan) async throws -> HTTPReply {
        let reply = try await inner.send(request)
        if let date = reply.serverDate { noted.withLock { $0 = min($0 ?? date, date) } }
        return reply
    }
}
