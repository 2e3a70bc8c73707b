import Crypto
import SluiceConnectors
import SluiceCore
import SluiceStore

/// What a page must be before anything of it is committed: within its bounds, and each record keyed or set aside.
enum PageKeys {
    static func check(_ page: PollPage, recordsMax: Int = PollLimits.recordsPerPageMax) throws(PollFailure) {
        guard page.records.count <= recordsMax else {
            throw PollFailure(
                .permanent,
                SluiceError(
                    .connector, "the poll returned \(page.records.count) records, more than \(recordsMax): ask for smaller pages"))
        }
        for state in [page.cursor, page.pageState].compactMap({ $0 }) where state.count > PollLimits.cursorBytesMax {
            throw PollFailure(
                .permanent,
                SluiceError(
                    .connector,
                    "the poll returned a cursor of \(state.count) bytes, more than \(PollLimits.cursorBytesMax): keep less in it"))
        }
    }

    /// The records with their dedup keys; those that have none are set aside. `formers`: for each record, the keys that it had
    /// before the connector's dedup changed; empty: it did not.
    static func keyed(
        _ page: PollPage, triggerType: String, _ connector: any Connector, formers: [[[UInt8]]] = []
    ) throws -> ([KeyedRecord], [QuarantinedRecord]) {
        let keys = try page.keys ?? connector.dedupKeys(triggerType: triggerType, records: page.records)
        guard keys.count == page.records.count else {
            throw PollFailure(.permanent, SluiceError(.connector, "dedup gave \(keys.count) keys for \(page.records.count) records"))
        }
        var records: [KeyedRecord] = []
        records.reserveCapacity(keys.count)
        var quarantined = page.setAside.map { part in
            QuarantinedRecord(bytes: part.bytes, reason: part.reason, digest: Array(SHA256.hash(data: part.bytes + part.name.utf8)))
        }
        let epoch = page.epoch.map { Array("\($0)/".utf8) } ?? []
        for (index, key) in keys.enumerated() {
            switch key.map({ epoch + $0 }) {
            case .success(let bytes) where bytes.count > epoch.count && bytes.count <= KeyedRecord.dedupKeyBytesMax:
                let mark = index < page.marks.count ? page.marks[index] : nil
                // One that is the same, as when a comment was edited, says nothing that the key itself does not.
                let former = formers.isEmpty ? [] : formers[index].map { epoch + $0 }.filter { $0 != bytes }
                let state = index < page.states.count ? page.states[index] : nil
                records.append(KeyedRecord(record: page.records[index], dedupKey: bytes, mark: mark, formerKeys: former, state: state))
            case .success(let bytes):
                let reason =
                    bytes.count <= epoch.count
                    ? "its dedup key is empty" : "its dedup key has \(bytes.count) bytes, more than \(KeyedRecord.dedupKeyBytesMax)"
                quarantined.append(setAside(page.records[index], reason))
            case .failure(let error): quarantined.append(setAside(page.records[index], error.message))
            }
        }
        return (records, quarantined)
    }

    private static func setAside(_ record: Record, _ reason: String) -> QuarantinedRecord {
        QuarantinedRecord(bytes: Array(record.bytes), reason: reason, digest: Array(SHA256.hash(data: record.bytes)))
    }
}
