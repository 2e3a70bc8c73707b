/// Identifiers: small typed integers inside a process and a store, opaque text outside.
///
/// Every stored key begins with a `NamespaceID`. Numbers are never reused within a store.

/// An integer identifier that cannot be mistaken for one of another kind.
public protocol Identifier: RawRepresentable<Int64>, Hashable, Comparable, Sendable, Codable, CustomStringConvertible {
    init(rawValue: Int64)
}

extension Identifier {
    public init(_ value: Int64) { self.init(rawValue: value) }
    public static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
    public var description: String { String(rawValue) }
}

/// One tenant. There is only `default` until there are more.
public struct NamespaceID: Identifier {
    public let rawValue: Int64
    public init(rawValue: Int64) { self.rawValue = rawValue }
    /// The namespace that exists in every store.
    public static let `default` = NamespaceID(rawValue: 1)
}

/// A connection's number within its store.
public struct ConnectionID: Identifier {
    public let rawValue: Int64
    public init(rawValue: Int64) { self.rawValue = rawValue }
}

/// A trigger's number within its store; its lasting identity is `uid`, a text.
public struct TriggerID: Identifier {
    public let rawValue: Int64
    public init(rawValue: Int64) { self.rawValue = rawValue }
}

/// What webhooks are kept under: a connection and a key.
public struct TopicID: Identifier {
    public let rawValue: Int64
    public init(rawValue: Int64) { self.rawValue = rawValue }
}

/// A destination's number within its store.
public struct DestinationID: Identifier {
    public let rawValue: Int64
    public init(rawValue: Int64) { self.rawValue = rawValue }
}

/// A subscription's number within its store: one webhook subscription at a provider, made for a trigger.
public struct SubscriptionID: Identifier {
    public let rawValue: Int64
    public init(rawValue: Int64) { self.rawValue = rawValue }
}

/// A backfill's number within its store.
public struct BackfillID: Identifier {
    public let rawValue: Int64
    public init(rawValue: Int64) { self.rawValue = rawValue }
}

/// The place of an accepted webhook in the inbox. It grows with every append, over all connections, so it also serves
/// as the sequence of signals: a topic's signal sequence is that of the last webhook accepted under it.
public struct InboxSequence: Identifier {
    public let rawValue: Int64
    public init(rawValue: Int64) { self.rawValue = rawValue }
    /// Before the first webhook.
    public static let zero = InboxSequence(rawValue: 0)
}

/// A job's gap-free number in its trigger, from 1.
public struct JobPosition: Identifier {
    public let rawValue: Int64
    public init(rawValue: Int64) { self.rawValue = rawValue }
    /// Before the first job.
    public static let zero = JobPosition(rawValue: 0)
}

/// The fencing token of a lease: it grows whenever another holder takes the lease.
public struct LeaseEpoch: Identifier {
    public let rawValue: Int64
    public init(rawValue: Int64) { self.rawValue = rawValue }
}

/// Raised by every change of a trigger's definition or state, so that work begun before the change cannot commit after it.
public struct Generation: Identifier {
    public let rawValue: Int64
    public init(rawValue: Int64) { self.rawValue = rawValue }
    /// The generation of a trigger that was just created.
    public static let first = Generation(rawValue: 1)
    /// The generation after this one.
    public var next: Generation { Generation(rawValue: rawValue + 1) }
}
