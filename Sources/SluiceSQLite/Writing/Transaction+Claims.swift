import SluiceCore
import SluiceStore

/// Claims that outlived their process. One process owns the data directory, so at its start every claim is a former one's.
extension Transaction {
    /// Each is due as it was when it was intended, so that it keeps its place before what came later. What is due already, retries that
    /// wait and what is blocked in its order stay as they are. What a clock that was ahead put off for as long as it was ahead is due now.
    func releaseClaims(_ namespace: NamespaceID, limit: Int, at time: Timestamp) throws -> Int {
        let find = try prepare(
            """
            SELECT d.id FROM destination o CROSS JOIN delivery d INDEXED BY delivery_pending
            WHERE o.ns = ?1 AND d.ns = ?1 AND d.destination_id = o.id AND d.state = 0 AND d.next_attempt_at > ?2 AND d.next_attempt_at < ?3
                AND (d.is_claimed = 1 OR d.pending_since > ?2
                    OR EXISTS (SELECT 1 FROM attempt a WHERE a.ns = d.ns AND a.delivery_id = d.id AND a.at > ?2))
            LIMIT ?4
            """)
        find.bind(1, namespace)
        find.bind(2, time)
        find.bind(3, Transaction.blocked)
        find.bind(4, limit)
        let claimed = try find.all { $0.int(0) }
        let release = try prepare("UPDATE delivery SET next_attempt_at = min(pending_since, ?), is_claimed = 0 WHERE id = ?")
        for delivery in claimed {
            release.bind(1, time)
            release.bind(2, delivery)
            try release.run()
        }
        if !claimed.isEmpty { effects.hasDeliveries = true }
        return claimed.count
    }
}
