import SluiceConnectors
import SluiceCore
import SluiceStore

/// Where the callback service learns what it takes to ask how an operation stands.
public protocol CallbackCatalogue: Sendable {
    /// `type` nil: none. Throws `SluiceError` that names the fix: the connector is not loaded, the type is gone.
    func callbackMeans(connection: ConnectionID, type: String?) throws -> CallbackMeans
}

public struct CallbackMeans: Sendable {
    public var connector: any Connector
    public var connectionName: String
    /// Values of the connection's fields, secrets included: a JSON object.
    public var connection: JSONDocument
    /// Nil: the callback has none.
    public var type: CallbackTypeDefinition?
    public init(connector: any Connector, connectionName: String, connection: JSONDocument, type: CallbackTypeDefinition?) {
        self.connector = connector
        self.connectionName = connectionName
        self.connection = connection
        self.type = type
    }
}

/// The record of a callback's job.
public enum CallbackRecord {
    /// `{"callback","state","connection","type","input","result"}`, with `reason` where it expired. `input` and `result` stand in
    /// it byte for byte.
    public static func json(
        id: String, state: Callback, connection: String, type: String?, input: [UInt8], result: [UInt8]?
    ) -> [UInt8] {
        var writer = JSONWriter()
        writer.object { writer in
            writer.member("callback", id)
            writer.member("state", state.state.rawValue)
            writer.member("connection", connection)
            writer.member("type", type)
            writer.key("input")
            writer.raw(input)
            writer.key("result")
            if let result { writer.raw(result) } else { writer.null() }
            if let reason = state.reason { writer.member("reason", reason) }
        }
        return writer.bytes
    }
}

extension Alarm.Kind {
    /// The status of a connection's callbacks cannot be asked for, and that does not mend itself.
    public static let callbackStatus: Self = "callback_status"
}
