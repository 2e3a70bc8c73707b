import SluiceCore

extension Transaction {
    /// Gives a dead letter of a consumer back to it.
    func replayToConsumer(_ delivery: Int64, at time: Timestamp) throws {
        throw SluiceError(
            .conflict,
            "delivery \(delivery) belongs to a consumer, whose dead letters cannot be replayed yet: read its job with `sluice jobs show`",
            context: ["delivery": String(delivery)])
    }
}
