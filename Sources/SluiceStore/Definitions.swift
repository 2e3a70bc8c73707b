import SluiceCore

/// Connections, triggers, destinations, and the addresses that webhooks come to.
public protocol DefinitionStore: Sendable {
    /// Everything that is defined in a namespace, in one consistent read, ordered by name.
    func definitions(_ namespace: NamespaceID) async throws -> Definitions
    /// One trigger with its progress; nil if it is gone.
    func trigger(_ id: TriggerID) async throws -> StoredTrigger?
    /// One trigger with its progress; nil if there is none of that name.
    func trigger(_ namespace: NamespaceID, named name: String) async throws -> StoredTrigger?
    /// Makes all changes in one transaction, or none. References are names; what a change names must exist or be made by
    /// a change before it. Throws `.notFound` or `.conflict` naming the change.
    func apply(_ changes: [DefinitionChange], namespace: NamespaceID, at time: Timestamp) async throws
    /// Sets a trigger's state and raises its generation. Throws `.conflict` if its generation is no longer `generation`.
    func setState(_ change: StateChange) async throws -> StoredTrigger
    /// Replaces the cursor, closes an open cycle and raises the generation. `cursor` nil: as before the first poll.
    func setCursor(_ trigger: TriggerID, generation: Generation, cursor: [UInt8]?, at time: Timestamp) async throws -> StoredTrigger
}

public struct Definitions: Sendable {
    public var connections: [StoredConnection]
    public var endpoints: [StoredEndpoint]
    public var topics: [StoredTopic]
    public var triggers: [StoredTrigger]
    public var destinations: [StoredDestination]
    public var attachments: [StoredAttachment]
    public init(
        connections: [StoredConnection], endpoints: [StoredEndpoint], topics: [StoredTopic], triggers: [StoredTrigger],
        destinations: [StoredDestination], attachments: [StoredAttachment]
    ) {
        self.connections = connections
        self.endpoints = endpoints
        self.topics = topics
        self.triggers = triggers
        self.destinations = destinations
        self.attachments = attachments
    }
}

public struct StoredConnection: Sendable {
    public var id: ConnectionID
    public var name: String
    public var connector: String
    /// Fields that are not secret: a JSON object.
    public var fields: [UInt8]
    /// Secret fields and webhook secrets: sealed bytes, meaningless to the store.
    public var sealedSecrets: [UInt8]
    /// Scheme, limits, `allow_private` and the like: a JSON object.
    public var settings: [UInt8]
    /// Why polls of this connection are refused (401, 403), or nil.
    public var problem: String?
    public var createdAt: Timestamp
    public init(
        id: ConnectionID, name: String, connector: String, fields: [UInt8], sealedSecrets: [UInt8], settings: [UInt8], problem: String?,
        createdAt: Timestamp
    ) {
        self.id = id
        self.name = name
        self.connector = connector
        self.fields = fields
        self.sealedSecrets = sealedSecrets
        self.settings = settings
        self.problem = problem
        self.createdAt = createdAt
    }
}

/// An unguessable address. A rotated one works until it expires.
public struct StoredEndpoint: Sendable {
    public var connection: ConnectionID
    public var token: String
    public var createdAt: Timestamp
    public var expiresAt: Timestamp?
    public init(connection: ConnectionID, token: String, createdAt: Timestamp, expiresAt: Timestamp?) {
        self.connection = connection
        self.token = token
        self.createdAt = createdAt
        self.expiresAt = expiresAt
    }
}

public struct StoredTopic: Sendable {
    public var id: TopicID
    public var connection: ConnectionID
    /// Empty: the whole connection, signalled when a webhook cannot be matched to a key.
    public var key: String
    public var signalSequence: InboxSequence
    public var signalledAt: Timestamp
    public init(id: TopicID, connection: ConnectionID, key: String, signalSequence: InboxSequence, signalledAt: Timestamp) {
        self.id = id
        self.connection = connection
        self.key = key
        self.signalSequence = signalSequence
        self.signalledAt = signalledAt
    }
}

