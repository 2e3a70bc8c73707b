import SluiceCore
import SluiceDelivery
import SluiceStore
import Synchronization

/// The sieves of all attachments that have one, each made once for as long as its settings stay the same.
///
/// Who claims a delivery gets its attachment's settings with it, read in the same transaction: so a change holds exactly for
/// what is claimed after it, whatever this shelf was told of so far.
public final class SieveShelf: Sendable {
    private struct Key: Hashable {
        var trigger: TriggerID
        var destination: DestinationID
    }
    private struct Entry {
        var json: [UInt8]
        var name: String
        var sieve: any JobSieve
        var problem: SluiceError?
    }
    private struct State {
        var entries: [Key: Entry] = [:]
        var names: [TriggerID: JobJSON.TriggerNames] = [:]
    }

    private let state = Mutex(State())

    public init() {}

    /// The sieve of an attachment with these settings, as they were when a job was claimed. Nil where every job passes as it is.
    /// `names` are the trigger's; nil: as this shelf was told.
    public func sieve(
        _ trigger: TriggerID, _ destination: DestinationID, settings: [UInt8], names given: JobJSON.TriggerNames? = nil
    ) -> (any JobSieve)? {
        if settings.isEmpty { return nil }
        let key = Key(trigger: trigger, destination: destination)
        let (known, told) = state.withLock { ($0.entries[key], $0.names[trigger]) }
        let names = given ?? told ?? (name: "", uid: "")
        if let known, known.json == settings, known.name == names.name { return known.sieve }
        let entry = SieveShelf.entry(settings, names)
        // Not of a trigger that is gone by now: the shelf holds no more than there are attachments.
        state.withLock { if $0.names[trigger] != nil { $0.entries[key] = entry } }
        return entry.sieve
    }

    /// For consumers, who get the settings with their jobs.
    public var ofConsumers: ConsumerService.Sieves { { self.sieve($0, $2, settings: $3, names: $1) } }

    /// The sieve of an attachment as this shelf was told of it last.
    func sieve(_ trigger: TriggerID, _ destination: DestinationID) -> (any JobSieve)? {
        state.withLock { $0.entries[Key(trigger: trigger, destination: destination)]?.sieve }
    }

    /// What there is now; returns what cannot be used, by trigger.
    @discardableResult
    func update(_ attachments: [StoredAttachment], names: [TriggerID: JobJSON.TriggerNames]) -> [(trigger: TriggerID, error: SluiceError)] {
        let before = state.withLock { $0.entries }
        var after: [Key: Entry] = [:]
        for attachment in attachments where !attachment.settings.isEmpty {
            guard let trigger = names[attachment.trigger] else { continue }
            let key = Key(trigger: attachment.trigger, destination: attachment.destination)
            if let known = before[key], known.json == attachment.settings, known.name == trigger.name {
                after[key] = known
            } else {
                after[key] = SieveShelf.entry(attachment.settings, trigger)
            }
        }
        state.withLock { $0 = State(entries: after, names: names) }
        return after.compactMap { key, entry in entry.problem.map { (key.trigger, $0) } }
    }

    private static func entry(_ json: [UInt8], _ trigger: JobJSON.TriggerNames) -> Entry {
        do throws(SluiceError) {
            return Entry(json: json, name: trigger.name, sieve: try AttachmentSieve(AttachmentSettings(json: json), trigger: trigger))
        } catch {
            let problem = SluiceError(.filter, "its filter cannot be used, so its jobs become dead letters: \(error.message)")
            return Entry(json: json, name: trigger.name, sieve: BrokenSieve(error: error), problem: problem)
        }
    }
}
