import GRDB
import SluiceCore
import SluiceStore

enum SubscriptionRows {
    static func all(_ db: Database, _ namespace: NamespaceID) throws -> [StoredSubscription] {
        let query = try Prepared(
            db,
            """
            SELECT id, phase, key, found_id, has_output, is_uncertain, must_replace, may_be_doubled, attempts, phase_since, next_at,
                check_at, doubt_until, expires_at, refresh_at, checked_at, last_check, last_error,
                trigger_id, connection_id, type, input, token, url, sealed, generation, created_at
            FROM subscription WHERE ns = ? ORDER BY id
            """)
        query.bind(1, namespace)
        return try query.all(decode)
    }

    private static func decode(_ row: Prepared) throws -> StoredSubscription {
        guard let phase = Subscription.Phase(rawValue: row.text(1)) else {
            throw SluiceError(.storage, "the database is damaged: a subscription is in the phase \(row.text(1))")
        }
        var state = Subscription(
            id: row.id(0), phase: phase, key: row.text(2), foundID: row.optionalText(3), hasOutput: row.int(4) != 0, at: row.time(9))
        state.isUncertain = row.int(5) != 0
        state.mustReplace = row.int(6) != 0
        state.mayBeDoubled = row.int(7) != 0
        state.attempts = Int(row.int(8))
        state.nextAt = row.time(10)
        state.checkAt = row.time(11)
        state.doubtUntil = row.optionalTime(12)
        state.expiresAt = row.optionalTime(13)
        state.refreshAt = row.optionalTime(14)
        state.checkedAt = row.optionalTime(15)
        state.lastCheck = row.optionalText(16)
        state.lastError = row.optionalText(17)
        return StoredSubscription(
            state: state, trigger: row.id(18), connection: row.id(19), triggerType: row.text(20), input: row.bytes(21),
            token: row.optionalText(22), url: row.text(23), sealed: row.bytes(24), generation: row.id(25), createdAt: row.time(26))
    }
}