public struct StoredTrigger: Sendable {
    public var id: TriggerID
    /// Random, for ever this trigger's: job ids are derived from it.
    public var uid: String
    public var name: String
    public var connection: ConnectionID
    public var type: String
    /// A JSON object.
    public var input: [UInt8]
    /// Intervals and the like: a JSON object.
    public var settings: [UInt8]
    public var state: TriggerState
    /// Why it is failed, or nil.
    public var stateReason: String?
    public var generation: Generation
    /// The topics it listens to.
    public var topics: [TopicID]
    /// Those that it listened to before and may not have read to their end: only of one that reads the inbox.
    public var formerTopics: [FormerTopic] = []
    public var createdAt: Timestamp
    public var progress: TriggerProgress
    /// Its webhooks are kept until it has read them (`DefinitionChange.readsInbox`).
    public var readsInbox = false
    public init(
        id: TriggerID, uid: String, name: String, connection: ConnectionID, type: String, input: [UInt8], settings: [UInt8],
        state: TriggerState, stateReason: String?, generation: Generation, topics: [TopicID], createdAt: Timestamp,
        progress: TriggerProgress
    ) {
        self.id = id
        self.uid = uid
        self.name = name
        self.connection = connection
        self.type = type
        self.input = input
        self.settings = settings
        self.state = state
        self.stateReason = stateReason
        self.generation = generation
        self.topics = topics
        self.createdAt = createdAt
        self.progress = progress
    }
}

/// A topic that a trigger listens to no more.
public struct FormerTopic: Sendable, Equatable {
    public var topic: TopicID
    /// Its last webhook when the trigger ceased to listen: what came later is not the trigger's.
    public var through: InboxSequence
    public init(topic: TopicID, through: InboxSequence) {
        self.topic = topic
        self.through = through
    }
}

/// How far a trigger's polls have come.
public struct TriggerProgress: Sendable {
    public var cursor: [UInt8]?
    public var cursorMark: Int64?
    public var dedupFloor: Int64?
    /// The highest mark that any dedup key had; nil where none had one, or none was made since this is noted.
    public var markedThrough: Int64?
    /// The highest floor by which keys were forgotten, or former connectors that made them let go of, since the cursor was set. The floor
    /// itself may be lower again.
    public var prunedBelow: Int64?
    /// Below this mark dedup keys are gone, or may go at any time; nil: all are kept.
    public var forgottenBelow: Int64? { [dedupFloor, prunedBelow].compactMap { $0 == Int64.min ? nil : $0 }.max() }
    public var coveredSequence: InboxSequence = .zero
    public var openCycle: OpenCycle?
    /// The highest number that any cycle of the trigger had.
    public var lastCycle: Int64 = 0
    public var cyclesCompleted: Int64 = 0
    public var lastStartAt: Timestamp?
    public var lastSuccessAt: Timestamp?
    public var safetyDueAt: Timestamp?
    public var failures: Int = 0
    public var retryAt: Timestamp?
    public var lastError: String?
    public var lastPosition: JobPosition = .zero
    /// Completed and failed cycles by cause.
    public var pollsByCause: [PollCause: Int64] = [:]
    public var quarantined: Int64 = 0
    /// With what its dedup keys are made; nil before the first.
    public var keyOrigin: KeyOrigin?
    public init() {}
}

public struct StoredDestination: Sendable {
    public var id: DestinationID
    public var name: String
    /// `push` or `pull`.
    public var kind: String
    /// URL, headers, limits: a JSON object.
    public var settings: [UInt8]
    public var sealedSecrets: [UInt8]
    public var state: DestinationState
    /// Why it is stopped, for people; nil while it is active.
    public var stateReason: String?
    public var stateSince: Timestamp?
    public init(
        id: DestinationID, name: String, kind: String, settings: [UInt8], sealedSecrets: [UInt8],
        state: DestinationState = .active, stateReason: String? = nil, stateSince: Timestamp? = nil
    ) {
        self.id = id
        self.name = name
        self.kind = kind
        self.settings = settings
        self.sealedSecrets = sealedSecrets
        self.state = state
        self.stateReason = stateReason
        self.stateSince = stateSince
    }
}

