import SluiceCore

extension OpenAPI {
    static let subscriptions = Area(
        "Subscriptions", "What providers were asked to send webhooks for. Secrets, and what providers gave, are never shown.",
        schemas: [
            (
                "Subscription",
                .object(
                    [
                        Member("number", .whole), Member("trigger", .text.orNull), Member("connection", .name.orNull),
                        Member("type", .text),
                    ] + subscriptionState + [Member("created_at", .time)])
            )
        ],
        operations: [
            Operation(
                "GET", "/v1/subscriptions", "listSubscriptions", "Lists the subscriptions",
                parameters: [
                    .limit, .query("after", .whole(0...Int64.max), "The `next` of the page before."),
                    .query("state", .words(Subscription.Phase.self), "Only those in this state."),
                    .query("trigger", .text, "Only those of this trigger."),
                ],
                answers: [Answer("By number.", .page("subscriptions", of: .named("Subscription")))]),
            Operation(
                "POST", "/v1/subscriptions/check", "checkSubscriptions", "Compares subscriptions with their providers at once",
                body: .json([Member("trigger", .text, "Only this one's.", isOptional: true)]),
                answers: [Answer(202, "They are being checked.", .object([Member("checking", .list(of: .text))]))], errors: [404, 409]),
            Operation(
                "POST", "/v1/subscriptions/:number/remove-left-behind", "removeLeftBehind", "Removes what was left behind at a provider",
                parameters: [.path("number", .whole, "Its number.", example: "1")],
                answers: [
                    Answer(
                        202, "It will be.",
                        .object([
                            Member("number", .whole), Member("asks_provider", .flag, "False: it is only forgotten here."),
                            Member("note", .text),
                        ]))
                ], errors: [404, 409]),
        ])

    static let subscriptionState = [
        Member("state", .words(Subscription.Phase.self)), Member("since", .time), Member("url", .text), Member("expires_at", .time.orNull),
        Member("refresh_at", .time.orNull), Member("checked_at", .time.orNull), Member("last_check", .text.orNull),
        Member("attempts", .count), Member("next_attempt_at", .time.orNull), Member("last_error", .text.orNull),
        Member("uncertain", .flag, "Asked for, and not known to be there."), Member("to_be_replaced", .flag),
        Member("may_be_doubled", .flag), Member("provider_id", .text.orNull),
    ]

    /// As `trigger show` has it: without any there is only a state, `none`.
    static let subscriptionOfTrigger =
        [Member("number", .whole.orNull), Member("state", .words(Subscription.Phase.allCases.map(\.rawValue) + ["none"]))]
        + subscriptionState.dropFirst().map { Member($0.name, $0.schema, $0.note, isOptional: true) } + [
            Member("problem", .text.orNull), Member("others", .count, "Others that are on their way out."),
        ]
}
