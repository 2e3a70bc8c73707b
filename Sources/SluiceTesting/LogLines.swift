import Logging
import Synchronization

/// Every line that is logged: its level, its message and its metadata, sorted by name.
public final class LogLines: LogHandler {
    private let lines = Mutex<[String]>([])
    public var all: [String] { lines.withLock { $0 } }
    public var text: String { all.joined(separator: "\n") }

    public init() {}

    /// How many lines begin so.
    public func count(_ start: String) -> Int { all.count { $0.hasPrefix(start) } }

    public func log(event: LogEvent) {
        let details = (event.metadata ?? [:]).sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }.joined(separator: " ")
        lines.withLock { $0.append("\(event.level) \(event.message) \(details)") }
    }

    public subscript(metadataKey _: String) -> Logger.Metadata.Value? {
        get { nil }
        set {}
    }
    public var metadata: Logger.Metadata {
        get { [:] }
        set {}
    }
    public var logLevel: Logger.Level {
        get { .trace }
        set {}
    }
}
