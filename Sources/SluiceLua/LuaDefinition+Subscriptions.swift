import SluiceConnectors
import SluiceCore

extension LuaDefinition.Trigger {
    /// Dynamic webhooks: `subscription = { … }`, or `webhook_subscribe` and `webhook_unsubscribe` and, where the provider can,
    /// `webhook_refresh` and `webhook_check`. Nil: there are none.
    mutating func readSubscription(
        _ table: LuaTable, _ declared: PlaceWitness.Declared
    ) throws(SluiceError) -> SubscriptionTraits? {
        webhookSubscribe = try table.function("webhook_subscribe")
        webhookRefresh = try table.function("webhook_refresh")
        webhookCheck = try table.function("webhook_check")
        webhookUnsubscribe = try table.function("webhook_unsubscribe")
        let functions = [webhookSubscribe, webhookRefresh, webhookCheck, webhookUnsubscribe].compactMap(\.self)
        let data = try table.data("subscription")
        guard data != nil || !functions.isEmpty else { return nil }
        if webhookKey != nil { throw table.error("webhook_key", "has no use here: each subscription has a URL of its own; remove it") }
        if let data {
            if let function = functions.first { throw table.error("subscription", "cannot stand beside \(function.name); keep one") }
            if table["subscription_input"] != nil { throw table.error("subscription_input", "follows from subscription; remove it") }
            do {
                let rules = try LuaDefinition.placed(declared) { try SubscriptionRules(json: try JSONDocument(data, depthMax: 80)) }
                subscription = rules
                return rules.traits
            } catch let error as SluiceError {
                throw table.error(nil, error.message)
            } catch {
                throw table.error("subscription", "\(error)")
            }
        }
        guard webhookSubscribe != nil else { throw table.error("webhook_subscribe", "is missing") }
        guard webhookUnsubscribe != nil else {
            throw table.error("webhook_unsubscribe", "is missing: what is subscribed must be removed one day")
        }
        let inputs = try table.strings("subscription_input")
        // A function may return a secret with each subscription; whether it does is known when it has.
        return SubscriptionTraits(
            abilities: SubscriptionAbilities(canRefresh: webhookRefresh != nil, canCheck: webhookCheck != nil), inputFields: inputs,
            hasOwnSecret: true)
    }
}

extension LuaTable {
    /// A list of strings; nil if it is absent.
    func strings(_ key: String) throws(SluiceError) -> [String]? {
        guard let view = self[key] else { return nil }
        let texts = (view.elements ?? []).map(\.string)
        guard view.elements != nil || view.members?.isEmpty == true, !texts.contains(nil) else {
            throw error(key, "must be a list of strings")
        }
        return texts.compactMap(\.self)
    }
}
