import SluiceCore

/// A kind of pending operation, whose result is waited for with a callback.
///
/// ```swift
/// CallbackType("payment", inputFields: [Field("payment")]) { request, http in
///     let reply = try await http.send(HTTPRequestPlan(url: "https://api.example.com/payments/…"))
///     …
///     return .over(result: Array(answer.bytes))
/// }
/// ```
public struct CallbackType: ConnectorPart {
    public typealias Status = @Sendable (CallbackRequest, any HTTPSending) async throws -> CallbackAnswer

    let definition: CallbackTypeDefinition
    let status: Status?
    let rules: CallbackRules?

    /// `status` nil: the provider cannot be asked, and the verified body of a call is the result.
    public init(
        _ name: String, title: String? = nil, inputFields: [Field] = [], pauses: [Span] = CallbackPolicy.pausesStandard,
        status: Status? = nil
    ) {
        definition = CallbackTypeDefinition(name: name, title: title, inputFields: inputFields, asks: status != nil, pauses: pauses)
        self.status = status
        rules = nil
    }

    /// As data.
    public init(
        _ name: String, title: String? = nil, inputFields: [Field] = [], pauses: [Span] = CallbackPolicy.pausesStandard,
        status rules: CallbackRules
    ) {
        definition = CallbackTypeDefinition(name: name, title: title, inputFields: inputFields, asks: true, pauses: pauses)
        status = nil
        self.rules = rules
    }
}

extension ConnectorDescription {
    public func callbackStatus(_ request: CallbackRequest, http: any HTTPSending) async throws -> CallbackAnswer {
        guard let type = callbacks[request.type] else {
            throw SluiceError(
                .notFound,
                "the connector \(definition.name) has no callback type \(request.type): choose from "
                    + callbacks.keys.sorted().joined(separator: ", "))
        }
        if let rules = type.rules { return try await rules.status(request, base: definition.access.baseURLs.first, http: http) }
        guard let status = type.status else {
            throw SluiceError(.connector, "the callback type \(request.type) of \(definition.name) has no status")
        }
        return try await status(request, http)
    }
}
