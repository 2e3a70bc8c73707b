import SluiceCore
import SluicePolling
import SluiceStore

/// What the API asks of whoever runs the polls. The server's polling service implements it; a command that works without a
/// server uses `NoPollers`.
public protocol TriggerControl: Sendable {
    /// Connections, triggers or destinations have changed: read them anew and take them over before returning.
    func definitionsChanged() async throws
    /// Connectors of these names are others now: what is defined with them works from the new ones before this returns.
    func connectorsChanged(_ names: Set<String>) async throws
    /// A trigger's state or cursor has changed; with `cause` it polls as soon as the budgets allow.
    func triggerChanged(_ trigger: StoredTrigger, poll cause: PollCause?) async
    /// What a trigger does or waits for; nil if it is not being run.
    func runtimeStatus(of trigger: StoredTrigger) async -> RuntimeTriggerStatus?
    /// What keeps the webhooks of its subscription away, where that is for people to mend.
    func subscriptionProblem(of trigger: TriggerID) -> String?
    /// Compares a trigger's subscription with its provider at once. False: it has none. Throws `.conflict` without a server.
    func checkSubscription(of trigger: TriggerID) throws(SluiceError) -> Bool
    /// Removes what was left behind at a provider. Throws `.notFound`, or `.conflict` if it is in use or there is no server.
    func removeLeftBehind(_ subscription: SubscriptionID) throws(SluiceError)
    /// What is known of a connection's credentials and budget; nil if nothing runs.
    func connectionStatus(_ connection: ConnectionID) async -> ConnectionStatus?
    /// Tries a connection. Throws `SluiceError` where nothing can be tried.
    func testConnection(_ connection: ConnectionID) async throws -> ConnectionTestResult
    /// Matches a webhook of the inbox again and keeps it as a new one, even if it is a repetition. Returns its number; nil if
    /// nobody is there to do it.
    func redeliver(_ webhook: InboxItem) async throws -> InboxSequence?
    /// Checks and begins a backfill. Throws `.conflict` without a server.
    func startBackfill(_ wanted: BackfillRequest) async throws -> StoredBackfill
    /// One of this trigger was paused, resumed or cancelled.
    func backfillsChanged(_ trigger: TriggerID) async
    /// What one waits for, as a sentence, and until when; nil if nothing holds it up, or nothing runs.
    func backfillWaits(_ backfill: StoredBackfill) -> (reason: String, until: Timestamp?)?
}

extension TriggerControl {
    public func subscriptionProblem(of trigger: TriggerID) -> String? { nil }
    public func checkSubscription(of trigger: TriggerID) throws(SluiceError) -> Bool { throw .noServerAsks }
    public func removeLeftBehind(_ subscription: SubscriptionID) throws(SluiceError) { throw .noServerAsks }
    public func connectionStatus(_ connection: ConnectionID) async -> ConnectionStatus? { nil }
    public func testConnection(_ connection: ConnectionID) async throws -> ConnectionTestResult { throw SluiceError.noServerAsks }
    public func redeliver(_ webhook: InboxItem) async throws -> InboxSequence? { nil }
    public func startBackfill(_ wanted: BackfillRequest) async throws -> StoredBackfill { throw SluiceError.noServerAsks }
    public func backfillsChanged(_ trigger: TriggerID) async {}
    public func backfillWaits(_ backfill: StoredBackfill) -> (reason: String, until: Timestamp?)? {
        backfill.state == .running ? ("a server: none runs, start one with `sluice serve`", nil) : nil
    }
}

extension SluiceError {
    fileprivate static let noServerAsks = SluiceError(
        .conflict, "no server runs that could ask the provider: start one with `sluice serve`")
}

/// What a trigger does or waits for at this moment (P2).
public struct RuntimeTriggerStatus: Sendable, Equatable {
    public var isPolling: Bool
    /// When the next poll is due and why, as far as is known.
    public var nextDueAt: Timestamp?
    public var nextCause: PollCause?
    /// What it waits for, and why, as a sentence; nil if nothing holds it up.
    public var waitsFor: String?
    public var waitsUntil: Timestamp?
    public init(
        isPolling: Bool = false, nextDueAt: Timestamp? = nil, nextCause: PollCause? = nil, waitsFor: String? = nil,
        waitsUntil: Timestamp? = nil
    ) {
        self.isPolling = isPolling
        self.nextDueAt = nextDueAt
        self.nextCause = nextCause
        self.waitsFor = waitsFor
        self.waitsUntil = waitsUntil
    }
}

/// No server runs: nothing polls until one starts, and then every trigger polls at once (P6).
public struct NoPollers: TriggerControl {
    public init() {}
    public func definitionsChanged() async throws {}
    public func connectorsChanged(_ names: Set<String>) async throws {}
    public func triggerChanged(_ trigger: StoredTrigger, poll cause: PollCause?) async {}
    public func runtimeStatus(of trigger: StoredTrigger) async -> RuntimeTriggerStatus? { nil }
}
