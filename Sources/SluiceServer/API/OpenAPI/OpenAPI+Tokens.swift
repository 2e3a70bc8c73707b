extension OpenAPI {
    static let tokens = Area(
        "Tokens", "Who may ask this API. Only hashes are kept.",
        operations: [
            Operation(
                "GET", "/v1/tokens", "listTokens", "Lists the names of the tokens", parameters: [.limit, .after],
                answers: [Answer("By name.", .page("tokens", of: .object([Member("name", .name), Member("created_at", .time)])))]),
            Operation(
                "POST", "/v1/tokens", "createToken", "Makes a token",
                body: .json([Member("name", .name, "What to call it.")], example: #"{"name":"worker"}"#),
                answers: [
                    Answer(201, "The token, shown this once.", .object([Member("name", .name), Member("token", .text)]))
                ], errors: [409]),
            Operation(
                "DELETE", "/v1/tokens/:name", "revokeToken", "Revokes a token",
                parameters: [.path("name", .name, "What it is called.", example: "worker")],
                answers: [Answer("It is refused from now on.", .object([Member("revoked", .name)]))], errors: [404]),
        ])
}
