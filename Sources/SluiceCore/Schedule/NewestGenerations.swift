/// The newest generation of each trigger that was heard of.
///
/// Definitions are read at one time and told at another, by several parts at once. What was read before a change must not undo what
/// was told after it: a trigger that was resumed meanwhile would rest for good.
public struct NewestGenerations: Sendable {
    private var generations: [TriggerID: Generation] = [:]
    public init() {}

    public subscript(trigger: TriggerID) -> Generation? { generations[trigger] }

    /// Whether this is no older than what was heard before; it is the newest then. The same again is taken: what is around the
    /// trigger may have changed, as its connector.
    public mutating func takes(_ trigger: TriggerID, _ generation: Generation) -> Bool {
        if let newest = generations[trigger], generation < newest { return false }
        generations[trigger] = generation
        return true
    }

    /// The trigger was removed. Its number is not used again.
    public mutating func forget(_ trigger: TriggerID) { generations[trigger] = nil }
}
