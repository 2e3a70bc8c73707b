import SluiceConnectors
import SluiceCore

/// What a connector's file says of a list, as far as people change it while triggers run.
struct Description: Hashable {
    /// What tells one state of a record from another.
    enum Dedup: String, CaseIterable {
        case version
        case versionAndTime
        /// The id alone: each record is a job once, and its changes are not asked for.
        case id

        var ignoresChanges: Bool { self == .id }
        var versions: [JSONPath] {
            switch self {
            case .version: [JSONPath(["version"])]
            case .versionAndTime: [JSONPath(["version"]), JSONPath(["updated_at"])]
            case .id: []
            }
        }
    }
    var dedup = Dedup.version
    var lookbackSeconds: Int64
    /// Each partition is a list of its own; otherwise all are read as one.
    var isPartitioned = false

    /// For `ConnectorDefinition.hash`.
    var hash: String { "\(dedup.rawValue) \(lookbackSeconds) \(isPartitioned)" }

    init(of feed: Feed) { self.init(lookbackSeconds: feed.lookbackSeconds, isPartitioned: feed.partitioning == .first) }

    init(dedup: Dedup = .version, lookbackSeconds: Int64, isPartitioned: Bool = false) {
        (self.dedup, self.lookbackSeconds, self.isPartitioned) = (dedup, lookbackSeconds, isPartitioned)
    }
}

/// A description, ready to poll with.
struct DescribedPoll {
    let description: Description
    let rules: Incremental

    init(_ description: Description, of feed: Feed, overlap: Int64?, since: Int64) {
        self.description = description
        rules = feed.incremental(description, overlap: overlap, since: since)
    }
}

/// One page of a poll, a request at a time: over partitions a page may take two.
struct PagePoll {
    private let rules: Incremental
    private let request: PollRequest
    private var partitioned: PartitionedPage?
    private var turn: PartitionedPage.Turn?

    init(_ rules: Incremental, _ request: PollRequest) throws(PollFailure) {
        (self.rules, self.request) = (rules, request)
        if rules.partitions != nil { partitioned = try PartitionedPage(rules, request) }
    }

    /// What to ask for next; nil where there is nothing to read.
    mutating func nextRequest() throws(PollFailure) -> HTTPRequestPlan? {
        guard let next = try partitioned?.next() else { return try IncrementalPoll(rules).nextRequest(request) }
        switch next {
        case .list(let plan): return plan
        case .read(let turn):
            self.turn = turn
            return try turn.nextRequest(rules)
        case .end: return nil
        }
    }

    /// Takes the answer, or why there is none; nil if the page takes another request. Without a request, what there is to be said.
    mutating func take(_ answer: Result<HTTPReply, PollFailure>?) throws(PollFailure) -> PollPage? {
        guard partitioned != nil else {
            return try answer.map { a throws(PollFailure) in try IncrementalPoll(rules).page(from: a.get(), for: request) }
        }
        guard let answer else { return try partitioned?.ended() }
        guard let turn else { return try partitioned?.listed(answer.get()) }
        let page: Result<PollPage, PollFailure>
        do throws(PollFailure) { page = .success(try turn.page(from: answer.get(), rules)) } catch { page = .failure(error) }
        return try partitioned?.read(page, of: turn, now: (try? answer.get())?.serverDate)
    }
}
