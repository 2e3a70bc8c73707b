import AsyncHTTPClient
import NIOCore
import NIOHTTP1
import SluiceCore

/// Reads the provider's change log and Sluice's jobs over HTTP, goes on from where it stopped, and lets a
/// `DeliveryChecker` judge. It asks nothing of Sluice but what every consumer asks.
public struct DeliveryObserver: Sendable {
    /// All it found out.
    public struct Report: Sendable {
        public var verdict: DeliveryChecker.Verdict
        public var counts: ProviderCounts
        /// Polls by their cause, over all triggers; empty where the server does not tell.
        public var pollsByCause: [String: Int]

        /// Forged webhooks that were answered otherwise than with 401, or with 429 or 503 for want of room.
        public var forgedNotRefused: Int {
            let statuses = counts.statuses[.forged] ?? [:]
            return counts.forgedAnswered - ["401", "429", "503"].reduce(0) { $0 + (statuses[$1] ?? 0) }
        }

        /// Whether forged webhooks were made and none was refused, for example because none was ever sent.
        public var isRefusalUnproven: Bool { counts.planned.forged > 0 && counts.forgedRefused == 0 }

        /// Nothing missing, doubled, altered or invented, every forged webhook refused, and something to judge at all.
        public var isGood: Bool {
            verdict.isClean && forgedNotRefused == 0 && !isRefusalUnproven && verdict.changes > 0 && verdict.jobs > 0
        }
    }

    static let pageJobs = 500
    static let pagesMax = 100_000

    public let providerURL: String
    public let apiURL: String
    let token: String
    public private(set) var checker: DeliveryChecker
    private var after: String?

    /// `token` is an API token of Sluice; `triggers` limits what is judged, nil for all.
    public init(providerURL: String, apiURL: String, token: String, triggers: Set<String>? = nil) {
        self.providerURL = providerURL
        self.apiURL = apiURL
        self.token = token
        checker = DeliveryChecker(triggers: triggers)
    }

    /// Reads what is new: the jobs, and then the log, so that no job is newer than the log.
    public mutating func refresh() async throws {
        for _ in 0..<DeliveryObserver.pagesMax {
            let query = "?limit=\(DeliveryObserver.pageJobs)" + (after.map { "&after=" + QueryText.encode($0) } ?? "")
            let page = try JobsPage(try await call(.GET, apiURL + "/v1/jobs" + query, token: token))
            for job in page.jobs { checker.add(job) }
            let isStuck = page.hasMore && page.next == after
            after = page.next ?? after
            if isStuck { throw SluiceError(.providerAnswer, "/v1/jobs promises more and repeats its token.") }
            if !page.hasMore { break }
        }
        let log = try await call(.GET, providerURL + "/_log?after=\(checker.changeCount)", token: nil)
        for change in try ProviderLog.parse(log) { checker.add(change) }
    }

    /// Counts of both sides, and a verdict on the changes that were visible by `cutoff`, from what was read last.
    public func report(cutoff: Timestamp) async throws -> Report {
        let counts = try ProviderCounts(json: try await call(.GET, providerURL + "/_counts", token: nil))
        let triggers = try? await call(.GET, apiURL + "/v1/triggers", token: token)
        return Report(
            verdict: checker.verdict(cutoff: cutoff), counts: counts, pollsByCause: triggers.map(DeliveryObserver.pollsByCause) ?? [:])
    }

    /// Waits at most `seconds` until every change that is visible now has its job, and reports in either case.
    public mutating func settle(seconds: Double) async throws -> Report {
        let cutoff = SystemTime.now()
        let clock = ContinuousClock()
        let deadline = clock.now + .milliseconds(Int64(seconds * 1000))
        while true {
            try await refresh()
            if checker.verdict(cutoff: cutoff).missing.isEmpty || clock.now >= deadline { break }
            try await Task.sleep(for: .milliseconds(500))
        }
        return try await report(cutoff: cutoff)
    }

    /// Makes the provider stop or go on making changes by itself.
    public func setProviderPaused(_ isPaused: Bool) async throws {
        _ = try await call(.POST, providerURL + (isPaused ? "/_pause" : "/_resume"), token: nil)
    }

    static func pollsByCause(_ body: [UInt8]) -> [String: Int] {
        var sums: [String: Int] = [:]
        for trigger in (try? JSONDocument(body).root["triggers"]?.elements) ?? [] {
            for (cause, count) in trigger["polls_by_cause"]?.members ?? [] {
                sums[cause, default: 0] += count.int64.map { Int($0) } ?? 0
            }
        }
        return sums
    }

    private func call(_ method: HTTPMethod, _ url: String, token: String?) async throws -> [UInt8] {
        var request = HTTPClientRequest(url: url)
        request.method = method
        if let token { request.headers.add(name: "Authorization", value: "Bearer \(token)") }
        let response: HTTPClientResponse
        do {
            response = try await HTTPClient.shared.execute(request, timeout: .seconds(30))
        } catch let error where !(error is CancellationError) {
            throw SluiceError(.providerUnreachable, "\(url) does not answer: is it running? (\(error))")
        }
        let body = try await response.body.collect(upTo: 256 << 20)
        guard response.status == .ok else {
            throw SluiceError(
                .providerStatus, "\(url) answered \(response.status.code).", context: ["status": String(response.status.code)])
        }
        return Array(body.readableBytesView)
    }
}
