import SluiceConnectors
import SluiceCore
import SluiceStore

extension OpenAPI {
    static let triggers = Area(
        "Triggers", "What is polled, from where, and why.",
        schemas: [("Trigger", .object(triggerSummary))],
        operations: [
            Operation(
                "GET", "/v1/triggers", "listTriggers", "Lists the triggers", parameters: [.limit, .after],
                answers: [Answer("By name.", .page("triggers", of: .named("Trigger")))]),
            Operation(
                "GET", "/v1/triggers/:name", "showTrigger", "Shows a trigger, and what it waits for", parameters: [triggerName],
                answers: [Answer("The trigger.", .object(triggerSummary + triggerDetails))], errors: [404]),
            Operation(
                "GET", "/v1/triggers/:name/cursor", "showCursor", "Shows where a trigger's polls have come to", parameters: [triggerName],
                answers: [
                    Answer(
                        "The cursor.",
                        .object([
                            Member("trigger", .text), Member("cursor", .any, "Null before the first poll."), Member("mark", .whole.orNull),
                            Member("dedup_floor", .whole.orNull),
                            Member("keys_kept", .text, "How far back records are known, as a sentence."),
                        ]))
                ], errors: [404]),
            Operation(
                "PUT", "/v1/triggers/:name/cursor", "setCursor", "Polls on from another cursor",
                "Where that may make jobs again it is refused with 409, unless `confirm` is true.", parameters: [triggerName],
                body: .json(
                    [
                        Member("cursor", .something, "JSON of at most 64 KiB; to begin anew reset it."),
                        Member("confirm", .flag, isOptional: true),
                    ], example: #"{"cursor":1767225600,"confirm":true}"#),
                answers: [Answer("The cursor that holds now.", cursorChange)], errors: [404, 409]),
            Operation(
                "DELETE", "/v1/triggers/:name/cursor", "resetCursor", "Polls as if for the first time",
                "Where that may make jobs again it is refused with 409, unless `confirm` is true.",
                parameters: [triggerName, .query("confirm", .flag, "Even if records that were jobs may become jobs again.")],
                answers: [Answer("It begins anew.", cursorChange)], errors: [404, 409]),
            Operation(
                "GET", "/v1/triggers/:name/quarantine", "listQuarantine", "Lists records that could not become jobs",
                parameters: [triggerName, .limit],
                answers: [
                    Answer(
                        "The latest records.",
                        .object([
                            Member(
                                "quarantine",
                                .list(
                                    of: .object([
                                        Member("reason", .text), Member("digest", .text, "SHA-256 of the record, in hexadecimal."),
                                        Member("record", .text),
                                    ]))), Member("total", .count, "How many there are."),
                        ]))
                ], errors: [404]),
            Operation(
                "POST", "/v1/triggers/:name/quarantine/retry", "retryQuarantine", "Makes jobs of records that were set aside",
                "By the connector as it is now. A record that is a job already makes none.", parameters: [triggerName],
                body: .json([
                    Member("digests", .list(of: .text), "Only these; the latest thousand unless said.", isOptional: true)
                ]),
                answers: [
                    Answer(
                        "What came of it.",
                        .object([
                            Member("trigger", .name), Member("jobs", .count), Member("removed", .count, "That are set aside no longer."),
                            Member("left", .list(of: .object([Member("digest", .text), Member("reason", .text)]))),
                        ]))
                ], errors: [404, 409]),
            Operation(
                "POST", "/v1/triggers/:name/quarantine/discard", "discardQuarantine", "Gives up records that were set aside",
                "Nothing is made of them, and the same bytes are not set aside again.", parameters: [triggerName],
                body: .json([
                    Member("digests", .list(of: .text), "These.", isOptional: true),
                    Member("all", .flag, "The latest thousand.", isOptional: true),
                ]),
                answers: [
                    Answer(
                        "How many.",
                        .object([Member("trigger", .name), Member("discarded", .count), Member("left", .count, "Set aside still.")]))
                ], errors: [404, 409]),
            Operation(
                "POST", "/v1/triggers/:name/:command", "commandTrigger", "Starts, pauses, resumes, polls or stops a trigger",
                parameters: [triggerName, .path("command", .words(TriggerCommand.self), "What it is to do.", example: "poll")],
                answers: [
                    Answer(
                        "The state it came to.",
                        .object([
                            Member("name", .text), Member("state", .words(TriggerState.self)),
                            Member("state_before", .words(TriggerState.self)),
                            Member("note", .text, "What else to know.", isOptional: true),
                        ]))
                ], errors: [404, 409]),
        ])

    private static let triggerName = Parameter.path("name", .text(max: 80), "The trigger.", example: "orders")

    private static let cursorChange = Schema.object([
        Member("trigger", .text), Member("cursor", .any), Member("cursor_before", .any), Member("keys_kept", .text),
    ])

    private static let triggerSummary = [
        Member("name", .text), Member("connection", .name.orNull), Member("type", .text),
        Member("kind", .words(TriggerKind.allCases.map(\.rawValue) + [StoredTrigger.callbackType]).orNull),
        Member("state", .words(TriggerState.self)), Member("reason", .text.orNull), Member("jobs", .count),
        Member("news_waiting", .flag, "Whether a webhook came that no poll has covered yet."), Member("last_success_at", .time.orNull),
        Member("last_error", .text.orNull), Member("polls_by_cause", .map(of: .count)),
    ]

    private static let triggerDetails =
        [
            Member("uid", .text), Member("generation", .whole), Member("input", .any), Member("settings", .any),
            Member("webhook_keys", .list(of: .text)),
            Member("subscription", .object(subscriptionOfTrigger).orNull, "Null where webhooks are static."),
            Member("destinations", .list(of: .name)), Member("cursor", .any), Member("signal_sequence", .whole),
            Member("covered_sequence", .whole),
            Member(
                "open_cycle",
                .object([
                    Member("number", .whole), Member("cause", .words(PollCause.self)), Member("started_at", .time),
                    Member("next_page", .whole), Member("jobs", .count), Member("connector", .text.orNull),
                ]).orNull),
            Member("cycles_completed", .count), Member("last_start_at", .time.orNull), Member("failures", .count),
            Member("quarantined", .count), Member("created_at", .time), Member("polling_now", .flag),
            Member("next_due_at", .time.orNull), Member("next_cause", .words(PollCause.self).orNull),
            Member("waits_for", .text.orNull, "What it waits for, and why; null if nothing holds it up."),
            Member("waits_until", .time.orNull),
            Member(
                "blocked_by", .list(of: .named("BlockedDelivery")), "Of an ordered trigger: what holds up the others.", isOptional: true),
        ]
}
