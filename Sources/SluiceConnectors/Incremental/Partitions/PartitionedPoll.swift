import SluiceCore
import Synchronization

/// A poll over partitions: lists them, then reads one after the other as pages of one cycle.
struct PartitionedPoll: Sendable {
    let rules: Incremental

    /// Reads a page of one partition, whose cursor and page state `request` holds, beginning at `origin` if it has no cursor.
    typealias ReadOne = @Sendable (_ request: PollRequest, _ origin: CursorValue?, _ http: any HTTPSending) async throws -> PollPage

    func run(_ request: PollRequest, http: any HTTPSending, read: ReadOne) async throws -> PollPage {
        var page = try PartitionedPage(rules, request)
        let clock = ServerClock(http)
        while case .list(let plan) = try page.next() { if let whole = try page.listed(try await clock.send(plan)) { return whole } }
        guard case .read(let turn) = try page.next() else { return try page.ended() }
        let result: Result<PollPage, PollFailure>
        do { result = .success(try await read(turn.request, turn.origin, clock)) } catch let failure as PollFailure {
            result = .failure(failure)
        }
        return try page.read(result, of: turn, now: clock.now)
    }
}

/// Passes requests on and remembers the provider's clock.
final class ServerClock: HTTPSending {
    private let http: any HTTPSending
    private let date = Mutex<Timestamp?>(nil)

    init(_ http: any HTTPSending) { self.http = http }

    /// From the last answer; nil before one, or if it had no Date.
    var now: Timestamp? { date.withLock { $0 } }

    func send(_ request: HTTPRequestPlan) async throws -> HTTPReply {
        let reply = try await http.send(request)
        if let now = reply.serverDate { date.withLock { $0 = now } }
        return reply
    }
}
