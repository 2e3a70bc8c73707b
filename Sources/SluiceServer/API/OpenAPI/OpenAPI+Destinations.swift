import SluiceStore

extension OpenAPI {
    static let destinations = Area(
        "Destinations", "Where jobs go, and how it goes there.",
        schemas: [("Destination", .object(destinationMembers)), ("BlockedDelivery", blockedDelivery)],
        operations: [
            Operation(
                "GET", "/v1/destinations", "listDestinations", "Lists the destinations", parameters: [.limit, .after],
                answers: [Answer("By name.", .page("destinations", of: .named("Destination")))]),
            Operation(
                "GET", "/v1/destinations/:name", "showDestination", "Shows a destination and its condition",
                parameters: [destinationName],
                answers: [
                    Answer(
                        "The destination. Of its headers only the names are shown.",
                        .object(destinationMembers + destinationDetails + carriedDetails))
                ], errors: [404]),
            Operation(
                "POST", "/v1/destinations/:name/pause", "pauseDestination", "Delivers nothing there for now; what comes is kept",
                parameters: [destinationName], answers: [Answer("It rests.", stateChange)], errors: [404, 409]),
            Operation(
                "POST", "/v1/destinations/:name/resume", "resumeDestination", "Delivers there again, at once",
                "Also ends what a circuit breaker or a 410 began.", parameters: [destinationName],
                answers: [Answer("It is active.", stateChange)], errors: [404, 409]),
            Operation(
                "POST", "/v1/destinations/:name/rotate-secret", "rotateSecret",
                "Makes a new secret; the former ones sign beside it for a while",
                parameters: [destinationName],
                body: .json(
                    [
                        Member("overlap", .text(max: 16), "How long, with its unit: `24h` unless said, at most `30d`.", isOptional: true),
                        Member("signature", .words(["v1", "v1a"]), "HMAC-SHA256 or ed25519; as before unless said.", isOptional: true),
                    ], example: #"{"overlap":"24h"}"#),
                answers: [
                    Answer(
                        201, "The new secret, shown this once; of an asymmetric one its public half as well.",
                        .object([
                            Member("name", .name), Member("secret", .text),
                            Member("public_key", .text.orNull, isOptional: true), Member("signature", .words(["v1", "v1a"])),
                            Member("former_expire_at", .time.orNull),
                        ]))
                ], errors: [404, 409]),
        ])

    private static let destinationName = Parameter.path("name", .name, "The destination.", example: "shop")

    private static let states = Schema.words(["active", "paused", "gone"])

    private static let stateChange = Schema.object([Member("name", .name), Member("state", states), Member("state_before", states)])

    private static let destinationMembers = [
        Member("name", .name), Member("kind", .text, "`push`, `pull`, `command`, `file`, `nats`."), Member("state", states),
        Member("reason", .text.orNull), Member("since", .time.orNull), Member("url", .text.orNull, "Without what may be secret in it."),
        Member("allow_private", .flag, "Whether it may lie in a private network."), Member("triggers", .list(of: .text)),
        Member(
            "attachments",
            .list(
                of: .object([
                    Member("trigger", .text.orNull), Member("filter", .text.orNull), Member("fields", .list(of: .text)),
                    Member("catching_up_at", .whole.orNull, "Attached from an earlier position, and not there yet."),
                ]))),
    ]

    private static let destinationDetails = [
        Member("allow_networks", .list(of: .text)), Member("retries", .list(of: .text), "The waits between attempts.", isOptional: true),
        Member("rate", .text.orNull, isOptional: true), Member("concurrency", .count, isOptional: true),
        Member("timeout", .text.orNull, isOptional: true),
        Member(
            "secrets",
            .list(
                of: .object([
                    Member("signature", .words(["v1", "v1a"])), Member("public_key", .text.orNull), Member("expires_at", .time.orNull),
                ])), isOptional: true), Member("headers", .list(of: .text), isOptional: true), Member("pending", .count),
        Member("dead_letters", .count),
        Member("counted_up_to", .count.orNull, "`pending` and `dead_letters` are counted so far and no further; null: all are counted."),
        Member("filtered", .count, "How many jobs its filters left out, ever."),
        Member("next_attempt_at", .time.orNull, "Not before `rests_until`; null while it is paused or gone."),
        Member("breaker", .words(["closed", "open", "half_open"]), isOptional: true), Member("failures_in_row", .count, isOptional: true),
        Member("rests_until", .time.orNull, isOptional: true), Member("in_flight", .count, isOptional: true),
        Member("last_delivered_at", .time.orNull, isOptional: true), Member("last_failure_at", .time.orNull, isOptional: true),
        Member("last_error", .text.orNull, isOptional: true),
        Member("blocked_by", .list(of: .named("BlockedDelivery")), "Of ordered triggers: what holds up the others.", isOptional: true),
    ]

    /// Of the kinds `command`, `file` and `nats`.
    private static let carriedDetails = [
        Member("run", .list(of: .text), "The program and its arguments.", isOptional: true),
        Member("per", .words(["job", "batch"]), isOptional: true),
        Member("refuse_codes", .list(of: .text), "Exit codes that refuse a job.", isOptional: true),
        Member("env", .list(of: .text), "Names of variables; their values are not shown.", isOptional: true),
        Member("path", .text.orNull, isOptional: true), Member("rotate_size", .text.orNull, isOptional: true),
        Member("rotate_every", .text.orNull, isOptional: true), Member("keep", .whole.orNull, isOptional: true),
        Member("subject", .text.orNull, isOptional: true), Member("stream", .text.orNull, isOptional: true),
        Member("user", .text.orNull, isOptional: true),
        Member("login", .text.orNull, "Which secret it logs in with; the secret is not shown.", isOptional: true),
        Member("batch_max", .count, "Jobs of one call.", isOptional: true),
    ]

    private static let blockedDelivery = Schema.object([
        Member("trigger", .text.orNull), Member("destination", .name.orNull), Member("delivery", .whole), Member("job", .text.orNull),
        Member("position", .whole), Member("state", .text), Member("since", .time.orNull), Member("attempts", .count),
        Member("last_status", .whole.orNull), Member("last_error", .text.orNull), Member("next_attempt_at", .time.orNull),
        Member("waiting", .count),
    ])
}
