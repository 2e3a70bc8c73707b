import SluiceConnectors
import SluiceCore
import SluicePolling
import SluiceStore

/// Connectors, connections and destinations. Secrets never leave: of a destination's headers only the names are shown.
extension API {
    func listConnectors(_ call: APICall) async throws -> APIResponse {
        let all = parts.connectors.values.map(\.definition).sorted { $0.name < $1.name }
        let slice = try ListSlice(all, after: call.query("after"), limit: call.limit()) { $0.name }
        let problems = parts.shelf.problems
        return APIResponse.object { writer in
            writer.list("connectors", slice.elements) { writer, definition in
                writer.member("name", definition.name)
                writer.member("title", definition.title)
                writer.member("version", definition.version)
                writer.member("language", definition.language)
                writer.member("hash", definition.hash)
                writer.member("problem", problems[definition.name]?.error.message)
                writer.member("webhook_scheme", definition.webhook?.scheme)
                writer.key("handshakes")
                writer.array { writer in for name in API.handshakes(definition) { writer.value(name) } }
                writer.member(
                    "experimental", definition.isExperimental || WebhookSchemes.isExperimental(definition.webhook?.scheme ?? ""))
                writer.list("connection_fields", definition.connectionFields, API.field)
                writer.list("triggers", definition.triggers) { writer, type in
                    writer.member("name", type.name)
                    writer.member("title", type.title)
                    writer.member("kind", type.kind.rawValue)
                    writer.list("input_fields", type.inputFields, API.field)
                    writer.list("output_fields", type.outputFields, API.field)
                    writer.member("sample_output", json: type.sampleOutput)
                }
            }
            // Those of which nothing runs are listed nowhere else.
            API.append(problems, to: &writer)
            writer.member("next", slice.next)
        }
    }

    /// Looks at the connectors' files now, instead of within two seconds.
    func reloadConnectors(_ call: APICall) async throws -> APIResponse {
        guard let reloader = parts.reloader else {
            throw SluiceError(.conflict, "no connectors directory is watched: start the server with `--connectors DIRECTORY`")
        }
        let report = try await reloader.reload()
        return APIResponse.object { writer in
            for (name, list) in [("loaded", report.loaded), ("gone", report.gone)] {
                writer.key(name)
                writer.array { writer in for name in list { writer.value(name) } }
            }
            API.append(parts.shelf.problems, to: &writer)
        }
    }

    private static func append(_ problems: [String: ConnectorShelf.Problem], to writer: inout JSONWriter) {
        writer.list("broken", problems.sorted { $0.key < $1.key }) { writer, problem in
            writer.member("name", problem.key)
            writer.member("file", problem.value.file)
            writer.member("problem", problem.value.error.message)
            writer.member("since", problem.value.since)
        }
    }

    /// Names of what its URLs answer besides webhooks.
    private static func handshakes(_ definition: ConnectorDefinition) -> [String] {
        guard let webhook = definition.webhook else { return [] }
        return Set(Handshake.of(declared: webhook.handshakes, scheme: webhook.scheme).map(\.name)).sorted()
    }

    private static func field(_ writer: inout JSONWriter, _ field: Field) {
        writer.member("name", field.name)
        writer.member("label", field.label)
        writer.member("type", field.type.rawValue)
        writer.member("optional", field.isOptional)
        writer.member("secret", field.isSecret)
        writer.member("hint", field.hint)
        writer.member("default", json: field.isSecret ? nil : field.defaultJSON.map { Array($0.utf8) })
    }

    func listConnections(_ call: APICall) async throws -> APIResponse {
        let definitions = try await definitions()
        let slice = try ListSlice(definitions.connections, after: call.query("after"), limit: call.limit()) { $0.name }
        let now = parts.clock.now()
        var statuses: [ConnectionID: ConnectionStatus] = [:]
        for connection in slice.elements { statuses[connection.id] = await parts.control.connectionStatus(connection.id) }
        return APIResponse.object { writer in
            let triggers = Dictionary(grouping: definitions.triggers, by: \.connection)
            writer.list("connections", slice.elements) {
                self.connection(&$0, $1, definitions, triggers[$1.id] ?? [], statuses[$1.id], now)
            }
            writer.member("next", slice.next)
        }
    }

