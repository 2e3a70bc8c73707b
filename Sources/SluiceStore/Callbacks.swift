import SluiceCore

/// Pending operations, and how they ended.
///
/// A callback that ends makes a job: of its connection's *source*, a trigger of the type `StoredTrigger.callbackType` that
/// nobody polls and that exists for this alone. So whatever may become of jobs may become of results.
public protocol CallbackStore: Sendable {
    /// Records one that is to be waited for, and makes its connection's source if this is the first. With an idempotency key that
    /// its connection has already, the first one is returned and nothing is changed. Throws `.notFound` for a connection or
    /// destination that is gone, `.conflict` where the key stands for another request or the destination is not carried to,
    /// `.overloaded` where as many are pending as may be.
    func addCallback(_ new: NewCallback, pendingMax: Int, at time: Timestamp) async throws -> (callback: StoredCallback, isNew: Bool)
    func callback(_ namespace: NamespaceID, id: String) async throws -> StoredCallback?
    /// By SHA-256 of the token in its URL.
    func callback(tokenHash: [UInt8]) async throws -> StoredCallback?
    /// Newest first, without results.
    func callbacks(_ query: CallbackQuery) async throws -> [StoredCallback]
    /// Connections with pending callbacks: how many, and when the first of each is due.
    func pendingCallbacks(_ namespace: NamespaceID) async throws -> [PendingCallbacks]
    /// Pending ones of a connection that are due, the longest due first.
    func dueCallbacks(_ namespace: NamespaceID, connection: ConnectionID, at time: Timestamp, limit: Int) async throws -> [StoredCallback]
    /// Records what a callback has become; where it has ended, its job and the deliveries of that, in the same transaction.
    /// Throws `.conflict` if it is of another generation by now, `.notFound` if it is gone.
    func recordCallback(_ change: CallbackChange) async throws -> StoredCallback
    /// Makes pending ones that can be asked about due within `window` from `time`, spread over it, unless they are sooner; those
    /// with a number above `after`, at most `limit` of them. Returns the last number looked at, nil at the end.
    func hastenCallbacks(_ namespace: NamespaceID, after: Int64, limit: Int, window: Span, at time: Timestamp) async throws -> Int64?
}

extension StoredTrigger {
    /// The type of triggers that stand for the callbacks of a connection: nothing polls them.
    public static let callbackType = "callback"
    public var isCallbackSource: Bool { type == StoredTrigger.callbackType && name.hasPrefix(StoredTrigger.callbackPrefix) }
    /// No name that people give holds a colon.
    public static let callbackPrefix = "callbacks:"
    /// The source of a connection's callbacks.
    public static func callbackSource(_ connection: String) -> String { callbackPrefix + connection }
}

public struct NewCallback: Sendable {
    public var namespace: NamespaceID
    /// Random: how people and programs name it.
    public var id: String
    public var connection: ConnectionID
    /// The connector's callback type; nil: none, the body of a call is the result.
    public var type: String?
    /// A JSON object.
    public var input: [UInt8]
    /// To which the result is carried; nil: whoever wants it reads it.
    public var destination: DestinationID?
    public var tokenHash: [UInt8]
    /// The token, sealed: to show the URL again.
    public var sealedToken: [UInt8]
    /// Unique in its connection; with the digest of the request that it stands for.
    public var idempotencyKey: String?
    public var requestDigest: [UInt8]
    /// Nothing verifies the call that brings the result.
    public var isUnsafe: Bool
    public var state: Callback
    /// Pauses between status polls; empty: the connector's.
    public var pauses: [Span]
    /// For the source, if it has to be made: random, for ever.
    public var sourceUID: String
    public init(
        namespace: NamespaceID = .default, id: String, connection: ConnectionID, type: String?, input: [UInt8],
        destination: DestinationID? = nil, tokenHash: [UInt8], sealedToken: [UInt8], idempotencyKey: String? = nil,
        requestDigest: [UInt8] = [], isUnsafe: Bool = false, state: Callback, pauses: [Span] = [], sourceUID: String
    ) {
        self.namespace = namespace
        self.id = id
        self.connection = connection
        self.type = type
        self.input = input
        self.destination = destination
        self.tokenHash = tokenHash
        self.sealedToken = sealedToken
        self.idempotencyKey = idempotencyKey
        self.requestDigest = requestDigest
        self.isUnsafe = isUnsafe
        self.state = state
        self.pauses = pauses
        self.sourceUID = sourceUID
    }
}

