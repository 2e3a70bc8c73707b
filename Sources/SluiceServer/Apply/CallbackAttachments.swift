import SluiceCore
import SluiceStore

/// `triggers: { callbacks:CONNECTION: { destinations: […] } }` in sluice.yaml: who gets the results of a connection's callbacks besides
/// the destination that a callback names for itself.
enum CallbackAttachments {
    static func isNamed(_ name: String) -> Bool { connection(of: name) != nil }

    /// The connection whose callbacks are meant; nil for any other trigger.
    static func connection(of name: String) -> String? {
        guard name.hasPrefix(StoredTrigger.callbackPrefix) else { return nil }
        let connection = String(name.dropFirst(StoredTrigger.callbackPrefix.count))
        return Words.isName(connection) ? connection : nil
    }

    /// Makes the source of a connection's callbacks, as the first callback would.
    static func source(_ spec: TriggerSpec, uid: String) -> [DefinitionChange] {
        [
            .putTrigger(
                name: spec.name, uid: uid, connection: spec.connection, type: StoredTrigger.callbackType, input: Array("{}".utf8),
                settings: Array("{}".utf8), topicKeys: [], resets: false),
            .setTriggerState(name: spec.name, from: .created, to: .running),
        ]
    }
}
