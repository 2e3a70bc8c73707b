import SluiceCore

extension OpenAPI {
    static let inbox = Area(
        "Inbox", "Webhooks as they came. Headers that carry credentials are masked.",
        schemas: [("Webhook", .object(webhookSummary))],
        operations: [
            Operation(
                "GET", "/v1/inbox", "listInbox", "Lists webhooks, the newest first",
                parameters: [
                    .limit, .afterNumber, .query("before", .whole(1...Int64.max), "The same as `after`: webhooks with smaller numbers."),
                    .query("unmatched", .flag, "Only those that no trigger listens to, or that could not be read."),
                    .query("connection", .text, "Only those of this connection."),
                ],
                answers: [Answer("Webhooks.", .page("webhooks", of: .named("Webhook")))], errors: [404]),
            Operation(
                "GET", "/v1/inbox/:sequence", "showInbox", "Shows a webhook", parameters: [sequence],
                answers: [
                    Answer(
                        "The webhook.",
                        .object(
                            webhookSummary + [
                                Member("method", .text), Member("path", .text), Member("query", .text.orNull),
                                Member("headers", .list(of: .object([Member("name", .text), Member("value", .text)]))),
                                Member("body", .text, "Where it is UTF-8.", isOptional: true),
                                Member("body_hex", .text, "Where it is not.", isOptional: true), Member("keys", .list(of: .text)),
                            ]))
                ], errors: [404]),
            Operation(
                "POST", "/v1/inbox/:sequence/redeliver", "redeliverInbox", "Sends a webhook through again, as if it had just come",
                parameters: [sequence],
                answers: [
                    Answer(
                        "It is kept under a new number.",
                        .object([
                            Member("sequence", .whole, "The new number."), Member("redelivered", .whole, "The former."),
                            Member("unmatched_reason", .text.orNull),
                        ]))
                ], errors: [404, 409]),
        ])

    private static let sequence = Parameter.path("sequence", .whole(1...Int64.max), "Its number.", example: "1")

    private static let webhookSummary = [
        Member("sequence", .whole), Member("connection", .name.orNull), Member("received_at", .time), Member("delivery_id", .text.orNull),
        Member("body_bytes", .count), Member("unmatched_reason", .text.orNull),
    ]
}
