import SluiceConnectors
import SluiceCore

extension LuaConnector {
    /// The data of a trigger type's `incremental = { … }` as JSON; nil where the trigger type has a `poll`.
    ///
    /// The one place where the Lua form hands over to the value type that runs such polls.
    public func incrementalJSON(triggerType: String) throws -> JSONDocument? {
        try trigger(triggerType).incremental.map { try JSONDocument($0, depthMax: 80) }
    }

    func incrementalIsMissing(_ trigger: LuaDefinition.Trigger) -> SluiceError {
        SluiceError(
            .connector,
            "\(path): triggers.\(trigger.type.name) is described by incremental, which this build cannot run; write poll and dedup")
    }
}