    func showConnection(_ call: APICall) async throws -> APIResponse {
        let definitions = try await definitions()
        let connection = try API.connection(call.parameter("name"), definitions)
        let now = parts.clock.now()
        let url = endpoints(connection, definitions, now).first?.url ?? "https://YOUR-SERVER" + WebhookPath.path("TOKEN")
        let status = await parts.control.connectionStatus(connection.id)
        return APIResponse.object { writer in
            let triggers = definitions.triggers.filter { $0.connection == connection.id }
            self.connection(&writer, connection, definitions, triggers, status, now)
            writer.member("help", parts.connectors[connection.connector]?.help(webhookBaseURL: url))
        }
    }

    static func connection(_ name: String, _ definitions: Definitions) throws(SluiceError) -> StoredConnection {
        guard let connection = definitions.connections.first(where: { $0.name == name }) else {
            throw SluiceError(
                .notFound, "there is no connection `\(name)`: \(Words.hint(name, among: definitions.connections.map(\.name)))")
        }
        return connection
    }

    private func connection(
        _ writer: inout JSONWriter, _ stored: StoredConnection, _ definitions: Definitions, _ triggers: [StoredTrigger],
        _ status: ConnectionStatus?, _ now: Timestamp
    ) {
        let settings = ConnectionSettings(json: stored.settings)
        let definition = parts.connectors[stored.connector]?.definition
        writer.member("name", stored.name)
        writer.member("connector", stored.connector)
        writer.member("loaded", definition != nil)
        writer.member("fields", json: stored.fields)
        writer.key("secret_fields")
        writer.array { writer in for field in definition?.connectionFields ?? [] where field.isSecret { writer.value(field.name) } }
        let scheme = definition?.webhook == nil && settings.scheme == nil ? nil : settings.scheme ?? definition?.webhook?.scheme
        writer.member("webhook_scheme", scheme)
        writer.member("webhooks_verified", scheme.map { SignatureScheme.named($0)?.isSafe ?? false } ?? false)
        let addresses = endpoints(stored, definitions, now)
        writer.member("webhook_url", addresses.first?.url)
        writer.list("webhook_urls", addresses) { writer, endpoint in
            writer.member("url", endpoint.url)
            writer.member("expires_at", endpoint.expiresAt)
        }
        writer.member("settings", json: stored.settings)
        authorization(&writer, definition, status)
        writer.member("problem", stored.problem ?? (definition == nil ? "its connector is not loaded" : nil))
        writer.key("triggers")
        writer.array { writer in for trigger in triggers { writer.value(trigger.name) } }
        writer.member("created_at", stored.createdAt)
    }

    /// The addresses that work now, the newest first.
    private func endpoints(_ stored: StoredConnection, _ definitions: Definitions, _ now: Timestamp) -> [(
        url: String, expiresAt: Timestamp?
    )] {
        definitions.endpoints.filter { $0.connection == stored.id && ($0.expiresAt.map { $0 > now } ?? true) }
            .sorted { ($0.expiresAt ?? .distantFuture, $0.createdAt) > ($1.expiresAt ?? .distantFuture, $1.createdAt) }
            .map { ((parts.address.url ?? "") + WebhookPath.path($0.token), $0.expiresAt) }
    }

    func rotateEndpoint(_ call: APICall) async throws -> APIResponse {
        let hours = try call.object()["overlap_hours"]
        let overlap = hours.map { $0.isNull ? 24 : $0.int64 ?? -1 } ?? 24
        guard (0...8760).contains(overlap) else {
            throw SluiceError(.invalid, "`overlap_hours` is a whole number from 0 to 8760")
        }
        let name = call.parameter("name")
        _ = try API.connection(name, try await definitions())
        let now = parts.clock.now()
        let token = Randomness.endpointToken()
        let expiry = now + .hours(overlap)
        try await changes.run {
            try await self.parts.store.apply(
                [.addEndpoint(connection: name, token: token, othersExpireAt: expiry)], namespace: .default, at: now)
            try await self.parts.control.definitionsChanged()
        }
        return APIResponse.object(status: 201) { writer in
            writer.member("connection", name)
            writer.member("url", (parts.address.url ?? "") + WebhookPath.path(token))
            writer.member("others_expire_at", expiry)
        }
    }
}
