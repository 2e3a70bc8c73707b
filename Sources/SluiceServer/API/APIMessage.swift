import SluiceCore
import SluiceStore

/// A request to the API, however it came: over HTTP, or from a command in the same process.
public struct APIRequest: Sendable {
    public var method: String
    /// Without the query, still encoded: `/v1/triggers/orders`.
    public var path: String
    /// Decoded names and values, in their order.
    public var query: [(name: String, value: String)]
    /// The Authorization header.
    public var authorization: String?
    /// From inside the process: needs no token.
    public var isTrusted: Bool
    public var contentType: String?
    /// The Last-Event-ID header: where a stream is resumed.
    public var lastEventID: String?
    public var body: [UInt8]
    /// Nil inside the process.
    var caller: Caller?

    public init(
        _ method: String, _ path: String, query: [(name: String, value: String)] = [], authorization: String? = nil,
        isTrusted: Bool = false,
        contentType: String? = nil, body: [UInt8] = []
    ) {
        self.method = method
        self.path = path
        self.query = query
        self.authorization = authorization
        self.isTrusted = isTrusted
        self.contentType = contentType
        self.body = body
    }

    /// Whether the body says that it is JSON.
    var isJSON: Bool { contentType?.lowercased().hasPrefix("application/json") ?? false }

    /// The longest body that is taken; larger ones get 413.
    public static let bodyBytesMax = 2 << 20
}

/// An answer: always JSON, but for streams.
public struct APIResponse: Sendable {
    public var status: Int
    public var body: [UInt8]
    public var headers: [(name: String, value: String)]
    /// Called where the answer could not be written to whoever asked.
    public var undelivered: (@Sendable () -> Void)?
    /// Writes Server-Sent Events instead of the body.
    public var stream: (@Sendable (_ write: @escaping @Sendable ([UInt8]) async throws -> Void) async throws -> Void)?

    public init(status: Int = 200, body: [UInt8], headers: [(name: String, value: String)] = []) {
        self.status = status
        self.body = body
        self.headers = headers
    }

    /// A JSON object.
    public static func object(status: Int = 200, _ body: (inout JSONWriter) throws -> Void) rethrows -> APIResponse {
        var writer = JSONWriter()
        try writer.object(body)
        return APIResponse(status: status, body: writer.bytes)
    }

    /// `{"error":{"code","message","context"}}` with the status that fits the code.
    public static func failure(_ error: SluiceError) -> APIResponse {
        var response = object(status: status(of: error.code)) { writer in
            writer.key("error")
            writer.object { writer in
                writer.member("code", error.code.rawValue)
                writer.member("message", error.message)
                writer.key("context")
                writer.object { writer in for (key, value) in error.context.sorted(by: { $0.key < $1.key }) { writer.member(key, value) } }
            }
        }
        if response.status == 401 { response.headers.append(("WWW-Authenticate", "Bearer")) }
        if response.status == 503 || response.status == 429 { response.headers.append(("Retry-After", "5")) }
        return response
    }

    /// The error that a failure describes; nil for anything else.
    public var error: SluiceError? {
        guard status >= 400 else { return nil }
        guard let error = (try? JSONDocument(body))?.root["error"], let code = error["code"]?.string else {
            return SluiceError(
                .serverUnreachable, "no Sluice API answers at that address (status \(status), and not in its form): check --api-url")
        }
        let context = error["context"]?.members?.compactMap { member in member.value.string.map { (member.key, $0) } } ?? []
        return SluiceError(
            SluiceError.Code(rawValue: code), error["message"]?.string ?? "", context: Dictionary(context) { first, _ in first })
    }

    static func status(of code: SluiceError.Code) -> Int {
        switch code {
        case .invalid, .badCursor, .filter: 400
        case .unauthorized: 401
        case .notFound: 404
        case .methodNotAllowed: 405
        case .pastRetention: 410
        case .conflict, .fenced, .locked, .needsConfirmation: 409
        case .tooLarge: 413
        case .rateLimited: 429
        case .overloaded, .diskFull: 503
        case .connector: 422
        case .providerStatus, .providerUnreachable, .providerAnswer, .providerAuth, .forbiddenAddress: 502
        default: 500
        }
    }
}

extension SluiceError.Code {
    public static let methodNotAllowed: Self = "method_not_allowed"
    public static let tooLarge: Self = "too_large"
    /// No Sluice is found where a command was told to look.
    public static let serverUnreachable: Self = "server_unreachable"
    /// Asked again with `confirm`, it is done.
    public static let needsConfirmation: Self = "needs_confirmation"
}

/// Percent-encoding of paths and queries (RFC 3986, 2.1).
public enum Percent {
    /// Nil if an escape is malformed or the bytes are not UTF-8.
    public static func decoded(_ text: some StringProtocol, plusIsSpace: Bool = false) -> String? {
        var bytes: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "%") {
                guard rest.count >= 2, let value = Hex.bytes(String(decoding: rest.prefix(2), as: UTF8.self)) else { return nil }
                bytes += value
                rest = rest.dropFirst(2)
            } else {
                bytes.append(plusIsSpace && byte == UInt8(ascii: "+") ? 0x20 : byte)
            }
        }
        return String(validating: bytes, as: UTF8.self)
    }

    public static func encoded(_ text: String) -> String {
        var result = ""
        for byte in text.utf8 {
            let isPlain =
                (0x30...0x39).contains(byte) || (0x61...0x7A).contains(ASCII.lowercased(byte)) || "-._~".utf8.contains(byte)
            result += isPlain ? String(UnicodeScalar(byte)) : "%" + Hex.text([byte]).uppercased()
        }
        return result
    }

    /// The members of a query. One that cannot be decoded is a name as it stands, which nothing knows.
    public static func query(_ text: some StringProtocol) -> [(name: String, value: String)] {
        text.split(separator: "&").map { pair in
            let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard let name = decoded(parts[0], plusIsSpace: true), let value = decoded(parts.count > 1 ? parts[1] : "", plusIsSpace: true)
            else { return (String(pair), "") }
            return (name, value)
        }
    }
}
