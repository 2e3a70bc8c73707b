import SluiceCore

extension OpenAPI {
    /// The server itself, and how it refuses.
    static let server = Area(
        "Server", "Whether it runs, and whether anything is being missed.",
        schemas: [
            (
                "Error",
                .object([
                    Member(
                        "error",
                        .object([
                            Member("code", .text, "For programs: `not_found`, `invalid`, … The set can grow."),
                            Member("message", .text, "For people: what is wrong and what mends it."),
                            Member("context", .map(of: .text), "Where it happened: trigger, page, HTTP status, file, line."),
                        ]))
                ])
            )
        ],
        operations: [
            Operation(
                "GET", "/openapi.json", "openAPI", "This document",
                answers: [Answer("OpenAPI 3.1.", .map(of: .any))]),
            Operation(
                "GET", "/v1/health", "health", "200 while the server runs",
                answers: [
                    Answer(
                        "It runs.", .object([Member("ok", .flag), Member("version", .text)]), example: #"{"ok":true,"version":"0.1.0"}"#)
                ]),
            Operation(
                "GET", "/v1/status", "status", "Counts, alarms, and what is being missed",
                answers: [
                    Answer(
                        "As `sluice status` shows it.",
                        .object([
                            Member("version", .text),
                            Member("serving", .flag, "Whether a server answers, with pollers."),
                            Member("time", .time),
                            Member("public_url", .text.orNull, "Where webhooks reach this server."),
                            Member("connectors", .count), Member("connections", .count), Member("destinations", .count),
                            Member(
                                "triggers", .object(TriggerState.allCases.map { Member($0.rawValue, .count) }), "How many in each state."),
                            Member("webhooks", .count, "The number of the last webhook."),
                            Member("last_webhook_at", .time.orNull),
                            Member("jobs", .count), Member("alarms", .count),
                            Member(
                                "being_missed", .list(of: .text),
                                "What the destinations do not hear of at the moment, one sentence each; empty if all is well."),
                        ]))
                ]),
            Operation(
                "GET", "/v1/alarms", "listAlarms", "What is wrong at the moment",
                "Alarms are kept in memory: a restart forgets them, and what still is wrong raises them again.",
                parameters: [.limit, .query("after", .whole(0...1_000_000), "The `next` of the page before.")],
                answers: [
                    Answer(
                        "The alarms that stand.",
                        .page(
                            "alarms",
                            of: .object([
                                Member("kind", .text, "`gap`, `dead_letters`, `verification_failing`, …"),
                                Member("subject", .text, "`trigger orders`, `connection main`, …"),
                                Member("message", .text), Member("since", .time),
                            ]), [Member("dropped", .count, "Alarms for which there was no room.")]))
                ]),
        ])
}
