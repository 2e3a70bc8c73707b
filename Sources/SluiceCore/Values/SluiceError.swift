/// The one error that people see. The command line, the API, the console and the log print the same words.
public struct SluiceError: Error, Sendable, Equatable, CustomStringConvertible {
    /// A short stable name for programs, in snake_case. The set can grow.
    public struct Code: RawRepresentable, Hashable, Sendable, ExpressibleByStringLiteral {
        public let rawValue: String
        public init(rawValue: String) { self.rawValue = rawValue }
        public init(stringLiteral value: String) { self.rawValue = value }
    }

    public var code: Code
    /// What is wrong and what mends it, as a full sentence. Never holds a secret.
    public var message: String
    /// Where it happened: trigger, page, HTTP status, file, line.
    public var context: [String: String]

    public init(_ code: Code, _ message: String, context: [String: String] = [:]) {
        self.code = code
        self.message = message
        self.context = context
    }

    /// The same error with more context.
    public func with(_ key: String, _ value: String) -> SluiceError {
        var copy = self
        copy.context[key] = value
        return copy
    }

    public var description: String {
        let details = context.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }.joined(separator: " ")
        return "\(code.rawValue): \(message)" + (details.isEmpty ? "" : " (\(details))")
    }
}

extension SluiceError.Code {
    public static let invalid: Self = "invalid"
    public static let notFound: Self = "not_found"
    public static let conflict: Self = "conflict"
    public static let unauthorized: Self = "unauthorized"
    public static let overloaded: Self = "overloaded"
    public static let diskFull: Self = "disk_full"
    public static let storage: Self = "storage"
    public static let fenced: Self = "fenced"
    public static let locked: Self = "locked"
    public static let wrongKey: Self = "wrong_master_key"
    public static let connector: Self = "connector"
    /// A poll asks for the same page again: it would never end.
    public static let pagingNeverEnds: Self = "paging_never_ends"
    public static let filter: Self = "filter"
    /// As much of a trigger is set aside as may be: nothing is read on.
    public static let quarantineFull: Self = "quarantine_full"
    public static let badCursor: Self = "bad_cursor"
    public static let providerStatus: Self = "provider_status"
    public static let providerUnreachable: Self = "provider_unreachable"
    public static let providerAnswer: Self = "provider_answer"
    public static let providerAuth: Self = "provider_auth"
    public static let rateLimited: Self = "rate_limited"
    public static let forbiddenAddress: Self = "forbidden_address"
    public static let internalError: Self = "internal"
}
