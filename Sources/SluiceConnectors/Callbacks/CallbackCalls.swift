import SluiceCore

/// A kind of pending operation that a connector knows, for example `payment`.
public struct CallbackTypeDefinition: Sendable {
    /// snake_case, unique in its connector.
    public var name: String
    public var title: String
    public var inputFields: [Field]
    /// Whether the provider can be asked how an operation stands (`status`). Then a call to a callback's URL only makes us ask.
    public var asks: Bool
    /// Pauses between one status poll and the next; the last one repeats.
    public var pauses: [Span]
    public init(
        name: String, title: String? = nil, inputFields: [Field] = [], asks: Bool, pauses: [Span] = CallbackPolicy.pausesStandard
    ) {
        self.name = name
        self.title = title ?? name
        self.inputFields = inputFields
        self.asks = asks
        self.pauses = pauses
    }
}

/// What a connector is given to ask how an operation stands.
public struct CallbackRequest: Sendable {
    public var type: String
    /// Values of the connection's fields, secrets included: a JSON object.
    public var connection: JSONDocument
    /// What the callback was made with: a JSON object.
    public var input: JSONDocument
    /// By our clock, for signatures that carry a time.
    public var now: Timestamp
    public init(type: String, connection: JSONDocument, input: JSONDocument, now: Timestamp) {
        self.type = type
        self.connection = connection
        self.input = input
        self.now = now
    }

    /// For those parts that polls and status polls have in common.
    public var asPoll: PollRequest {
        PollRequest(triggerType: type, connection: connection, input: input, cursor: nil, pageState: nil, readBound: now)
    }
}

/// How an operation stands, as the provider says.
public enum CallbackAnswer: Sendable, Equatable {
    /// Ask again; `retryAfter`: not before this much time has passed.
    case pending(retryAfter: Span? = nil)
    /// It is over. `result` is JSON, as the provider sent it; `failed`: it came to nothing.
    case over(result: [UInt8], failed: Bool = false)

    /// A larger result is refused.
    public static let resultBytesMax = 1 << 20
}

extension Connector {
    /// Asks how an operation stands (`status`). Throws `PollFailure`, or `SluiceError` for a fault of the connector itself. May
    /// come again after a crash, and as often as it takes.
    public func callbackStatus(_ request: CallbackRequest, http: any HTTPSending) async throws -> CallbackAnswer {
        throw SluiceError(.connector, "the connector \(definition.name) has no status for callbacks of the type `\(request.type)`")
    }
}

extension ConnectorDefinition {
    public func callback(_ name: String) -> CallbackTypeDefinition? { callbacks.first { $0.name == name } }
}
