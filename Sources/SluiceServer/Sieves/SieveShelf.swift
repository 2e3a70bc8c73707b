import SluiceCore
import SluiceDelivery
import SluiceStore
import Synchronization

/// The sieves of all attachments that have one, each made once for as long as its settings stay the same.
public final class SieveShelf: Sendable {
    struct Key: Hashable {
        var trigger: TriggerID
        var destination: DestinationID
    }
    private struct Entry {
        var json: [UInt8]
        var name: String
        var sieve: any JobSieve
        var problem: SluiceError?
    }

    private let entries = Mutex<[Key: Entry]>([:])

    public init() {}

    /// Nil where every job passes as it is.
    public func sieve(_ trigger: TriggerID, _ destination: DestinationID) -> (any JobSieve)? {
        entries.withLock { $0[Key(trigger: trigger, destination: destination)]?.sieve }
    }

    /// What there is now; returns what cannot be used, by trigger.
    @discardableResult
    func update(_ attachments: [StoredAttachment], names: [TriggerID: JobJSON.TriggerNames]) -> [(trigger: TriggerID, error: SluiceError)] {
        let before = entries.withLock { $0 }
        var after: [Key: Entry] = [:]
        for attachment in attachments where !attachment.settings.isEmpty {
            guard let trigger = names[attachment.trigger] else { continue }
            let key = Key(trigger: attachment.trigger, destination: attachment.destination)
            if let known = before[key], known.json == attachment.settings, known.name == trigger.name {
                after[key] = known
            } else {
                after[key] = SieveShelf.entry(attachment, trigger)
            }
        }
        entries.withLock { $0 = after }
        return after.compactMap { key, entry in entry.problem.map { (key.trigger, $0) } }
    }

    private static func entry(_ attachment: StoredAttachment, _ trigger: JobJSON.TriggerNames) -> Entry {
        do throws(SluiceError) {
            let sieve = try AttachmentSieve(AttachmentSettings(json: attachment.settings), trigger: trigger)
            return Entry(json: attachment.settings, name: trigger.name, sieve: sieve)
        } catch {
            let problem = SluiceError(.filter, "its filter cannot be used, so its jobs become dead letters: \(error.message)")
            return Entry(json: attachment.settings, name: trigger.name, sieve: BrokenSieve(error: error), problem: problem)
        }
    }
}