public struct StoredCallback: Sendable {
    /// Grows with each that is made.
    public var number: Int64
    public var id: String
    public var connection: ConnectionID
    public var type: String?
    public var input: [UInt8]
    public var destination: DestinationID?
    public var sealedToken: [UInt8]
    public var idempotencyKey: String?
    public var isUnsafe: Bool
    public var state: Callback
    public var pauses: [Span]
    public var generation: Generation
    /// The source of its job.
    public var source: TriggerID
    public var sourceUID: String
    /// Its job, once there is one.
    public var position: JobPosition?
    /// What brought the end: `status`, `webhook`, `time`, `request`; nil while it is pending.
    public var endedBy: CallbackEnding.Cause?
    /// The result as the provider sent it, JSON; nil: there is none, or it was not asked for.
    public var result: [UInt8]?
    public init(
        number: Int64, id: String, connection: ConnectionID, type: String?, input: [UInt8], destination: DestinationID?,
        sealedToken: [UInt8], idempotencyKey: String?, isUnsafe: Bool, state: Callback, pauses: [Span], generation: Generation,
        source: TriggerID, sourceUID: String, position: JobPosition?, endedBy: CallbackEnding.Cause?, result: [UInt8]?
    ) {
        self.number = number
        self.id = id
        self.connection = connection
        self.type = type
        self.input = input
        self.destination = destination
        self.sealedToken = sealedToken
        self.idempotencyKey = idempotencyKey
        self.isUnsafe = isUnsafe
        self.state = state
        self.pauses = pauses
        self.generation = generation
        self.source = source
        self.sourceUID = sourceUID
        self.position = position
        self.endedBy = endedBy
        self.result = result
    }
}

public struct CallbackChange: Sendable {
    public var id: String
    public var namespace: NamespaceID
    /// The one that was read.
    public var generation: Generation
    public var state: Callback
    /// Set exactly where the state is over.
    public var ending: CallbackEnding?
    public var at: Timestamp
    public init(
        namespace: NamespaceID = .default, id: String, generation: Generation, state: Callback, ending: CallbackEnding?, at: Timestamp
    ) {
        self.namespace = namespace
        self.id = id
        self.generation = generation
        self.state = state
        self.ending = ending
        self.at = at
    }
}

/// How a callback ended.
public struct CallbackEnding: Sendable {
    public enum Cause: String, Sendable, Codable { case status, webhook, time, request }
    public var cause: Cause
    /// What the provider sent, JSON.
    public var result: [UInt8]?
    /// The record of its job, JSON; nil: it makes none.
    public var record: [UInt8]?
    public init(cause: Cause, result: [UInt8]?, record: [UInt8]?) {
        self.cause = cause
        self.result = result
        self.record = record
    }
}

public struct CallbackQuery: Sendable {
    public var namespace: NamespaceID
    public var connection: ConnectionID?
    public var state: CallbackState?
    /// Only what is older than this one.
    public var before: Int64?
    public var limit: Int
    public init(
        namespace: NamespaceID = .default, connection: ConnectionID? = nil, state: CallbackState? = nil, before: Int64? = nil,
        limit: Int = 50
    ) {
        self.namespace = namespace
        self.connection = connection
        self.state = state
        self.before = before
        self.limit = limit
    }
}

public struct PendingCallbacks: Sendable, Equatable {
    public var connection: ConnectionID
    public var pending: Int64
    public var dueAt: Timestamp
    public init(connection: ConnectionID, pending: Int64, dueAt: Timestamp) {
        self.connection = connection
        self.pending = pending
        self.dueAt = dueAt
    }
}
