import SluiceConnectors
import SluiceCore
import SluicePolling
import SluiceStore

/// Whether a connection works, and what is known of its credentials. Tokens never leave.
extension API {
    /// `POST /v1/connections/:name/test`: 200 with the outcome, also where the connection does not work.
    func testConnection(_ call: APICall) async throws -> APIResponse {
        let connection = try API.connection(call.parameter("name"), try await definitions())
        let result = try await parts.control.testConnection(connection.id)
        return APIResponse.object { writer in
            writer.member("connection", connection.name)
            writer.member("ok", result.outcome == .ok)
            writer.member("outcome", result.outcome.rawValue)
            writer.member("message", result.message)
            writer.member("status", result.status.map { Int64($0) })
            writer.member("milliseconds", result.milliseconds)
        }
    }

    /// How requests show who asks and how long that holds.
    func authorization(_ writer: inout JSONWriter, _ definition: ConnectorDefinition?, _ status: ConnectionStatus?) {
        writer.member("authorization", definition?.access.authorization?.name)
        guard let status else { return }
        writer.member("token_expires_at", status.tokenExpiresAt)
        writer.member("token_refreshed_at", status.tokenRefreshedAt)
        writer.member("token_error", status.tokenError)
        writer.member("token_retry_at", status.tokenRetryAt)
        writer.member("waits_for", status.waitsFor)
        writer.member("waits_until", status.waitsUntil)
    }
}
