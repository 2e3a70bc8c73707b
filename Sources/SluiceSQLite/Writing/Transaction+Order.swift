import SluiceCore
import SluiceStore

/// Triggers with `ordered: true`: of their deliveries to a destination only the first unsettled one is due. The others wait
/// with a due time that never comes, so that claims need not look for them.
extension Transaction {
    static let blocked = Timestamp.distantFuture

    struct OrderedPair: Hashable {
        var namespace: NamespaceID
        var destination: Int64
        var trigger: Int64
    }

    func isOrdered(trigger: Int64) throws -> Bool {
        let query = try prepare("SELECT is_ordered FROM \"trigger\" WHERE id = ?")
        query.bind(1, trigger)
        return try query.first { $0.int(0) } == 1
    }

    /// Whether something unsettled comes before this position; nil: before any that is to come.
    func isBlocked(_ pair: OrderedPair, before position: Int64? = nil) throws -> Bool {
        let query = try prepare(
            """
            SELECT 1 FROM delivery WHERE ns = ? AND destination_id = ? AND trigger_id = ? AND position < ?
                AND is_ordered = 1 AND state IN (0, 2) LIMIT 1
            """)
        bind(query, pair)
        query.bind(4, position ?? .max)
        return try query.first { _ in true } != nil
    }

    /// Makes the first unsettled delivery due, if it waited behind another.
    func moveUp(_ pair: OrderedPair, at time: Timestamp) throws {
        guard let head = try head(pair), head.isPending, head.dueAt >= Transaction.blocked else { return }
        let update = try prepare("UPDATE delivery SET next_attempt_at = ?, is_claimed = 0 WHERE id = ?")
        update.bind(1, time)
        update.bind(2, head.id)
        try update.run()
        effects.hasDeliveries = true
    }

    /// After deliveries came back or went in the middle of an order: again exactly the first of each is due. Nil: of all triggers.
    func settleOrder(_ namespace: NamespaceID, trigger: Int64?, at time: Timestamp) throws {
        for pair in try pairs(namespace, trigger: trigger) {
            guard let head = try head(pair) else { continue }
            try block(pair, behind: head.position)
            try moveUp(pair, at: time)
        }
    }

    /// The same where deliveries only went.
    func moveAllUp(_ namespace: NamespaceID, trigger: Int64?, at time: Timestamp) throws {
        for pair in try pairs(namespace, trigger: trigger) { try moveUp(pair, at: time) }
    }

    /// Turns the order of a trigger's deliveries on or off. Dead letters from before do not block.
    func order(_ namespace: NamespaceID, trigger: Int64, _ isOrdered: Bool, at time: Timestamp) throws {
        try run("UPDATE \"trigger\" SET is_ordered = ? WHERE id = ?", isOrdered ? 1 : 0, trigger)
        for pair in try pairs(namespace, trigger: trigger, isOrdered: nil) {
            if isOrdered {
                let mark = try prepare(
                    "UPDATE delivery SET is_ordered = 1 WHERE ns = ? AND destination_id = ? AND trigger_id = ? AND state = 0")
                bind(mark, pair)
                try mark.run()
                if let head = try head(pair) { try block(pair, behind: head.position) }
            } else {
                let free = try prepare(
                    """
                    UPDATE delivery SET next_attempt_at = ?4 WHERE ns = ?1 AND destination_id = ?2 AND trigger_id = ?3 AND state = 0
                        AND next_attempt_at >= ?5
                    """)
                bind(free, pair)
                free.bind(4, time)
                free.bind(5, Transaction.blocked)
                try free.run()
                for state in ["0", "2"] {
                    let unmark = try prepare(
                        """
                        UPDATE delivery SET is_ordered = 0
                        WHERE ns = ? AND destination_id = ? AND trigger_id = ? AND state = \(state) AND is_ordered = 1
                        """)
                    bind(unmark, pair)
                    try unmark.run()
                }
            }
        }
        effects.hasDeliveries = true
    }

    private func block(_ pair: OrderedPair, behind position: Int64) throws {
        let update = try prepare(
            """
            UPDATE delivery SET next_attempt_at = ?5, is_claimed = 0
            WHERE ns = ?1 AND destination_id = ?2 AND trigger_id = ?3 AND position > ?4
                AND is_ordered = 1 AND state IN (0, 2) AND state = 0 AND next_attempt_at < ?5
            """)
        bind(update, pair)
        update.bind(4, position)
        update.bind(5, Transaction.blocked)
        try update.run()
    }

    private func head(_ pair: OrderedPair) throws -> (id: Int64, position: Int64, isPending: Bool, dueAt: Timestamp)? {
        let query = try prepare(
            """
            SELECT id, position, state, next_attempt_at FROM delivery WHERE ns = ? AND destination_id = ? AND trigger_id = ?
                AND is_ordered = 1 AND state IN (0, 2) ORDER BY position LIMIT 1
            """)
        bind(query, pair)
        return try query.first { (id: $0.int(0), position: $0.int(1), isPending: $0.int(2) == 0, dueAt: $0.time(3)) }
    }

    /// Nil: whatever it is.
    private func pairs(_ namespace: NamespaceID, trigger: Int64?, isOrdered: Bool? = true) throws -> [OrderedPair] {
        let query = try prepare(
            """
            SELECT a.destination_id, a.trigger_id FROM attachment a JOIN "trigger" t ON t.id = a.trigger_id
            WHERE a.ns = ? \(trigger == nil ? "" : "AND a.trigger_id = ?3") AND (?2 IS NULL OR t.is_ordered = ?2)
            ORDER BY a.destination_id, a.trigger_id
            """)
        query.bind(1, namespace)
        query.bind(2, isOrdered.map { $0 ? 1 : 0 })
        if let trigger { query.bind(3, trigger) }
        return try query.all { OrderedPair(namespace: namespace, destination: $0.int(0), trigger: $0.int(1)) }
    }

    private func bind(_ statement: Prepared, _ pair: OrderedPair) {
        statement.bind(1, pair.namespace)
        statement.bind(2, pair.destination)
        statement.bind(3, pair.trigger)
    }
}
