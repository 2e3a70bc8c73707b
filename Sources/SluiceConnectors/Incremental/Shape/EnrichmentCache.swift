import SluiceCore
import Synchronization

/// Full records that were fetched lately, by what was asked for, with whose credentials, and for which version. A
/// convenience only: what it forgets is fetched again.
///
/// Two generations: when the young one is full it becomes the old one, and the old one goes. So both size and work a call
/// are bounded (P10), and what is used stays.
final class EnrichmentCache: Sendable {
    typealias Key = HMACSHA256.Code

    /// Of each generation.
    static let entriesMax = 5_000
    static let bytesMax = 16 * 1024 * 1024

    private struct Generation {
        var records: [Key: [UInt8]] = [:]
        var failures: [Key: Int] = [:]
        var bytes = 0
        var count: Int { records.count + failures.count }
    }

    private struct State {
        var young = Generation()
        var old = Generation()

        mutating func turn(for bytes: Int) {
            guard young.count >= entriesMax || young.bytes + bytes > bytesMax else { return }
            (old, young) = (young, Generation())
        }
    }

    private let state = Mutex(State())

    /// The connection and the request say whose record it is; the dedup key says which version.
    static func key(_ plan: HTTPRequestPlan, _ dedupKey: [UInt8], _ connection: JSONDocument) -> Key {
        HMACSHA256.sha256(Array(Validator.fingerprint(plan, connection).utf8) + dedupKey)
    }

    func full(_ key: Key) -> [UInt8]? {
        state.withLock { state in
            if let record = state.young.records[key] { return record }
            guard let record = state.old.records.removeValue(forKey: key) else { return nil }
            state.old.bytes -= record.count
            state.turn(for: record.count)
            state.young.records[key] = record
            state.young.bytes += record.count
            return record
        }
    }

    func put(_ key: Key, _ record: [UInt8]) {
        guard record.count <= EnrichmentCache.bytesMax else { return }
        state.withLock { state in
            state.turn(for: record.count)
            state.young.failures[key] = nil
            state.old.failures[key] = nil
            if let before = state.young.records.updateValue(record, forKey: key) { state.young.bytes -= before.count }
            state.young.bytes += record.count
        }
    }

    /// Counts a failure; how many there were in a row.
    func failed(_ key: Key) -> Int {
        state.withLock { state in
            let count = (state.young.failures[key] ?? state.old.failures.removeValue(forKey: key) ?? 0) + 1
            state.turn(for: 0)
            state.young.failures[key] = count
            return count
        }
    }
}
