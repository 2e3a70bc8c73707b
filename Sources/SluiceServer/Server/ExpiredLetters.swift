import SluiceCore
import SluiceStore

/// Dead letters that no delivery made: what waited too long, or what a consumer was detached from. Retention makes them, so
/// nobody else would say so.
struct ExpiredLetters {
    let store: any Store
    let alarms: any AlarmReporting

    /// Raises the alarm of each destination with letters that died at `time` or later.
    func tell(since time: Timestamp) async throws {
        for destination in try await store.definitions(.default).destinations {
            let query = DeadLetterQuery(DeadLetterSelection(destination: destination.id, since: time), limit: 1)
            guard let letter = try await store.deadLetters(query).letters.first else { continue }
            alarms.raise(
                Alarm(
                    kind: .deadLetters, subject: "destination \(destination.name)",
                    message: "jobs became dead letters without reaching it (the last: \(letter.delivery.reason ?? "no reason given")): see "
                        + "`sluice dead-letter list --destination \(destination.name)`, mend what keeps them, then replay them."))
        }
    }
}
