import SluiceCore
import SluiceStore

/// A consumer of a few triggers among very many does not look through everybody's jobs: it jumps from one of its own to the next.
extension Transaction {
    /// Up to so many jobs that are not its own cost less to pass over one by one.
    private static let passedMax: Int64 = 500
    /// Each of its triggers costs a search.
    private static let triggersMax = 32
    private static let jumpsMax = 20_000

    /// The newest job of all, where it lies so far ahead that looking only at the consumer's own triggers is cheaper.
    func newestFarAhead(of entry: ConsumerCache.Entry) throws -> Int64? {
        guard entry.triggers.count <= Transaction.triggersMax else { return nil }
        let newest = try prepare("SELECT seq FROM job ORDER BY seq DESC LIMIT 1").first { $0.int(0) } ?? 0
        return newest - entry.machine.position > Transaction.passedMax ? newest : nil
    }

    /// The next job of one trigger.
    private struct Head {
        var trigger: TriggerID
        var sequence: Int64
        var position: Int64
    }

    /// New jobs in the order of their commits, as far as `newest`. True: more may be there.
    func takeNew(
        _ fetch: ConsumerFetch, _ entry: inout ConsumerCache.Entry, _ newest: Int64, into handOut: inout ConsumerMachine.HandOut,
        _ room: Int, _ triggers: inout Set<TriggerID>
    ) throws -> Bool {
        let isRewound = entry.machine.position < entry.machine.highWater
        var heads: [Head] = []
        for (trigger, after) in entry.triggers {
            if let head = try firstJob(entry.namespace, trigger, behind: max(entry.machine.position, after)) { heads.append(head) }
        }
        let bytes = try prepare("SELECT length(record) FROM job WHERE seq = ?")
        var jobs = SequenceSet()
        var (jumps, through) = (0, entry.machine.position)
        while let index = heads.indices.min(by: { heads[$0].sequence < heads[$1].sequence }) {
            let head = heads[index]
            if jumps >= Transaction.jumpsMax {
                entry.machine.takeNew(jobs, through: through, into: &handOut)
                return true
            }
            jumps += 1
            if !(isRewound && entry.machine.awaits(head.sequence)) {
                bytes.bind(1, head.sequence)
                let length = try bytes.first { Int($0.int(0)) } ?? 0
                if jobs.count >= room || (handOut.count + jobs.count > 0 && handOut.bytes + length > fetch.bytesMax) {
                    entry.machine.takeNew(jobs, through: through, into: &handOut)
                    return true
                }
                handOut.bytes += length
                jobs.insert(head.sequence)
                triggers.insert(head.trigger)
            }
            through = head.sequence
            if let next = try nextJob(entry.namespace, head.trigger, behind: head.position) {
                heads[index] = next
            } else {
                heads.remove(at: index)
            }
        }
        entry.machine.takeNew(jobs, through: max(through, newest), into: &handOut)
        return false
    }

    private func nextJob(_ namespace: NamespaceID, _ trigger: TriggerID, behind position: Int64) throws -> Head? {
        let query = try prepare("SELECT seq, position FROM job WHERE ns = ? AND trigger_id = ? AND position > ? ORDER BY position LIMIT 1")
        query.bind(1, namespace)
        query.bind(2, trigger)
        query.bind(3, position)
        return try query.first { Head(trigger: trigger, sequence: $0.int(0), position: $0.int(1)) }
    }

    /// The first job of a trigger that was committed behind another. Positions and sequences of a trigger grow together, so halving
    /// finds it.
    private func firstJob(_ namespace: NamespaceID, _ trigger: TriggerID, behind sequence: Int64) throws -> Head? {
        let last = try prepare("SELECT seq, position FROM job WHERE ns = ? AND trigger_id = ? ORDER BY position DESC LIMIT 1")
        last.bind(1, namespace)
        last.bind(2, trigger)
        guard let end = try last.first({ Head(trigger: trigger, sequence: $0.int(0), position: $0.int(1)) }), end.sequence > sequence
        else { return nil }
        var (low, high): (Int64, Int64) = (0, end.position)
        while low < high {
            let middle = low + (high - low) / 2
            if let head = try nextJob(namespace, trigger, behind: middle), head.sequence <= sequence {
                low = head.position
            } else {
                high = middle
            }
        }
        return try nextJob(namespace, trigger, behind: low)
    }
}
