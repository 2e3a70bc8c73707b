import SluiceCore
import SluiceStore

extension OpenAPI {
    static let deliveries = Area(
        "Deliveries", "Jobs on their way to destinations, and those that never arrived.",
        schemas: [("Delivery", delivery), ("DeliveryDetail", deliveryDetail)],
        operations: [
            Operation(
                "GET", "/v1/deliveries", "listDeliveries", "Lists deliveries, the newest first",
                parameters: [
                    .limit, .afterNumber, .query("destination", .text, "Only to this one."),
                    .query("state", .words(states.map(\.rawValue)), "Only in this state."),
                ],
                answers: [Answer("Deliveries.", .page("deliveries", of: .named("Delivery")))], errors: [404]),
            Operation(
                "GET", "/v1/deliveries/:id", "showDelivery", "Shows a delivery with each attempt, and its job",
                parameters: [deliveryNumber],
                answers: [Answer("The delivery.", .named("DeliveryDetail"))], errors: [404]),
        ])

    private static let states = DeliveryState.allCases

    static let deliveryNumber = Parameter.path("id", .whole(1...Int64.max), "The delivery.", example: "1")

    private static let delivery = Schema.object([
        Member("id", .whole), Member("destination", .name.orNull), Member("trigger", .text.orNull), Member("position", .whole),
        Member("state", .words(states.map(\.rawValue))), Member("attempts", .count), Member("next_attempt_at", .time.orNull),
        Member("last_status", .whole.orNull, "What the destination answered."), Member("reason", .text.orNull), Member("created_at", .time),
    ])

    private static let deliveryDetail = Schema.object([
        Member("id", .whole), Member("destination", .name.orNull), Member("kind", .text.orNull, "The destination's."),
        Member("trigger", .text.orNull), Member("position", .whole),
        Member("state", .words(states.map(\.rawValue))), Member("reason", .text.orNull),
        Member("attempts", .count, "Since the last replay."),
        Member("next_attempt_at", .time.orNull), Member("last_status", .whole.orNull), Member("created_at", .time),
        Member("settled_at", .time.orNull), Member("discarded_at", .time.orNull), Member("discarded_by", .text.orNull),
        Member("discarded_because", .text.orNull), Member("attempts_in_all", .count),
        Member(
            "history",
            .list(
                of: .object([
                    Member("at", .time), Member("status", .whole.orNull), Member("error", .text.orNull), Member("duration_ms", .whole),
                    Member("response", .text, "The first 4 KiB of what was answered."),
                ])), "The last 100 attempts, oldest first."), Member("job", .named("Job")),
    ])
}
