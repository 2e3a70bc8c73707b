import SluiceConnectors
import SluiceCore

extension LuaConnector {
    private static let textBytesMax = 1000

    /// `test(connection)` → true, or a text that says what is wrong. Nil: `connection.test` is data, or not there.
    public func testConnection(_ connection: JSONDocument, http: any HTTPSending) async throws -> ConnectionTestAnswer? {
        guard let function = lua.test else { return nil }
        let answer = try await call(function, [connection], connection: connection, http)?.root
        if answer?.bool == true { return .works }
        if let text = answer?.string, !text.isEmpty { return .failed(String(decoding: text.utf8.prefix(Self.textBytesMax), as: UTF8.self)) }
        throw named(function, "must return true, or a text that says what is wrong with the connection")
    }
}
