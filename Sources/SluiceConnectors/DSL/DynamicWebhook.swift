import SluiceCore

/// Dynamic webhooks: Sluice subscribes at the provider for each trigger, keeps the subscription alive and removes it. Makes the
/// trigger type take webhooks; they need no key, since each subscription has a URL of its own.
public struct DynamicWebhook: TriggerPart {
    /// One of the calls; see `Connector`.
    public typealias Call = @Sendable (SubscriptionRequest, any HTTPSending) async throws -> SubscriptionAnswer

    let traits: SubscriptionTraits
    let subscribe: Call
    let refresh: Call?
    let check: Call?
    let unsubscribe: @Sendable (SubscriptionRequest, any HTTPSending) async throws -> Void

    /// As data.
    public init(_ rules: SubscriptionRules) {
        traits = rules.traits
        subscribe = { try await rules.subscribe($0, http: $1) }
        let refreshes: Call = { request, http in try await rules.refreshSubscription(request, http: http) }
        let checks: Call = { request, http in try await rules.checkSubscription(request, http: http) }
        refresh = rules.refresh == nil ? nil : refreshes
        check = rules.list == nil ? nil : checks
        unsubscribe = { try await rules.unsubscribe($0, http: $1) }
    }

    /// As code. `inputFields`: those on which a subscription depends, nil for all; `hasOwnSecret`: it is answered with a
    /// secret; `usesOfferedSecret`: it is made with the one that the request offers; `isIdempotent`: subscribing a URL again replaces what the provider has.
    public init(
        inputFields: [String]? = nil, hasOwnSecret: Bool = false, usesOfferedSecret: Bool = false, isIdempotent: Bool = false,
        subscribe: @escaping Call,
        refresh: Call? = nil, check: Call? = nil,
        unsubscribe: @escaping @Sendable (SubscriptionRequest, any HTTPSending) async throws -> Void
    ) {
        traits = SubscriptionTraits(
            abilities: SubscriptionAbilities(canRefresh: refresh != nil, canCheck: check != nil, isIdempotent: isIdempotent),
            inputFields: inputFields, hasOwnSecret: hasOwnSecret, usesOfferedSecret: usesOfferedSecret)
        self.subscribe = subscribe
        self.refresh = refresh
        self.check = check
        self.unsubscribe = unsubscribe
    }
}

extension ConnectorDescription {
    public func subscribe(_ request: SubscriptionRequest, http: any HTTPSending) async throws -> SubscriptionAnswer {
        try await dynamic(request).subscribe(request, http)
    }

    public func refreshSubscription(_ request: SubscriptionRequest, http: any HTTPSending) async throws -> SubscriptionAnswer {
        guard let refresh = try dynamic(request).refresh else { throw DynamicWebhook.missing("refresh", request) }
        return try await refresh(request, http)
    }

    public func checkSubscription(_ request: SubscriptionRequest, http: any HTTPSending) async throws -> SubscriptionAnswer {
        guard let check = try dynamic(request).check else { throw DynamicWebhook.missing("check", request) }
        return try await check(request, http)
    }

    public func unsubscribe(_ request: SubscriptionRequest, http: any HTTPSending) async throws {
        try await dynamic(request).unsubscribe(request, http)
    }

    private func dynamic(_ request: SubscriptionRequest) throws -> DynamicWebhook {
        guard let dynamic = try trigger(request.triggerType).dynamicWebhook else {
            throw DynamicWebhook.missing("dynamic webhooks", request)
        }
        return dynamic
    }
}

extension DynamicWebhook {
    fileprivate static func missing(_ what: String, _ request: SubscriptionRequest) -> SluiceError {
        SluiceError(.connector, "the trigger type \(request.triggerType) has no \(what)")
    }
}
