extension OpenAPI {
    static let removal = Area(
        "Removal", "Triggers, destinations and connections that nobody needs any more.",
        schemas: [("Removed", .object([Member("removed", .text, "What it was called.")]))],
        operations: [
            Operation(
                "DELETE", "/v1/triggers/:name", "removeTrigger", "Removes a trigger with its jobs",
                """
                One that was stopped, or never started; 409 otherwise, and where jobs of it were not delivered. Its cursor, dedup keys, jobs \
                and deliveries go with it.
                """,
                parameters: [.path("name", .text(max: 80), "The trigger.", example: "orders"), discards],
                answers: [Answer("It is gone.", .named("Removed"))], errors: [404, 409]),
            Operation(
                "DELETE", "/v1/destinations/:name", "removeDestination", "Removes a destination",
                "409 while a trigger delivers there, and where something was not delivered.",
                parameters: [.path("name", .name, "The destination.", example: "shop"), discards],
                answers: [Answer("It is gone.", .named("Removed"))], errors: [404, 409]),
            Operation(
                "DELETE", "/v1/connections/:name", "removeConnection", "Removes a connection with its webhook URLs",
                "409 while it has triggers, pending callbacks or subscriptions at its provider.",
                parameters: [.path("name", .name, "The connection.", example: "main"), discards],
                answers: [Answer("It is gone.", .named("Removed"))], errors: [404, 409]),
        ])

    private static let discards = Parameter.query(
        "discard_undelivered", .flag, "Even if jobs were not delivered, or are dead letters: they are lost.")
}
