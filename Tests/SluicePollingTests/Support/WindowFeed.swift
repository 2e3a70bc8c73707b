import SluiceConnectors
import SluiceCore
import Synchronization

/// A provider in memory whose list is described as `incremental`: `GET /items?since=SECONDS&page=TOKEN`, inclusive, ascending, some a
/// page. Records can appear behind the cursor, and go.
final class WindowFeed: Connector, HTTPSending {
    struct Item: Sendable, Hashable {
        var id: String
        var at: Int64
    }

    private struct State {
        var items: [Item] = []
        var fault: (@Sendable (HTTPRequestPlan, Int) -> HTTPReply?)?
        var requests = 0
        var expires = false
    }

    let definition: ConnectorDefinition
    let rules: Incremental
    let pageSize: Int
    private let time: any TimeSource
    private let state = Mutex(State())

    init(time: any TimeSource, pageSize: Int = 7, cursor: String? = nil) throws {
        self.time = time
        self.pageSize = pageSize
        let cursor = cursor ?? #"{"field":"at","parameter":"since","type":"unix_seconds","order":"asc"}"#
        let json =
            #"{"base_url":"http://feed.test","path":"/items","records":"items","dedup":{"id":"id","version":"at"},"cursor":\#(cursor),"pagination":{"token":{"from":"next","parameter":"page"}}}"#
        rules = try Incremental(json: JSONDocument(Array(json.utf8), depthMax: 80))
        definition = ConnectorDefinition(
            name: "feed", title: "Feed", version: "1", hash: "h", language: "swift", connectionFields: [], webhook: nil,
            triggers: [TriggerTypeDefinition(name: "item", title: "Item", kind: .polling)])
    }

    var items: [Item] { state.withLock { $0.items } }
    var requests: Int { state.withLock { $0.requests } }
    func put(_ items: [Item]) { state.withLock { $0.items = ($0.items + items).sorted { ($0.at, $0.id) < ($1.at, $1.id) } } }
    func remove(_ isGone: (Item) -> Bool) { state.withLock { $0.items.removeAll(where: isGone) } }
    /// Given the request and its number from 1; a reply instead of the right one, or nil.
    func setFault(_ fault: (@Sendable (HTTPRequestPlan, Int) -> HTTPReply?)?) { state.withLock { $0.fault = fault } }

    func send(_ request: HTTPRequestPlan) async throws -> HTTPReply {
        let query = Dictionary(
            request.url.split(separator: "?").last!.split(separator: "&").map { pair in
                let parts = pair.split(separator: "=", maxSplits: 1)
                return (String(parts[0]), parts.count > 1 ? String(parts[1]) : "")
            }, uniquingKeysWith: { $1 })
        let (reply, items) = state.withLock { state -> (HTTPReply?, [Item]) in
            state.requests += 1
            return (state.fault?(request, state.requests), state.items)
        }
        if let reply {
            switch reply.status {
            case 401: throw PollFailure(.unauthorized, SluiceError(.providerAuth, "the provider refuses the connection's credentials"))
            case 429: throw PollFailure(.rateLimited, SluiceError(.rateLimited, "too many requests"), retryAfter: .seconds(30))
            case 500...: throw PollFailure(.transient, SluiceError(.providerStatus, "the provider answers with a fault of its own"))
            default: return reply
            }
        }
        let since = Int64(query["since"] ?? "") ?? 0
        // The token is the place behind the last record: shifting lists lose nothing.
        let behind = query["page"].flatMap { text -> Item? in
            let parts = text.split(separator: "_")
            return parts.count == 2 ? Int64(parts[0]).map { Item(id: String(parts[1]), at: $0) } : nil
        }
        let listed = items.filter { item in
            item.at >= since && (behind.map { (item.at, item.id) > ($0.at, $0.id) } ?? true)
        }
        let page = listed.prefix(pageSize)
        let body = page.map { #"{"id":"\#($0.id)","at":\#($0.at),"amount":1.10}"# }.joined(separator: ",")
        let next = listed.count > page.count ? page.last.map { #","next":"\#($0.at)_\#($0.id)""# } ?? "" : ""
        return HTTPReply(status: 200, headers: [], body: Array(#"{"items":[\#(body)]\#(next)}"#.utf8))
    }

    // MARK: Connector

    func webhookKeys(_ request: WebhookRequest) throws -> [String] { [] }
    func webhookKey(triggerType: String, input: JSONDocument) throws -> String? { nil }
    func poll(_ request: PollRequest, http: any HTTPSending) async throws -> PollPage { try await rules.run(request, http: self) }
    func dedupKeys(triggerType: String, records: [Record]) throws -> [Result<[UInt8], SluiceError>] { rules.dedupKeys(records: records) }
    func help(webhookBaseURL: String) -> String { "" }
    func incremental(triggerType: String) -> Incremental? { rules }
    func simulation(triggerType: String) -> SimulatedFeed? { nil }
    func subscribe(_ request: SubscriptionRequest, http: any HTTPSending) async throws -> SubscriptionAnswer { throw WindowFeed.none }
    func refreshSubscription(_ request: SubscriptionRequest, http: any HTTPSending) async throws -> SubscriptionAnswer {
        throw WindowFeed.none
    }
    func checkSubscription(_ request: SubscriptionRequest, http: any HTTPSending) async throws -> SubscriptionAnswer {
        throw WindowFeed.none
    }
    func unsubscribe(_ request: SubscriptionRequest, http: any HTTPSending) async throws { throw WindowFeed.none }
    private static let none = SluiceError(.connector, "it has no subscriptions")
}
