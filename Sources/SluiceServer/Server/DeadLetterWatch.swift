import SluiceCore
import SluiceStore

/// Keeps the alarm of dead letters true, where no delivery does: it tells of those that retention made (what waited too long, or what a
/// consumer was detached from), and clears the alarm once there are none, however they went.
struct DeadLetterWatch {
    let store: any Store
    let alarms: AlarmBoard

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

    /// Clears the alarm of each destination that has no dead letters any more, or is gone.
    func clear() async throws {
        let standing = Set(alarms.standing().filter { $0.alarm.kind == .deadLetters }.map(\.alarm.subject))
        guard !standing.isEmpty else { return }
        let destinations = try await store.definitions(.default).destinations
        for subject in standing {
            let destination = destinations.first { subject == "destination \($0.name)" }
            if let destination {
                let query = DeadLetterQuery(DeadLetterSelection(destination: destination.id), limit: 1)
                guard try await store.deadLetters(query).letters.isEmpty else { continue }
            }
            alarms.clear(.deadLetters, subject: subject)
        }
    }
}
