import SluiceCore
import SluiceStore

extension OpenAPI {
    static let deliveries = Area(
        "Deliveries", "Jobs on their way to destinations, and those that never arrived.",
        schemas: [("Delivery", delivery)],
        operations: [
            Operation(
                "GET", "/v1/deliveries", "listDeliveries", "Lists deliveries, the newest first",
                parameters: [
                    .limit, .afterNumber, .query("destination", .text, "Only to this one."),
                    .query("state", .words(states.map(\.rawValue)), "Only in this state."),
                ],
                answers: [Answer("Deliveries.", .page("deliveries", of: .named("Delivery")))], errors: [404]),
            Operation(
                "POST", "/v1/deliveries/replay", "replayDeliveries", "Delivers dead letters again, with the ids they had",
                body: .json(
                    [
                        Member("delivery", .whole, "This one.", isOptional: true),
                        Member("destination", .text, "All of this destination.", isOptional: true),
                        Member("all", .flag, "All there are.", isOptional: true),
                    ], example: #"{"destination":"shop"}"#),
                answers: [Answer("How many.", .object([Member("replayed", .count)]))], errors: [404]),
        ])

    private static let states: [DeliveryState] = [.pending, .delivered, .dead]

    private static let delivery = Schema.object([
        Member("id", .whole), Member("destination", .name.orNull), Member("trigger", .text.orNull), Member("position", .whole),
        Member("state", .words(states.map(\.rawValue))), Member("attempts", .count), Member("next_attempt_at", .time.orNull),
        Member("last_status", .whole.orNull, "What the destination answered."), Member("reason", .text.orNull), Member("created_at", .time),
    ])
}
