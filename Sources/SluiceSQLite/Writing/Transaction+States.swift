import SluiceCore
import SluiceStore

/// Records whose version is too coarse to tell their states apart (`RecordState`).
extension Transaction {
    /// A record became a job, or is known by a former key, while a later change may show the same key.
    func noteOpen(_ keyed: KeyedRecord, _ standing: Standing, cycle: Int64) throws {
        guard let state = keyed.state, state.isOpen, let stateKey = keyed.stateKey else { return }
        _ = try note(keyed.openKey, mark: keyed.mark, standing, cycle: cycle)
        _ = try note(stateKey, mark: keyed.mark, standing, cycle: cycle)
    }

    /// The dedup key of a job for a record whose key is known; nil where it is as it was, or as it was when its time was over.
    func laterState(of keyed: KeyedRecord, _ standing: Standing, cycle: Int64) throws -> [UInt8]? {
        guard let state = keyed.state, let stateKey = keyed.stateKey, try isKnown(keyed.openKey, standing) else { return nil }
        let isNew = try note(stateKey, mark: keyed.mark, standing, cycle: cycle)
        if state.isOpen {
            try refreshKey(standing, keyed.openKey, mark: keyed.mark, cycle: cycle)
        } else {
            // No change that is still to come can show this version.
            let delete = try prepare("DELETE FROM dedup WHERE ns = ? AND space = ? AND key = ?")
            delete.bind(1, standing.namespace)
            delete.bind(2, standing.space)
            delete.bind(3, keyed.openKey)
            try delete.run()
        }
        return isNew ? stateKey : nil
    }

    /// Whether the key was new.
    private func note(_ key: [UInt8], mark: Int64?, _ standing: Standing, cycle: Int64) throws -> Bool {
        let insert = try prepare("INSERT OR IGNORE INTO dedup (ns, space, key, mark, last_cycle) VALUES (?, ?, ?, ?, ?)")
        insert.bind(1, standing.namespace)
        insert.bind(2, standing.space)
        insert.bind(3, key)
        insert.bind(4, mark)
        insert.bind(5, cycle)
        try insert.run()
        if insert.changes > 0 { return true }
        try refreshKey(standing, key, mark: mark, cycle: cycle)
        return false
    }

    private func isKnown(_ key: [UInt8], _ standing: Standing) throws -> Bool {
        let query = try prepare("SELECT 1 FROM dedup WHERE ns = ? AND space = ? AND key = ?")
        query.bind(1, standing.namespace)
        query.bind(2, standing.space)
        query.bind(3, key)
        return try query.first { $0.int(0) } != nil
    }
}
