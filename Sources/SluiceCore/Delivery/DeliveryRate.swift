/// How many deliveries a destination takes in a time: `10/s`, `100/m`, `5000/h`.
public struct DeliveryRate: Sendable, Hashable, CustomStringConvertible {
    public enum Unit: String, Sendable, CaseIterable {
        case second = "s"
        case minute = "m"
        case hour = "h"
        var milliseconds: Double {
            switch self {
            case .second: 1000
            case .minute: 60_000
            case .hour: 3_600_000
            }
        }
    }
    public var count: Int
    public var unit: Unit

    public static let countMax = 1_000_000

    /// Nil for anything but a whole number from 1 to a million, `/`, and s, m or h.
    public init?(_ text: String) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2, parts[0].utf8.allSatisfy({ $0 &- 0x30 < 10 }), let count = Int(parts[0]),
            (1...DeliveryRate.countMax).contains(count), let unit = Unit(rawValue: String(parts[1]))
        else { return nil }
        self.count = count
        self.unit = unit
    }

    public var description: String { "\(count)/\(unit.rawValue)" }
    public var perMillisecond: Double { Double(count) / unit.milliseconds }
}

/// A token bucket: at most the rate over any long time, and a second's worth (at least one) at once. Pure.
public struct RateBucket: Sendable {
    private let rate: DeliveryRate
    private var tokens: Double
    private var at: Timestamp

    public init(_ rate: DeliveryRate, at now: Timestamp) {
        self.rate = rate
        tokens = RateBucket.capacity(rate)
        at = now
    }

    private static func capacity(_ rate: DeliveryRate) -> Double { max(1, rate.perMillisecond * 1000) }

    /// Takes up to so many.
    public mutating func take(_ wanted: Int, at now: Timestamp) -> Int {
        // A clock that went back gives nothing.
        let passed = max(0, (now - at).milliseconds)
        at = max(at, now)
        tokens = min(RateBucket.capacity(rate), tokens + Double(passed) * rate.perMillisecond)
        let taken = min(wanted, Int(tokens))
        tokens -= Double(taken)
        return taken
    }

    /// Gives back what was taken and not used.
    public mutating func giveBack(_ count: Int) { tokens = min(RateBucket.capacity(rate), tokens + Double(count)) }

    /// When there is one to be taken.
    public var nextAt: Timestamp {
        tokens >= 1 ? at : at + .milliseconds(Int64(((1 - tokens) / rate.perMillisecond).rounded(.up)))
    }
}
