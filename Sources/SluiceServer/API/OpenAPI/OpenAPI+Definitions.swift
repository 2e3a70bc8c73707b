import SluiceConnectors
import SluiceCore
import SluicePolling

extension OpenAPI {
    /// What a Sluice consists of: connectors, connections, destinations, and how they are changed.
    static let definitions = Area(
        "Definitions", "Connectors, connections and destinations, and `apply`, which changes them.",
        schemas: [
            ("Field", field), ("TriggerType", triggerType), ("BrokenConnector", brokenConnector), ("Connector", connector),
            ("Connection", .object(connectionMembers)), ("Plan", plan),
        ],
        operations: [
            Operation(
                "POST", "/v1/apply", "apply", "Makes the definitions as the manifest has them",
                """
                One transaction, and its plan as the answer. What is absent from the manifest stays, unless `prune` says otherwise. The \
                manifest is `sluice.yaml`: as the body itself, or as text in a JSON object with the values of its references.
                """,
                parameters: [
                    .query("dry_run", .flag, "Only plan."),
                    .query("prune", .flag, "Stop what is absent from the manifest, and keep its data."),
                    .query("reset", .name, "A trigger that may begin anew: another type or connection needs it.", isRepeated: true),
                ],
                body: Body(
                    schema: .object([
                        Member("manifest", .text, "The text of `sluice.yaml`."),
                        Member(
                            "references", .map(of: .text),
                            "What `${env:NAME}` and `${file:PATH}` in the manifest stand for, as `env:NAME`.",
                            isOptional: true),
                        Member("file", .text, "What errors call the manifest.", isOptional: true),
                        Member("dry_run", .flag, isOptional: true), Member("prune", .flag, isOptional: true),
                        Member("reset", .list(of: .name), isOptional: true),
                    ]),
                    example: #"{"manifest":"destinations:\n  shop: {kind: pull}\n","dry_run":true}"#, isOptional: false,
                    others: [("application/yaml", .any)]),
                answers: [Answer("What was done, or with `dry_run` would be.", .named("Plan"))], errors: [409, 422]),
            Operation(
                "GET", "/v1/connectors", "listConnectors", "Lists the connectors", parameters: [.limit, .after],
                answers: [
                    Answer(
                        "By name.",
                        .page(
                            "connectors", of: .named("Connector"),
                            [Member("broken", .list(of: .named("BrokenConnector")), "Files that do not load.")]))
                ]),
            Operation(
                "POST", "/v1/connectors/reload", "reloadConnectors", "Looks at the connectors' files now",
                "The server does so every two seconds by itself.",
                answers: [
                    Answer(
                        "What changed.",
                        .object([
                            Member("loaded", .list(of: .text)), Member("gone", .list(of: .text)),
                            Member("broken", .list(of: .named("BrokenConnector"))),
                        ]))
                ], errors: [409]),
            Operation(
                "GET", "/v1/connections", "listConnections", "Lists the connections", parameters: [.limit, .after],
                answers: [Answer("By name.", .page("connections", of: .named("Connection")))]),
            Operation(
                "GET", "/v1/connections/:name", "showConnection", "Shows a connection", parameters: [connectionName],
                answers: [
                    Answer(
                        "The connection. Secrets are never shown.",
                        .object(connectionMembers + [Member("help", .text.orNull, "What to enter at the provider.")]))
                ], errors: [404]),
            Operation(
                "POST", "/v1/connections/:name/rotate-endpoint", "rotateEndpoint", "Makes a new webhook URL for a connection",
                parameters: [connectionName],
                body: .json([
                    Member("overlap_hours", .whole(0...8760), "For how long former URLs still work; 24 unless said.", isOptional: true)
                ]),
                answers: [
                    Answer(
                        201, "The new URL works already.",
                        .object([Member("connection", .name), Member("url", .text), Member("others_expire_at", .time)]))
                ], errors: [404, 409]),
            Operation(
                "POST", "/v1/connections/:name/test", "testConnection", "Tries a connection",
                "Answers 200 with the outcome, also where the connection does not work.", parameters: [connectionName],
                answers: [
                    Answer(
                        "What came of it.",
                        .object([
                            Member("connection", .name), Member("ok", .flag),
                            Member("outcome", .words(ConnectionTestResult.Outcome.self)),
                            Member("message", .text, "What is wrong and what mends it."),
                            Member("status", .whole.orNull, "What the provider answered."), Member("milliseconds", .count),
                        ]))
                ], errors: [404, 409, 422, 502]),
        ])

    private static let connectionName = Parameter.path("name", .name, "The connection.", example: "main")

    private static let field = Schema.object([
        Member("name", .text), Member("label", .text), Member("type", .words(Field.FieldType.self)), Member("optional", .flag),
        Member("secret", .flag, "Sealed at rest and never shown."), Member("hint", .text.orNull),
        Member("default", .any, "What holds if none is given."),
    ])

    private static let triggerType = Schema.object([
        Member("name", .text), Member("title", .text), Member("kind", .words(TriggerKind.self)),
        Member("input_fields", .list(of: .named("Field"))), Member("output_fields", .list(of: .named("Field"))),
        Member("sample_output", .any),
    ])

    private static let brokenConnector = Schema.object([
        Member("name", .text), Member("file", .text), Member("problem", .text), Member("since", .time),
    ])

    private static let connector = Schema.object([
        Member("name", .text), Member("title", .text), Member("version", .text), Member("language", .text, "`lua` or `swift`."),
        Member("hash", .text), Member("problem", .text.orNull, "Why its file as it is now does not load."),
        Member("webhook_scheme", .text.orNull), Member("handshakes", .list(of: .text)), Member("experimental", .flag),
        Member("connection_fields", .list(of: .named("Field"))), Member("triggers", .list(of: .named("TriggerType"))),
    ])

    private static let connectionMembers = [
        Member("name", .name), Member("connector", .text), Member("loaded", .flag, "Whether its connector is."), Member("fields", .any),
        Member("secret_fields", .list(of: .text)), Member("webhook_scheme", .text.orNull), Member("webhooks_verified", .flag),
        Member("webhook_url", .text.orNull, "The URL to give to the provider."),
        Member("webhook_urls", .list(of: .object([Member("url", .text), Member("expires_at", .time.orNull)]))),
        Member("settings", .any), Member("authorization", .text.orNull, "How requests show who asks."),
        Member("token_expires_at", .time.orNull, isOptional: true), Member("token_refreshed_at", .time.orNull, isOptional: true),
        Member("token_error", .text.orNull, isOptional: true), Member("token_retry_at", .time.orNull, isOptional: true),
        Member("waits_for", .text.orNull, isOptional: true), Member("waits_until", .time.orNull, isOptional: true),
        Member("problem", .text.orNull), Member("triggers", .list(of: .text)), Member("created_at", .time),
    ]

    private static let plan = Schema.object([
        Member("applied", .flag), Member("changes", .flag, "Whether anything differs."),
        Member(
            "plan",
            .list(
                of: .object([
                    Member("action", .words(["create", "change", "keep", "reset", "stop"])), Member("kind", .text), Member("name", .text),
                    Member("notes", .list(of: .text)),
                ]))), Member("warnings", .list(of: .text)),
    ])
}
