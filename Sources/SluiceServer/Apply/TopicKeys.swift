import SluiceConnectors
import SluiceCore
import SluiceGateway

/// Which topics a trigger listens to.
enum TopicKeys {
    /// Its own key, and the empty one of the whole connection; of a dynamic trigger what comes to the URLs of its subscriptions,
    /// and nothing else. None where it takes no webhooks; a
    /// webhook-only one without a key of its own takes every webhook. Throws what `webhook_key` throws. `input` is as it is stored.
    static func of(_ type: TriggerTypeDefinition, _ connector: any Connector, input: [UInt8], uid: String) throws -> [String] {
        if type.subscription != nil { return [DynamicTopic.key(uid)] }
        guard type.kind.takesWebhooks else { return [] }
        let full = try JSONDocument(Defaults.filled(input, type.inputFields))
        guard let key = try connector.webhookKey(triggerType: type.name, input: full), !key.isEmpty else {
            return type.kind == .webhook ? ["", GatewayConnection.everyWebhook] : [""]
        }
        return ["", key]
    }
}
