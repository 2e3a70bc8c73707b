import NIOHTTP1

/// Whoever answers there does not speak HTTP.
public enum NoHTTP {
    public static let words = "the answer is not HTTP: is this the right port, or does it want TLS (https)?"

    /// Whether the answer's first line is none. An answer that is HTTP and breaks off, or has bad headers, is another matter.
    public static func isCause(of error: any Error) -> Bool {
        switch error as? HTTPParserError {
        case .invalidConstant, .invalidVersion, .invalidStatus, .invalidMethod: true
        default: false
        }
    }
}
