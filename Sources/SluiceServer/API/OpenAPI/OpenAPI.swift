import SluiceCore

/// The API as an OpenAPI 3.1 document, at `/openapi.json`.
///
/// Each route has exactly one operation, in the file of its area (`OpenAPI+Triggers.swift`, …). To add a route:
/// 1. write its line in `API.routes`, and its `Operation` into `operations` of an area's file, with the same method and path;
/// 2. describe each answer: every member that is written, `.orNull` where it may be null, `isOptional` where it may be absent. What
///    several answers share becomes one of the area's `schemas`, referred to by `.named("Job")`;
/// 3. name in `errors` the statuses it refuses with (404, 409, 410, 422, 429, 502); 400, 401, 413, 500 and 503 are everybody's;
/// 4. a new file's area goes into `areas` below.
///
/// The document is also the law: a query parameter or a member of the body that is not described is refused with 400, and so is one
/// with the wrong type or outside its bounds, before the handler is called. The tests ask the API through `API.ask`, which holds each
/// answer against its schema.
enum OpenAPI {
    static let areas: [Area] = [
        server, definitions, triggers, subscriptions, jobs, deliveries, deadLetters, filters, consumers, destinations, callbacks, backfills,
        inbox, tokens, removal,
    ]

    static let operations = areas.flatMap(\.operations)

    static let components = Dictionary(areas.flatMap(\.schemas).map { ($0.name, $0.schema) }) { first, _ in first }

    /// Nil for a route that nobody described.
    static func operation(_ route: API.Route) -> Operation? { byRoute["\(route.method) \(route.path)"] }

    private static let byRoute = Dictionary(operations.map { ("\($0.method) \($0.path)", $0) }) { first, _ in first }

    static func operation(method: String, path: String) -> Operation? { byRoute["\(method) \(path)"] }

    static let document: [UInt8] = {
        var writer = JSONWriter()
        write(to: &writer)
        return writer.bytes
    }()

    static let errorNotes: [Int: String] = [
        400: "Something that was sent is not as it must be; the message names it.",
        401: "No token, or one that is not known.",
        404: "There is nothing of this name.",
        409: "It does not fit the present state, or needs `confirm`.",
        410: "What was asked for is gone for good.",
        413: "The body is larger than \(APIRequest.bodyBytesMax) bytes.",
        422: "A connector refused it.",
        429: "Too many requests: `Retry-After` says when to come again.",
        500: "The request failed inside the server.",
        502: "A provider refused it, or could not be reached.",
        503: "The server is overloaded or stopping, or its disk is full: `Retry-After` says when to come again.",
    ]
}

extension API {
    func openAPI(_ call: APICall) async throws -> APIResponse { APIResponse(body: OpenAPI.document) }
}