/// A trigger's jobs go to a destination, from the position after `fromPosition`.
public struct StoredAttachment: Sendable {
    public var trigger: TriggerID
    public var destination: DestinationID
    public var fromPosition: JobPosition
    /// Filter and projection: a JSON object; empty where there is none.
    public var settings: [UInt8]
    /// Attached from an earlier position, and the deliveries after this one are still to be intended; nil once it has caught up.
    public var caughtUpTo: JobPosition?
    public init(
        trigger: TriggerID, destination: DestinationID, fromPosition: JobPosition, settings: [UInt8] = [], caughtUpTo: JobPosition? = nil
    ) {
        self.trigger = trigger
        self.destination = destination
        self.fromPosition = fromPosition
        self.settings = settings
        self.caughtUpTo = caughtUpTo
    }
}

/// One step of `apply`.
public enum DefinitionChange: Sendable {
    /// Creates, or replaces all but the name.
    case putConnection(name: String, connector: String, fields: [UInt8], sealedSecrets: [UInt8], settings: [UInt8])
    /// Marks why a connection's polls are refused, or clears it.
    case setConnectionProblem(name: String, problem: String?)
    /// One without triggers, pending callbacks and subscriptions, with the jobs of its callbacks. `discardsUndelivered`: as for a trigger.
    case removeConnection(name: String, discardsUndelivered: Bool = false)
    /// A new address; the others of this connection expire then (nil: they stay).
    case addEndpoint(connection: String, token: String, othersExpireAt: Timestamp?)
    /// Creates in state `created`, or changes input, settings, topics and, with `resets`, type and connection: then the
    /// cursor, the open cycle and the dedup keys are forgotten. Raises the generation. `topicKeys`: made where missing.
    case putTrigger(
        name: String, uid: String, connection: String, type: String, input: [UInt8], settings: [UInt8], topicKeys: [String], resets: Bool)
    /// Raises the generation and forgets the reason. Throws `.conflict` with `trigger_state` in its context if the state is no
    /// longer `from`.
    case setTriggerState(name: String, from: TriggerState, to: TriggerState)
    /// Whether a trigger is webhook-only: the inbox is what it reads, so that retention keeps each webhook until it has.
    case readsInbox(trigger: String, Bool)
    /// Only a stopped or created trigger; its jobs, keys and deliveries go with it. Throws `.conflict` if some of them were not
    /// delivered or are dead letters, unless `discardsUndelivered`.
    case removeTrigger(name: String, discardsUndelivered: Bool = false)
    case putDestination(name: String, kind: String, settings: [UInt8], sealedSecrets: [UInt8])
    /// Stops a destination or lets it go on. `ifSettings`: only while its settings are these; nil: whatever they are.
    case setDestinationState(name: String, state: DestinationState, reason: String?, ifSettings: [UInt8]?)
    /// Whether the jobs of a trigger are delivered to each destination one after the other, in the order of their positions.
    case setOrdered(trigger: String, Bool)
    /// Throws `.conflict` if a trigger is attached to it, or if something was not delivered, unless `discardsUndelivered`.
    case removeDestination(name: String, discardsUndelivered: Bool = false)
    /// `from` nil: jobs from now on; a position: that one and all after it that are still kept.
    case attach(trigger: String, destination: String, from: JobPosition?)
    case detach(trigger: String, destination: String)
    /// Replaces the filter and the projection of an attachment. Holds for what is claimed from then on.
    case setAttachment(trigger: String, destination: String, settings: [UInt8])
}

public struct StateChange: Sendable {
    public var trigger: TriggerID
    public var generation: Generation
    public var state: TriggerState
    public var reason: String?
    public var at: Timestamp
    public init(trigger: TriggerID, generation: Generation, state: TriggerState, reason: String?, at: Timestamp) {
        self.trigger = trigger
        self.generation = generation
        self.state = state
        self.reason = reason
        self.at = at
    }
}
