import SluiceCore

/// Webhooks in the order in which they are to be sent. Pure.
struct WebhookQueue: Sendable {
    /// More than this are not kept; the provider counts them under the status `overflow`.
    static let countMax = 200_000

    /// The latest first, so that what is due next is taken from the end.
    private var entries: [PlannedWebhook] = []

    var count: Int { entries.count }

    /// False where the queue is full and the webhook was not taken.
    mutating func insert(_ webhook: PlannedWebhook) -> Bool {
        guard entries.count < WebhookQueue.countMax else { return false }
        var (low, high) = (0, entries.count)
        while low < high {
            let middle = (low + high) / 2
            if entries[middle].sendAt > webhook.sendAt { low = middle + 1 } else { high = middle }
        }
        entries.insert(webhook, at: low)
        return true
    }

    /// Takes up to `limit` webhooks whose time has come.
    mutating func takeDue(at now: Timestamp, limit: Int) -> [PlannedWebhook] {
        var due: [PlannedWebhook] = []
        while due.count < limit, let last = entries.last, last.sendAt <= now { due.append(entries.removeLast()) }
        return due
    }
}

/// When the provider makes its changes: irregularly, and now and then several at the same instant. Pure.
struct ChangeRhythm: Sendable {
    /// Changes a second, on average.
    var rate: Double
    /// Share of instants at which several changes are made.
    var burstShare: Double

    /// The next instant: how long to wait for it, and how many changes it brings.
    func next(using random: inout ProviderRandom) -> (waitMilliseconds: Int, changes: Int) {
        let changes = random.chance(burstShare) ? Int.random(in: 2...8, using: &random) : 1
        let mean = Double(changes) * 1000 / max(rate, 0.001)
        return (Int(mean * Double.random(in: 0.5...1.5, using: &random)), changes)
    }
}
