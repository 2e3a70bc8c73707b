import SluiceCore

extension OpenAPI {
    static let callbacks = Area(
        "Callbacks", "Operations that are pending at a provider: a one-time URL to hand out, and the result, whichever way it comes.",
        schemas: [("Callback", .object(callbackSummary)), ("CallbackDetail", .object(callbackSummary + callbackDetails))],
        operations: [
            Operation(
                "POST", "/v1/callbacks", "createCallback", "Makes a callback: a URL to give to the provider",
                "With the `idempotency_key` of one that is there, that one is answered, with status 200.",
                body: .json(
                    [
                        Member("connection", .text, "The connection that knows the provider."),
                        Member("type", .text, "Which of the connector's callbacks; the only one unless said.", isOptional: true),
                        Member("input", .map(of: .any), "What its status poll needs: the payment's number.", isOptional: true),
                        Member(
                            "expires_in", .either([.number, .text]),
                            "Seconds, or `30m`, `12h`, `7d`: from 1 s to 90 days, a day unless said.",
                            isOptional: true),
                        Member("destination", .text, "Where the result is delivered as well.", isOptional: true),
                        Member(
                            "push",
                            .object([Member("url", .text), Member("secret", .text), Member("allow_private", .flag, isOptional: true)]),
                            "In place of a destination: the caller's own URL, and what each delivery is signed with.", isOptional: true),
                        Member("pauses", .list(of: .number), "Seconds between status polls.", isOptional: true),
                        Member("idempotency_key", .text(max: 255), isOptional: true),
                    ], example: #"{"connection":"psp","input":{"payment":"pay_1"},"expires_in":"1h"}"#),
                answers: [
                    Answer(201, "Made.", .named("CallbackDetail")), Answer(200, "It was there.", .named("CallbackDetail")),
                ], errors: [404, 409, 422, 429]),
            Operation(
                "GET", "/v1/callbacks", "listCallbacks", "Lists callbacks, the newest first",
                parameters: [
                    .limit, .afterNumber, .query("connection", .text, "Only of this one."),
                    .query("state", .words(CallbackState.self), "Only in this state."),
                ],
                answers: [Answer("Callbacks.", .page("callbacks", of: .named("Callback")))], errors: [404]),
            Operation(
                "GET", "/v1/callbacks/:id", "showCallback", "Shows a callback, or waits for its end",
                parameters: [
                    callbackID, .query("wait", .whole(0...60), "While it is pending, wait up to so many seconds.", example: "30"),
                ],
                answers: [Answer("The callback.", .named("CallbackDetail"))], errors: [404, 409, 429]),
            Operation(
                "POST", "/v1/callbacks/:id/cancel", "cancelCallback", "Gives a callback up", "What comes later changes nothing.",
                parameters: [callbackID], body: .json([Member("reason", .text(max: 1000), isOptional: true)]),
                answers: [Answer("As it ended.", .named("CallbackDetail"))], errors: [404, 409]),
        ])

    private static let callbackID = Parameter.path("id", .text, "Its id.", example: "cb_1")

    private static let callbackSummary = [
        Member("id", .text), Member("number", .whole), Member("state", .words(CallbackState.self)), Member("connection", .name.orNull),
        Member("type", .text.orNull), Member("settled_by", .words(["status", "webhook"])),
        Member("unsafe", .flag, "Whether anybody who knows the URL can settle it."), Member("idempotency_key", .text.orNull),
        Member("destination", .name.orNull), Member("job", .text.orNull), Member("position", .whole.orNull), Member("created_at", .time),
        Member("expires_at", .time), Member("next_poll_at", .time.orNull), Member("polls", .count), Member("calls", .count),
        Member("failures", .count), Member("last_error", .text.orNull), Member("ended_at", .time.orNull), Member("ended_by", .text.orNull),
        Member("reason", .text.orNull),
    ]

    private static let callbackDetails = [
        Member("url", .text.orNull, "To give to the provider."), Member("note", .text, isOptional: true), Member("input", .any),
        Member("result", .any, "As the provider has it; null while it is pending."),
    ]
}
