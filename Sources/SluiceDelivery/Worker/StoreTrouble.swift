import SluiceCore
import Synchronization

/// Tells people that the store keeps jobs from being delivered: a full disk, damaged pages. Webhooks may come in all the while, and
/// polls find what is new, so that nothing else would say so.
final class StoreTrouble: Sendable {
    /// What the store is asked for.
    enum Act: Hashable {
        case look
        case claim(DestinationID)
        case record
    }

    /// The store is tried so often in a row before people are told: what passes by itself is over by then.
    static let failuresTold = 3
    /// What is no trouble of the store: somebody changed something meanwhile.
    private static let refusals: Set<SluiceError.Code> = [.notFound, .conflict, .invalid]

    private let alarms: any AlarmReporting
    private let subject: String
    /// Failures in a row of what does not work now.
    private let failing = Mutex<[Act: Int]>([:])

    init(alarms: any AlarmReporting, subject: String) {
        self.alarms = alarms
        self.subject = subject
    }

    /// `what`: what could not be done, for people.
    func failed(_ act: Act, _ what: String, _ error: any Error) {
        let known = error as? SluiceError
        if error is CancellationError || known.map({ StoreTrouble.refusals.contains($0.code) }) ?? false { return }
        failing.withLock { failing in
            failing[act, default: 0] += 1
            guard failing[act, default: 0] >= StoreTrouble.failuresTold else { return }
            alarms.raise(
                Alarm(
                    kind: .storage, subject: subject,
                    message: "\(what), and jobs wait: \(known?.message ?? "\(error)"). It is tried again and again; none is lost"))
        }
    }

    func worked(_ act: Act) { drop { $0 == act } }

    /// Where nothing waits any more, nothing is tried again.
    func keep(_ isWaiting: (DestinationID) -> Bool) {
        drop { act in
            if case .claim(let id) = act { !isWaiting(id) } else { false }
        }
    }

    private func drop(_ isOver: (Act) -> Bool) {
        failing.withLock { failing in
            guard !failing.isEmpty else { return }
            let wasTold = StoreTrouble.isTold(failing)
            failing = failing.filter { !isOver($0.key) }
            if wasTold, !StoreTrouble.isTold(failing) { alarms.clear(.storage, subject: subject) }
        }
    }

    private static func isTold(_ failing: [Act: Int]) -> Bool { failing.values.contains { $0 >= failuresTold } }
}
