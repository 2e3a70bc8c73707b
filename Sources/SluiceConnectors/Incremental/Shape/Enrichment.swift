import SluiceCore

/// Fetches each record in full, where a list shows it thin.
///
/// ```
/// enrich = { path = "/v1/items/{record.id}", at = "item", concurrency = 8 }
/// ```
/// The job's record is the full one, byte for byte. Its mark and its dedup key are the thin one's, so that a change between
/// the two requests comes again as the version that it is. What was fetched is kept for a while, so that an overlap or a
/// failed page costs no second request.
///
/// | the answer | what becomes of the record |
/// |---|---|
/// | 200 | delivered in full |
/// | 404, 410 | delivered as the list showed it, marked `derived`, with a warning |
/// | 429, 401, 403 | the page fails as a whole and is read again |
/// | 5xx, nothing, garbage | the same; after `triesMax` tries the record alone is set aside |
/// | anything else | the record is set aside |
public struct Enrichment: Sendable {
    public enum Address: Sendable {
        /// Follows the base URL; values are percent-encoded.
        case path(Template)
        /// A whole URL on the same host, for example `{record.url}`.
        case url(Template)
    }
    public var address: Address
    public var query: [Incremental.NamedTemplate] = []
    /// Where the full record stands in its answer; empty if it is the answer.
    public var at = JSONPath([])
    /// Requests at once.
    public var concurrency = 8
    let cache = EnrichmentCache()

    public init(_ address: Address) { self.address = address }

    public static let concurrencyMax = 32
    /// Polls that fail for one record's sake, before it is set aside: this many where other records of the page could be
    /// fetched, and more where none could, since then the provider rather than the record is at fault.
    static let triesMax = 10
    static let triesAloneMax = 30
    /// Records that fail in a page, before no further ones are asked for.
    private static let failuresMax = 4

    /// A record of the list that waits for its full form.
    struct Thin: Sendable {
        var record: Record
        var key: Result<[UInt8], SluiceError>
        var mark: Int64?
        var formerKeys: [[UInt8]] = []
        /// Whether a later change may still show the same version; nil where each shows another one.
        var isOpen: Bool?
    }

    /// How the requests of this enrichment are made.
    struct Requests: Sendable {
        var plan: @Sendable (Record) throws(PollFailure) -> HTTPRequestPlan
        var send: @Sendable (HTTPRequestPlan) async throws -> HTTPReply
        /// Whose records they are.
        var connection: JSONDocument
    }

    private struct Wanted: Sendable {
        var index: Int
        var plan: HTTPRequestPlan
        var key: EnrichmentCache.Key
    }

    private enum Outcome: Sendable {
        case full([UInt8])
        case gone
        case refused(SluiceError)
        case failed(PollFailure)
        case cancelled
    }

    /// The records of a page on their way to being full.
    private struct Progress {
        var records: [Thin]
        var bytes = 0
        var done = 0
        var gone = 0
        var failed: [(wanted: Wanted, failure: PollFailure)] = []

        var goesOn: Bool { failed.count < failuresMax && failed.allSatisfy { $0.failure.kind == .transient } }

        mutating func take(_ full: [UInt8], at index: Int) throws(PollFailure) {
            bytes += full.count
            guard bytes <= PollLimits.pageBytesMax else {
                throw PollFailure(
                    .permanent,
                    SluiceError(
                        .providerAnswer,
                        "the full records of a page take more than \(PollLimits.pageBytesMax >> 20) MB: ask for smaller pages"))
            }
            done += 1
            records[index].record = Record(bytes: full[...])
        }
    }

    /// The records in full, in their order, and warnings. Throws the failure of the page.
    func complete(_ records: [Thin], _ requests: Requests) async throws -> (records: [Thin], warnings: [String]) {
        var progress = Progress(records: records)
        let wanted = try missing(&progress, requests)
        try await withThrowingTaskGroup(of: (Wanted, Outcome).self) { group in
            var next = wanted.startIndex
            func start() {
                guard next < wanted.endIndex else { return }
                let one = wanted[next]
                next += 1
                group.addTask { (one, await fetch(one.plan, requests)) }
            }
            for _ in 0..<max(1, concurrency) { start() }
            while let (one, outcome) = try await group.next() {
                try take(outcome, of: one, &progress)
                // After failures what is under way is still awaited and kept: the next try has less to fetch.
                if progress.goesOn { start() }
            }
        }
        try settle(&progress)
        let warning = "\(progress.gone) records were gone when they were fetched in full; they are kept as the list showed them"
        return (progress.records, progress.gone > 0 ? [warning] : [])
    }

