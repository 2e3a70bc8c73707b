import SluiceCore

extension Transaction {
    /// Gives replayed dead letters of consumers back to them.
    func returnToConsumers(_ letters: [(destination: DestinationID, job: Int64)], at time: Timestamp) throws {
        throw SluiceError(
            .conflict, "\(letters.count) of these belong to consumers, whose dead letters cannot be replayed yet: name the other destinations")
    }
}
