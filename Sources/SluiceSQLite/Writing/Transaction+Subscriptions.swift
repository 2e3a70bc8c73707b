import GRDB
import SluiceCore
import SluiceStore

/// Subscriptions at providers.
extension Transaction {
    func addSubscription(_ new: NewSubscription, at time: Timestamp) throws -> StoredSubscription {
        let connection = try prepare("SELECT 1 FROM connection WHERE id = ?")
        connection.bind(1, new.connection)
        guard try connection.first({ _ in true }) != nil else {
            throw SluiceError(.notFound, "the connection of this subscription was removed")
        }
        if let token = new.token {
            let taken = try prepare("SELECT 1 FROM endpoint WHERE token = ?1 UNION ALL SELECT 1 FROM subscription WHERE token = ?1")
            taken.bind(1, token)
            if try taken.first({ _ in true }) != nil { throw SluiceError(.conflict, "this address exists already: make a new token") }
        }
        var state = Subscription(
            id: SubscriptionID(0), phase: new.phase, key: new.key, foundID: new.foundID, hasOutput: new.hasOutput, at: time)
        let insert = try prepare(
            """
            INSERT INTO subscription (
                phase, key, found_id, has_output, is_uncertain, must_replace, may_be_doubled, attempts, phase_since, next_at, check_at,
                ns, trigger_id, connection_id, type, input, token, url, sealed, generation, created_at)
            VALUES (?, ?, ?, ?, 0, 0, 0, 0, ?5, ?5, ?5, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?5)
            """)
        insert.bind(1, new.phase.rawValue)
        insert.bind(2, new.key)
        insert.bind(3, new.foundID)
        insert.bind(4, new.hasOutput ? 1 : 0)
        insert.bind(5, time)
        insert.bind(6, new.namespace)
        insert.bind(7, new.trigger)
        insert.bind(8, new.connection)
        insert.bind(9, new.triggerType)
        insert.bind(10, new.input)
        insert.bind(11, new.token)
        insert.bind(12, new.url)
        insert.bind(13, new.sealed)
        insert.bind(14, Generation.first)
        try insert.run()
        state.id = SubscriptionID(insert.lastInsertedRow)
        return StoredSubscription(
            state: state, trigger: new.trigger, connection: new.connection, triggerType: new.triggerType, input: new.input,
            token: new.token, url: new.url, sealed: new.sealed, generation: .first, createdAt: time)
    }

    func recordSubscriptions(_ changes: [SubscriptionChange]) throws {
        for change in changes {
            switch change {
            case .update(let id, let generation, let state, let sealed): try update(id, generation, state, sealed)
            case .remove(let id, let generation):
                let delete = try prepare("DELETE FROM subscription WHERE id = ? AND generation = ?")
                delete.bind(1, id)
                delete.bind(2, generation)
                try delete.run()
                try checkChanged(delete, id)
            }
        }
    }

    private func update(_ id: SubscriptionID, _ generation: Generation, _ state: Subscription, _ sealed: [UInt8]) throws {
        let update = try prepare(
            """
            UPDATE subscription SET phase = ?3, key = ?4, found_id = ?5, has_output = ?6, is_uncertain = ?7, must_replace = ?8,
                may_be_doubled = ?9, attempts = ?10, phase_since = ?11, next_at = ?12, check_at = ?13, doubt_until = ?14,
                expires_at = ?15, refresh_at = ?16, checked_at = ?17, last_check = ?18, last_error = ?19, sealed = ?20,
                generation = generation + 1
            WHERE id = ?1 AND generation = ?2
            """)
        update.bind(1, id)
        update.bind(2, generation)
        update.bind(3, state.phase.rawValue)
        update.bind(4, state.key)
        update.bind(5, state.foundID)
        update.bind(6, state.hasOutput ? 1 : 0)
        update.bind(7, state.isUncertain ? 1 : 0)
        update.bind(8, state.mustReplace ? 1 : 0)
        update.bind(9, state.mayBeDoubled ? 1 : 0)
        update.bind(10, state.attempts)
        update.bind(11, state.phaseSince)
        update.bind(12, state.nextAt)
        update.bind(13, state.checkAt)
        update.bind(14, state.doubtUntil)
        update.bind(15, state.expiresAt)
        update.bind(16, state.refreshAt)
        update.bind(17, state.checkedAt)
        update.bind(18, state.lastCheck)
        update.bind(19, state.lastError)
        update.bind(20, sealed)
        try update.run()
        try checkChanged(update, id)
    }

    private func checkChanged(_ statement: Prepared, _ id: SubscriptionID) throws {
        guard statement.changes > 0 else {
            throw SluiceError(.conflict, "subscription \(id) was changed meanwhile: look again", context: ["subscription": id.description])
        }
    }
}
