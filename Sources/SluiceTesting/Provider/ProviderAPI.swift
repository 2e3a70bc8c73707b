import FoundationEssentials
import SluiceCore

/// The provider's read API as a function from a request to an answer.
///
///     GET /api/v2/subscriptions?sort_by[asc]=updated_at&updated_at[after]=S&limit=N&offset=TOKEN&include_deleted=true
///
/// It follows Chargebee's list operations: HTTP basic auth with the key as user and no password, `updated_at[after]`
/// exclusive and in seconds, `limit` 1 to 100 (10 unless given), `{"list":[{"subscription":{…}}],"next_offset":"…"}`
/// with an opaque offset, errors as `{"message","type","api_error_code","http_status_code"}`, and an unknown parameter
/// is refused. Source: Chargebee's API reference, "Pagination" and "Error handling".
public struct ProviderAPI: Sendable {
    public struct Answer: Sendable {
        public var status: Int
        public var headers: [(name: String, value: String)]
        public var body: [UInt8]

        public init(status: Int, headers: [(name: String, value: String)] = [], body: [UInt8]) {
            self.status = status
            self.headers = headers
            self.body = body
        }
    }

    /// A page of a list that was asked for, as the provider understood it: for tests that count polls.
    public struct Read: Sendable, Equatable {
        public var resource: String
        public var afterSeconds: Int64?
        public var hasOffset: Bool
        public var at: Timestamp
    }

    public static let limitMax = 100

    /// The value of the header `Authorization` that this key stands for.
    public static func basicAuth(user: String, password: String = "") -> String {
        "Basic " + Data("\(user):\(password)".utf8).base64EncodedString()
    }

    /// Answers one request. `read` is set where a list was served.
    public static func answer(
        path: String, query: String, authorization: String?, apiKey: String, world: inout ProviderWorld, at now: Timestamp
    ) -> (answer: Answer, read: Read?) {
        guard authorization == basicAuth(user: apiKey) else {
            return (error(401, "api_authentication_failed", "The API key is missing or wrong."), nil)
        }
        guard path.hasPrefix("/api/v2/"), let resource = world.settings.resources.first(where: { path == "/api/v2/\($0)s" }) else {
            return (error(404, "site_not_found", "There is no such resource."), nil)
        }
        switch ListRequest.parse(query) {
        case .failure(let refusal): return (error(400, "param_wrong_value", "\(refusal.parameter): \(refusal.reason)"), nil)
        case .success(let request):
            let read = Read(resource: resource, afterSeconds: request.afterSeconds, hasOffset: request.offset != nil, at: now)
            return (page(of: resource, request, world: &world, at: now), read)
        }
    }

    private static func page(of resource: String, _ request: ListRequest, world: inout ProviderWorld, at now: Timestamp) -> Answer {
        let start = request.offset ?? ProviderWorld.Place(updatedAtSeconds: request.afterSeconds ?? -1, number: Int.max - 1)
        let list = world.list(resource, behind: start, limit: request.limit, includeDeleted: request.includeDeleted, at: now)
        var json = JSONWriter()
        json.object { json in
            json.key("list")
            json.array { json in
                for record in list.records {
                    json.object { json in
                        json.key(resource)
                        json.raw(record)
                    }
                }
            }
            if list.hasMore, let last = list.last { json.member("next_offset", ListRequest.token(last)) }
        }
        return Answer(status: 200, headers: [("Content-Type", "application/json;charset=utf-8")], body: json.bytes)
    }

    static func error(_ status: Int, _ code: String, _ message: String) -> Answer {
        var json = JSONWriter()
        json.object { json in
            json.member("message", message)
            json.member("type", status == 401 ? "operation_failed" : "invalid_request")
            json.member("api_error_code", code)
            json.member("http_status_code", Int64(status))
        }
        return Answer(status: status, headers: [("Content-Type", "application/json;charset=utf-8")], body: json.bytes)
    }

    /// What `fault` makes of an answer; `.slow` and `.hang` are a matter of time and leave it alone.
    static func spoil(_ answer: Answer, with fault: ProviderFault, hasOffset: Bool) -> Answer {
        switch fault {
        case .serverError: return error(500, "internal_error", "Something went wrong.")
        case .tooManyRequests(let seconds):
            var refusal = error(429, "api_request_limit_exceeded", "Too many requests.")
            refusal.headers.append(("Retry-After", String(seconds)))
            return refusal
        case .html:
            return Answer(
                status: 200, headers: [("Content-Type", "text/html")], body: Array("<html><body><h1>Bad gateway</h1></body></html>".utf8))
        case .offsetExpired: return hasOffset ? error(400, "param_wrong_value", "offset: The offset has expired.") : answer
        case .truncated:
            return Answer(status: answer.status, headers: answer.headers, body: Array(answer.body.prefix(answer.body.count / 2)))
        case .unauthorized: return error(401, "api_authentication_failed", "The API key is wrong.")
        case .slow, .hang: return answer
        }
    }
}

/// The parameters of a list, checked.
struct ListRequest {
    struct Refusal: Error {
        var parameter: String
        var reason: String
    }

    var afterSeconds: Int64?
    var limit = 10
    var offset: ProviderWorld.Place?
    var includeDeleted = false

    static func parse(_ query: String) -> Result<ListRequest, Refusal> {
        var request = ListRequest()
        for (name, value) in QueryText.parse(query) {
            func refuse(_ reason: String) -> Result<ListRequest, Refusal> { .failure(Refusal(parameter: name, reason: reason)) }
            switch name {
            case "sort_by[asc]": if value != "updated_at" { return refuse("can only be updated_at") }
            case "updated_at[after]":
                guard let seconds = Int64(value) else { return refuse("is not a timestamp in seconds") }
                request.afterSeconds = seconds
            case "limit":
                guard let limit = Int(value), (1...ProviderAPI.limitMax).contains(limit) else { return refuse("is not within 1 and 100") }
                request.limit = limit
            case "offset":
                guard let place = place(value) else { return refuse("is not an offset that was given out") }
                request.offset = place
            case "include_deleted":
                guard value == "true" || value == "false" else { return refuse("is neither true nor false") }
                request.includeDeleted = value == "true"
            default: return refuse("is not a parameter of this list")
            }
        }
        return .success(request)
    }

    /// Offsets look like Chargebee's: a JSON array in a string, so that whoever does not encode them for a URL is found out.
    static func token(_ place: ProviderWorld.Place) -> String { "[\"\(place.updatedAtSeconds)000\",\"\(place.number)\"]" }

    static func place(_ token: String) -> ProviderWorld.Place? {
        guard let parts = try? JSONDocument(Array(token.utf8)).root.elements, parts.count == 2,
            let milliseconds = parts[0].string.flatMap({ Int64($0) }), let number = parts[1].string.flatMap({ Int($0) })
        else { return nil }
        return ProviderWorld.Place(updatedAtSeconds: milliseconds / 1000, number: number)
    }
}

/// The query of a URL, with names as well as values percent-decoded (`updated_at%5Bafter%5D`) and `+` a space.
enum QueryText {
    static func parse(_ query: String) -> [(name: String, value: String)] {
        query.split(separator: "&").map { pair in
            let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            return (decode(parts[0]), parts.count > 1 ? decode(parts[1]) : "")
        }
    }

    static func decode(_ text: Substring) -> String {
        var bytes: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "%"), rest.count >= 2,
                let value = UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16)
            {
                bytes.append(value)
                rest = rest.dropFirst(2)
            } else {
                bytes.append(byte == UInt8(ascii: "+") ? 0x20 : byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
