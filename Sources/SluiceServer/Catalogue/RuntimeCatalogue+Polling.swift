import SluiceConnectors
import SluiceCore
import SluiceLua
import SluicePolling
import SluiceStore

extension RuntimeCatalogue: PollingCatalogue {
    private static let pollingInterval = Span.minutes(5)
    private static let safetyInterval = Span.hours(12)

    public func timing(of trigger: StoredTrigger) -> TriggerSchedule.Timing {
        let settings = TriggerSettings(json: trigger.settings)
        guard let type = current.connections[trigger.connection]?.connector.definition.trigger(trigger.type) else {
            return TriggerSchedule.Timing(safetyInterval: settings.safetyInterval ?? RuntimeCatalogue.safetyInterval)
        }
        if type.subscription != nil, type.kind != .webhook, current.subscriptions[trigger.id]?.isSubscribed != true {
            // No webhooks come: it polls as if it had none.
            let interval = min(
                settings.safetyInterval ?? RuntimeCatalogue.safetyInterval, settings.interval ?? RuntimeCatalogue.pollingInterval)
            return TriggerSchedule.Timing(visibilityLag: type.visibilityLag, safetyInterval: interval, intervalCause: .interval)
        }
        let takesWebhooks = type.kind.takesWebhooks
        let hasSafety = takesWebhooks || type.kind == .longPolling
        let interval =
            hasSafety
            ? RuntimeCatalogue.jittered(settings.safetyInterval ?? RuntimeCatalogue.safetyInterval, trigger.id)
            : settings.interval ?? settings.safetyInterval ?? RuntimeCatalogue.pollingInterval
        return TriggerSchedule.Timing(
            visibilityLag: type.kind == .webhook ? .zero : type.visibilityLag, safetyInterval: interval,
            intervalCause: hasSafety ? .safety : .interval, upstream: RuntimeCatalogue.upstream(type.kind))
    }

    private static func upstream(_ kind: TriggerKind) -> TriggerSchedule.Upstream {
        switch kind {
        case .polling, .hybrid: .polls
        case .webhook: .inbox
        case .longPolling: .held
        }
    }

    /// Shorter by up to a tenth, each trigger by its own part, so that triggers which were started together come apart. Short
    /// intervals are kept to the second.
    static func jittered(_ interval: Span, _ trigger: TriggerID) -> Span {
        guard interval >= .minutes(10) else { return interval }
        let hash = UInt64(bitPattern: trigger.rawValue) &* 0x9E37_79B9_7F4A_7C15
        return interval - Span(milliseconds: Int64(Double(interval.milliseconds) * 0.1 * Double(hash >> 11) / Double(1 << 53)))
    }

    public func plan(for trigger: StoredTrigger) throws -> PollPlan {
        let catalogue = current
        guard let connection = catalogue.connections[trigger.connection] else {
            let name = catalogue.connectionNames[trigger.connection] ?? "?"
            throw catalogue.problems.first { $0.subject == "connection \(name)" }?.error
                ?? SluiceError(.connector, "the connection of trigger \(trigger.name) cannot be used")
        }
        guard let type = connection.connector.definition.trigger(trigger.type) else {
            throw SluiceError(.connector, "connector \(connection.stored.connector) has no trigger type `\(trigger.type)`")
        }
        let output = catalogue.subscriptions[trigger.id]?.routes.last { $0.output != nil }?.output
        return PollPlan(
            connector: connection.connector, triggerType: type, connectionName: connection.stored.name,
            connection: try JSONDocument(connection.values), input: try JSONDocument(Defaults.filled(trigger.input, type.inputFields)),
            subscriptionOutput: try output.map { try JSONDocument($0) })
    }

    public func connector(ofText text: [UInt8]) throws -> any Connector {
        try LuaConnector.load(source: text, name: "", path: "the former connector.lua")
    }

    public func authorization(of connection: ConnectionID) -> ConnectionAuthorization? {
        guard let found = current.connections[connection], let values = try? JSONDocument(found.values) else { return nil }
        let definition = found.connector.definition
        return ConnectionAuthorization(
            name: found.stored.name, access: definition.access, values: values,
            secretFields: definition.connectionFields.filter(\.isSecret).map(\.name), connector: found.connector)
    }

    public func settings(of connection: ConnectionID) -> ConnectionPollSettings {
        var result = ConnectionPollSettings()
        guard let settings = current.connections[connection]?.settings else { return result }
        result.allowsPrivate = settings.allowsPrivate
        result.allowedNetworks = settings.allowedNetworks
        result.pollsAtOnceMax = settings.pollsAtOnce ?? result.pollsAtOnceMax
        result.requestsPerSecondMax = settings.requestsPerSecond
        return result
    }
}
