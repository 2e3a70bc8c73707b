import SluiceCore

/// A rate limit: one second's worth may come at once, after that as much as flows in.
struct TokenBucket: Sendable {
    private(set) var perSecondMax: Int
    /// Thousandths of a token: a rate per second times milliseconds, without rounding.
    private var thousandths: Int64
    private var filledAt: Timestamp?

    init(perSecondMax: Int) {
        self.perSecondMax = max(1, perSecondMax)
        thousandths = Int64(self.perSecondMax) * 1000
    }

    /// Takes a token. Nil: taken; otherwise the seconds after which there will be one.
    mutating func take(at now: Timestamp) -> Int? {
        let capacity = Int64(perSecondMax) * 1000
        if let filledAt, now > filledAt {
            let elapsed = min((now - filledAt).milliseconds, 1000)
            thousandths = min(capacity, thousandths + elapsed * Int64(perSecondMax))
        }
        filledAt = max(filledAt ?? now, now)
        // At least one token a second flows in, so a second is always enough.
        guard thousandths >= 1000 else { return 1 }
        thousandths -= 1000
        return nil
    }

    /// What was taken for nothing.
    mutating func giveBack() { thousandths = min(Int64(perSecondMax) * 1000, thousandths + 1000) }

    /// Keeps what is left, up to the new rate.
    mutating func change(perSecondMax newMax: Int) {
        guard newMax != perSecondMax else { return }
        perSecondMax = max(1, newMax)
        thousandths = min(thousandths, Int64(perSecondMax) * 1000)
    }
}