    /// Takes what is known, and says what has to be asked for.
    private func missing(_ progress: inout Progress, _ requests: Requests) throws(PollFailure) -> [Wanted] {
        var wanted: [Wanted] = []
        for index in progress.records.indices {
            // A tombstone has nothing more to show, and a record without a key is set aside anyway.
            let thin = progress.records[index]
            guard !thin.record.isDeletion, case .success(let dedupKey) = thin.key else { continue }
            let plan = try requests.plan(thin.record)
            let key = EnrichmentCache.key(plan, dedupKey, requests.connection)
            // A full record may have changed though its version has not.
            if thin.isOpen != true, let full = cache.full(key) {
                try progress.take(full, at: index)
            } else {
                wanted.append(Wanted(index: index, plan: plan, key: key))
            }
        }
        return wanted
    }

    private func take(_ outcome: Outcome, of one: Wanted, _ progress: inout Progress) throws {
        switch outcome {
        case .full(let full):
            if progress.records[one.index].isOpen != true { cache.put(one.key, full) }
            try progress.take(full, at: one.index)
        case .gone:
            progress.gone += 1
            progress.done += 1
            progress.records[one.index].record = Record(bytes: progress.records[one.index].record.bytes, isDerived: true)
        case .refused(let error): progress.records[one.index].key = .failure(error)
        case .failed(let failure): progress.failed.append((one, failure))
        case .cancelled: throw CancellationError()
        }
    }

    /// Sets aside what failed too often; throws what else failed.
    private func settle(_ progress: inout Progress) throws(PollFailure) {
        let limit = progress.done > 0 ? Enrichment.triesMax : Enrichment.triesAloneMax
        var failure: PollFailure?
        for (one, problem) in progress.failed {
            guard problem.kind == .transient, cache.failed(one.key) >= limit else {
                if failure == nil || failure?.kind == .transient { failure = problem }
                continue
            }
            let error = SluiceError(
                problem.error.code, "the record could not be fetched in full, \(limit) times in a row: \(problem.error.message)")
            progress.records[one.index].key = .failure(error)
        }
        if let failure { throw failure }
    }

    private func fetch(_ plan: HTTPRequestPlan, _ requests: Requests) async -> Outcome {
        do {
            let reply = try await requests.send(plan)
            switch reply.status {
            case 200..<300: break
            case 404, 410: return .gone
            case 401, 403:
                return .failed(PollFailure(.unauthorized, error(.providerAuth, "the provider refuses to show a record in full", reply)))
            case 429: return .failed(PollFailure(.rateLimited, error(.rateLimited, "the provider asks for fewer requests", reply)))
            case 500...:
                return .failed(PollFailure(.transient, error(.providerStatus, "the provider failed to show a record in full", reply)))
            default: return .refused(error(.providerStatus, "the provider does not show the record in full", reply))
            }
            let document = try reply.json()
            guard let view = at.find(in: document.root), !view.isNull else {
                return .refused(SluiceError(.providerAnswer, "the full record's answer has nothing at \"\(at)\""))
            }
            return .full(Array(view.bytes))
        } catch let failure as PollFailure {
            return .failed(failure)
        } catch is CancellationError {
            return .cancelled
        } catch let error as SluiceError {
            return .failed(PollFailure(.transient, error))
        } catch {
            return .failed(PollFailure(.transient, SluiceError(.providerUnreachable, "\(error)")))
        }
    }

    private func error(_ code: SluiceError.Code, _ message: String, _ reply: HTTPReply) -> SluiceError {
        SluiceError(code, message).with("status", String(reply.status))
    }
}
