import SluiceCore
import SluiceStore

/// Consumers as the writer last stored them, so that a fetch reads nothing but its jobs. Forgotten whenever something was
/// rolled back. Touched by the writer's thread only.
final class ConsumerCache {
    struct Entry {
        var namespace: NamespaceID
        /// After which job of each trigger this consumer's begin.
        var triggers: [TriggerID: Int64]
        /// When it was attached or moved last: its jobs count their time from then.
        var movedAt: Timestamp
        var machine: ConsumerMachine
        /// It has no row yet.
        var isNew: Bool
    }

    var entries: [DestinationID: Entry] = [:]

    func forget() { entries = [:] }
}
