import SluiceCore

/// What a trigger type says for its simulation (`simulate = { … }`): the list that its lambda reads, in the words of
/// `incremental`, and values for fields that cannot be made up.
public struct SimulatedFeed: Sendable {
    /// Nil where only values are given, as beside `incremental`.
    public var rules: Incremental?
    /// JSON objects.
    public var connection: JSONView?
    public var input: JSONView?
    /// How held requests go on from the same list.
    public var longPoll: LongPollRule?
    /// A way of asking that `rules` have no words for.
    public var dialect: Dialect?

    public enum Dialect: String, Sendable, CaseIterable {
        /// The JSON gateway of etcd's v3 API: POSTs of ranges at a revision, and a watch from one.
        case etcd
    }

    public init(rules: Incremental? = nil, connection: JSONView? = nil, input: JSONView? = nil) {
        self.rules = rules
        self.connection = connection
        self.input = input
    }
}

extension Connector {
    /// Unless a connector says otherwise, its polls are code.
    public func incremental(triggerType: String) -> Incremental? { nil }
    /// Unless a connector says otherwise, nothing is known of what its polls read.
    public func simulation(triggerType: String) -> SimulatedFeed? { nil }
}
