import SluiceCore

extension OpenAPI {
    static let deadLetters = Area(
        "Dead letters", "Deliveries that were given up: to be looked at, delivered again, or put aside.",
        schemas: [("DeadLetter", deadLetter)],
        operations: [
            Operation(
                "GET", "/v1/dead-letters", "listDeadLetters", "Lists dead letters, the ones that died last first",
                parameters: listed,
                answers: [Answer("Dead letters.", .page("dead_letters", of: .named("DeadLetter")))], errors: [404]),
            Operation(
                "GET", "/v1/dead-letters/:id", "showDeadLetter", "Shows a dead letter with each attempt, and its job",
                parameters: [deliveryNumber], answers: [Answer("The dead letter.", .named("DeliveryDetail"))], errors: [404, 409]),
            Operation(
                "POST", "/v1/dead-letters/replay", "replayDeadLetters", "Delivers dead letters again: new attempts of the same jobs",
                "Say which: `deliveries`, or any of the others, which must all fit, or `all`. While `next` is not null, ask again with it as "
                    + "`after` and with that `until`.", body: .json(order, example: #"{"destination":"shop","since":"2h"}"#),
                answers: [Answer("How many.", done("replayed"))], errors: [404, 409]),
            Operation(
                "POST", "/v1/dead-letters/discard", "discardDeadLetters", "Says of dead letters that nobody is to deliver them",
                "Chosen as for a replay. They stay visible for as long as jobs are kept.",
                body: .json(
                    order + [
                        Member("because", .text(max: 500), "Why: it is kept with them."),
                        Member("by", .text(max: 100), "Who, where the token's name is not enough.", isOptional: true),
                    ], example: #"{"deliveries":[1],"because":"a test order"}"#),
                answers: [Answer("How many.", done("discarded"))], errors: [404, 409]),
        ])

    private static let reasons = DeliveryMachine.DeadReason.known.map(\.rawValue)

    private static let chosen = [
        Member("destination", .text, "Only of this destination.", isOptional: true),
        Member("trigger", .text, "Only of this trigger.", isOptional: true),
        Member("reason", .words(reasons), "Only those given up for this.", isOptional: true),
        Member("since", .text, "Only what died then or later: RFC 3339, or how long ago, such as `2h`.", isOptional: true),
        Member("until", .text, "Only what died before then.", isOptional: true),
    ]

    private static let listed: [Parameter] =
        [Parameter.limit, Parameter.after] + chosen.map { Parameter.query($0.name, $0.schema, $0.note ?? "") }
        + [Parameter.query("discarded", .flag, "Those that were discarded, instead.")]

    private static let order: [Member] =
        [Member("deliveries", .list(of: .whole(1...Int64.max)), "These: 1 to 1,000 numbers.", isOptional: true)] + chosen + [
            Member("all", .flag, "All there are.", isOptional: true),
            Member("limit", .whole(1...100_000), "How many to look at: 10,000 unless said.", isOptional: true),
            Member("after", .opaque, "The `next` of an answer before.", isOptional: true),
        ]

    private static func done(_ word: String) -> Schema {
        .object([
            Member(word, .count), Member("refused", .list(of: .object([Member("id", .whole), Member("state", .text.orNull)]))),
            Member("detached", .count, "Left alone by a replay: their trigger no longer delivers there."), Member("until", .time.orNull),
            Member("next", .opaque.orNull),
        ])
    }

    private static let deadLetter = Schema.object([
        Member("id", .whole), Member("destination", .name.orNull), Member("trigger", .text.orNull), Member("position", .whole),
        Member("job", .text.orNull, "Its id."), Member("reason", .text.orNull), Member("last_error", .text.orNull),
        Member("last_status", .whole.orNull), Member("attempts", .count), Member("died_at", .time), Member("created_at", .time),
        Member("discarded_at", .time.orNull), Member("discarded_by", .text.orNull), Member("discarded_because", .text.orNull),
    ])

    static let filters = Area(
        "Filters", "Which jobs of a trigger a destination gets, and what of them.",
        operations: [
            Operation(
                "POST", "/v1/triggers/:name/filter/try", "tryFilter", "Tries a filter and a projection on past jobs; stores nothing",
                parameters: [.path("name", .name, "The trigger.", example: "orders")],
                body: .json(
                    [
                        Member("filter", .text, "An expression in Lua, or a body with `return`.", isOptional: true),
                        Member("fields", .list(of: .something), "Paths: texts, or lists of keys.", isOptional: true),
                        Member("destination", .text, "What is not given is what this one has.", isOptional: true),
                        Member("last", .whole(1...1000), "How many jobs: 20 unless said.", isOptional: true),
                        Member("from", .whole(1...Int64.max), "From this position on, instead of the last ones.", isOptional: true),
                    ], example: #"{"filter":"record.total > 100","last":10}"#),
                answers: [
                    Answer(
                        "What became of each job.",
                        .object([
                            Member("trigger", .text), Member("filter", .text.orNull), Member("fields", .list(of: .text)),
                            Member("jobs", .list(of: tried)), Member("passed", .count), Member("skipped", .count), Member("failed", .count),
                            Member("more", .flag), Member("absent", .list(of: .text), "Of `fields`, what none of these jobs has."),
                            Member("last_position", .count, "Of the trigger's jobs; 0 before the first."),
                        ]))
                ], errors: [404])
        ])

    private static let tried = Schema.object([
        Member("position", .whole), Member("id", .text), Member("dedup_key", .text), Member("result", .words(["pass", "skip", "error"])),
        Member("projected", .flag, isOptional: true), Member("record", .any, isOptional: true), Member("error", .text, isOptional: true),
    ])
}
