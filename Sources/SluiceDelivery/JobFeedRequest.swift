import SluiceCore

/// The parameters of `GET /v1/jobs`.
public struct JobFeedRequest: Sendable, Equatable {
    /// The `next` or a `seq_token` of an answer before; nil: from the oldest job that is kept.
    public var after: String?
    /// 1-1000.
    public var limit: Int
    /// 0-60; 0: answer at once.
    public var waitSeconds: Int
    /// Only jobs of the trigger of this name.
    public var triggerName: String?

    public static let names = ["after", "limit", "wait", "trigger"]
    public static let limitDefault = 100
    public static let limitMax = 1000
    static let afterBytesMax = 512
    static let triggerBytesMax = 256

    public init(after: String? = nil, limit: Int = limitDefault, waitSeconds: Int = 0, triggerName: String? = nil) {
        self.after = after
        self.limit = limit
        self.waitSeconds = waitSeconds
        self.triggerName = triggerName
    }

    /// Reads the parameters; `value` gives one by its name, decoded, or nil. An empty `after` counts as none, so that a
    /// reader can begin with it. Throws `.invalid` naming the parameter and what it may be.
    public static func parse(_ value: (String) -> String?) throws(SluiceError) -> JobFeedRequest {
        var request = JobFeedRequest()
        if let after = value("after"), !after.isEmpty {
            guard after.utf8.count <= afterBytesMax else {
                throw SluiceError(.invalid, "after is too long to be a token; use the next of the page before, or leave it out.")
            }
            request.after = after
        }
        request.limit = try number("limit", value("limit"), in: 1...limitMax, default: limitDefault)
        request.waitSeconds = try number("wait", value("wait"), in: 0...JobFeed.waitSecondsMax, default: 0)
        if let name = value("trigger") {
            guard (1...triggerBytesMax).contains(name.utf8.count) else {
                throw SluiceError(.invalid, "trigger is the name of a trigger, as `sluice trigger list` shows it.")
            }
            request.triggerName = name
        }
        return request
    }

    private static func number(
        _ name: String, _ text: String?, in range: ClosedRange<Int>, default fallback: Int
    ) throws(SluiceError) -> Int {
        guard let text else { return fallback }
        guard text.utf8.count <= 9, text.utf8.allSatisfy({ $0 &- 0x30 < 10 }), let value = Int(text), range.contains(value) else {
            let shown = String(text.prefix(20)).debugDescription
            throw SluiceError(.invalid, "\(name) is a whole number from \(range.lowerBound) to \(range.upperBound), not \(shown).")
        }
        return value
    }
}
