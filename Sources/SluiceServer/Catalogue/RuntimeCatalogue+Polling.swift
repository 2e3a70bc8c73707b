import SluiceConnectors
import SluiceCore
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
        let takesWebhooks = type.kind == .hybrid || type.kind == .webhook
        let interval =
            takesWebhooks
            ? settings.safetyInterval ?? RuntimeCatalogue.safetyInterval
            : settings.interval ?? settings.safetyInterval ?? RuntimeCatalogue.pollingInterval
        return TriggerSchedule.Timing(
            visibilityLag: type.visibilityLag, safetyInterval: interval, intervalCause: takesWebhooks ? .safety : .interval)
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
        return PollPlan(
            connector: connection.connector, triggerType: type, connectionName: connection.stored.name,
            connection: try JSONDocument(connection.values), input: try JSONDocument(Defaults.filled(trigger.input, type.inputFields)))
    }

    public func settings(of connection: ConnectionID) -> ConnectionPollSettings {
        var result = ConnectionPollSettings()
        guard let settings = current.connections[connection]?.settings else { return result }
        result.allowsPrivate = settings.allowsPrivate
        result.pollsAtOnceMax = settings.pollsAtOnce ?? result.pollsAtOnceMax
        result.requestsPerSecondMax = settings.requestsPerSecond
        return result
    }
}
