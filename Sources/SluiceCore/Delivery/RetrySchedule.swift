/// How long to wait after each failed attempt of a delivery.
public struct RetrySchedule: Sendable, Equatable {
    /// The wait after the first, second, ... failed attempt. One attempt more than there are waits is made.
    public let delays: [Span]

    /// 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 10 h: eight attempts in about 28 hours.
    /// Source: the Standard Webhooks specification's proposed schedule, shortened.
    public static let standard = RetrySchedule(
        checked: [.seconds(5), .minutes(5), .minutes(30), .hours(2), .hours(5), .hours(10), .hours(10)])

    /// Each wait is varied by up to this part of it, so that deliveries which failed together do not come back together.
    public static let jitter = 0.2
    public static let delaysMax = 50
    public static let delayMax = Span.days(7)

    /// Throws `.invalid` for more than 50 waits, or one that is negative or longer than 7 days. None: one attempt only.
    public init(delays: [Span]) throws(SluiceError) {
        guard delays.count <= RetrySchedule.delaysMax else {
            throw SluiceError(.invalid, "A retry schedule has at most \(RetrySchedule.delaysMax) waits, not \(delays.count).")
        }
        guard delays.allSatisfy({ $0 >= .zero && $0 <= RetrySchedule.delayMax }) else {
            throw SluiceError(.invalid, "Each wait of a retry schedule is between 0 seconds and 7 days.")
        }
        self.delays = delays
    }

    private init(checked: [Span]) { delays = checked }

    /// The wait after `attempts` attempts, or nil when there are to be no more. `random`: from 0 up to 1.
    public func delay(afterAttempts attempts: Int, random: Double) -> Span? {
        guard attempts >= 1, attempts <= delays.count else { return attempts < 1 ? .zero : nil }
        let factor = 1 + RetrySchedule.jitter * (2 * min(max(random, 0), 1) - 1)
        return .milliseconds(Int64((Double(delays[attempts - 1].milliseconds) * factor).rounded()))
    }
}
