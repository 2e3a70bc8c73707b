import SluiceCore
import SluiceStore

/// Triggers: definition, state, cursor, removal.
extension Transaction {
    struct TriggerDefinition {
        var name: String
        var uid: String
        var connection: ConnectionID
        var type: String
        var input: [UInt8]
        var settings: [UInt8]
        var topicKeys: [String]
        var resets: Bool
    }

    func putTrigger(_ definition: TriggerDefinition, _ namespace: NamespaceID, _ time: Timestamp) throws {
        let topics = try Set(definition.topicKeys.map { try topic(namespace, definition.connection, key: $0) })
        guard let existing = try find(.trigger, definition.name, namespace) else {
            return try createTrigger(definition, namespace, topics, time)
        }
        let trigger = TriggerID(existing)
        let before = try prepare("SELECT connection_id, type, input, settings FROM \"trigger\" WHERE id = ?")
        before.bind(1, trigger)
        let stored = try before.first {
            (connection: $0.id(0) as ConnectionID, type: $0.text(1), input: $0.bytes(2), settings: $0.bytes(3))
        }
        guard let stored else { return }
        let movesOn = stored.connection == definition.connection && stored.type == definition.type
        guard movesOn || definition.resets else {
            throw SluiceError(
                .conflict,
                "the trigger \(definition.name) has another type or connection: apply with a reset, which forgets its cursor and keys",
                context: ["trigger": definition.name])
        }
        let isSame = movesOn && stored.input == definition.input && stored.settings == definition.settings
        let hasSameTopics = try listened(namespace, trigger) == topics
        if isSame && hasSameTopics && !definition.resets { return }
        try changeTrigger(trigger, definition)
        // A page token belongs to the input it was given for.
        if stored.input != definition.input {
            try run("UPDATE progress SET open_cycle = NULL, open_page_state = NULL WHERE trigger_id = ?", existing)
        }
        if !hasSameTopics { try listen(namespace, trigger, topics) }
        if definition.resets {
            try forget(namespace, trigger)
            try run("DELETE FROM trigger_topic WHERE ns = ? AND trigger_id = ? AND through IS NOT NULL", namespace.rawValue, existing)
        }
    }

    private func createTrigger(
        _ definition: TriggerDefinition, _ namespace: NamespaceID, _ topics: Set<TopicID>, _ time: Timestamp
    ) throws {
        let insert = try prepare(
            """
            INSERT INTO "trigger" (ns, name, uid, connection_id, type, input, settings, state, generation, created_at)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            """)
        insert.bind(1, namespace)
        insert.bind(2, definition.name)
        insert.bind(3, definition.uid)
        insert.bind(4, definition.connection)
        insert.bind(5, definition.type)
        insert.bind(6, definition.input)
        insert.bind(7, definition.settings)
        insert.bind(8, TriggerState.created.rawValue)
        insert.bind(9, Generation.first)
        insert.bind(10, time)
        try insert.run()
        let trigger = TriggerID(insert.lastInsertedRow)
        try run(
            "INSERT INTO progress (trigger_id, ns, dedup_space) VALUES (?, ?, ?)", trigger.rawValue, namespace.rawValue,
            try allocate(.space))
        try listen(namespace, trigger, topics)
    }

    private func changeTrigger(_ trigger: TriggerID, _ definition: TriggerDefinition) throws {
        let update = try prepare(
            "UPDATE \"trigger\" SET connection_id = ?, type = ?, input = ?, settings = ?, generation = generation + 1 WHERE id = ?")
        update.bind(1, definition.connection)
        update.bind(2, definition.type)
        update.bind(3, definition.input)
        update.bind(4, definition.settings)
        update.bind(5, trigger)
        try update.run()
    }

    private func listened(_ namespace: NamespaceID, _ trigger: TriggerID) throws -> Set<TopicID> {
        let query = try prepare("SELECT topic_id FROM trigger_topic WHERE ns = ? AND trigger_id = ? AND through IS NULL")
        query.bind(1, namespace)
        query.bind(2, trigger)
        return Set(try query.all { $0.id(0) as TopicID })
    }

    /// From now on. What a reader of the inbox has not read of its topics until now is its own all the same.
    private func listen(_ namespace: NamespaceID, _ trigger: TriggerID, _ topics: Set<TopicID>) throws {
        try run(
            """
            UPDATE trigger_topic SET through = (SELECT signal_sequence FROM topic WHERE id = topic_id)
            WHERE ns = ? AND trigger_id = ? AND through IS NULL
            """, namespace.rawValue, trigger.rawValue)
        try run(
            """
            DELETE FROM trigger_topic WHERE ns = ?1 AND trigger_id = ?2
                AND (through <= (SELECT \(InboxRows.position) FROM progress p WHERE p.trigger_id = ?2)
                    OR (SELECT reads_inbox FROM "trigger" WHERE id = ?2) = 0)
            """, namespace.rawValue, trigger.rawValue)
        for topic in topics {
            try run(
                "INSERT OR REPLACE INTO trigger_topic (ns, trigger_id, topic_id) VALUES (?, ?, ?)", namespace.rawValue, trigger.rawValue,
                topic.rawValue)
        }
    }

    /// Cursor, open cycle and dedup keys, as before the first poll. Jobs and positions stay.
    /// As before the first poll, which is due at once.
    private func forget(_ namespace: NamespaceID, _ trigger: TriggerID) throws {
        try discardKeys(namespace, trigger)
        try run(
            """
            UPDATE progress SET cursor = NULL, cursor_mark = NULL, dedup_floor = NULL, pruned_below = NULL, marked_through = NULL, open_cycle = NULL, open_page_state = NULL,
                safety_due_at = NULL, failures = 0, retry_at = NULL, last_error = NULL, dedup_space = ? WHERE trigger_id = ?
            """, try allocate(.space), trigger.rawValue)
    }

    func removeTrigger(_ namespace: NamespaceID, _ name: String, discardsUndelivered: Bool, at time: Timestamp) throws {
        let trigger = try id(of: .trigger, name, namespace)
        let query = try prepare("SELECT state FROM \"trigger\" WHERE id = ?")
        query.bind(1, trigger)
        let state = try query.first { $0.text(0) } ?? ""
        guard state == TriggerState.created.rawValue || state == TriggerState.stopped.rawValue else {
            throw SluiceError(.conflict, "the trigger \(name) is \(state): stop it before it is removed", context: ["trigger": name])
        }
        if !discardsUndelivered { try refuseUndelivered(ofTrigger: trigger, name, namespace, at: time) }
        try discardKeys(namespace, TriggerID(trigger))
        try discard(namespace, .jobs, trigger)
        try removeBackfills(namespace, of: TriggerID(trigger))
        for table in ["trigger_topic", "attachment", "catch_up", "quarantine"] {
            try run("DELETE FROM \(table) WHERE ns = ? AND trigger_id = ?", namespace.rawValue, trigger)
        }
        try forgetTrigger(trigger)
        try run("DELETE FROM progress WHERE trigger_id = ?", trigger)
        try run("DELETE FROM \"trigger\" WHERE id = ?", trigger)
    }

    private func discardKeys(_ namespace: NamespaceID, _ trigger: TriggerID) throws {
        let query = try prepare("SELECT dedup_space FROM progress WHERE trigger_id = ?")
        query.bind(1, trigger)
        if let space = try query.first({ $0.int(0) }) { try discard(namespace, .keys, space) }
    }

    // MARK: State and cursor

    func setState(_ change: StateChange) throws -> StoredTrigger {
        try checkGeneration(change.trigger, change.generation)
        let update = try prepare("UPDATE \"trigger\" SET state = ?, state_reason = ?, generation = generation + 1 WHERE id = ?")
        update.bind(1, change.state.rawValue)
        update.bind(2, change.reason)
        update.bind(3, change.trigger)
        try update.run()
        return try stored(change.trigger)
    }

    func setState(_ namespace: NamespaceID, _ name: String, from: TriggerState, to: TriggerState) throws {
        let trigger = try id(of: .trigger, name, namespace)
        let query = try prepare("SELECT state FROM \"trigger\" WHERE id = ?")
        query.bind(1, trigger)
        let state = try query.first { $0.text(0) } ?? ""
        guard state == from.rawValue else {
            throw SluiceError(
                .conflict, "the trigger \(name) was changed meanwhile: it is \(state), no longer \(from.rawValue)",
                context: ["trigger": name, "trigger_state": state])
        }
        let update = try prepare("UPDATE \"trigger\" SET state = ?, state_reason = NULL, generation = generation + 1 WHERE id = ?")
        update.bind(1, to.rawValue)
        update.bind(2, trigger)
        try update.run()
    }

    /// The floor goes, too: a cursor that was set back may return what lies below it.
    func setCursor(_ trigger: TriggerID, _ generation: Generation, _ cursor: [UInt8]?) throws -> StoredTrigger {
        try checkGeneration(trigger, generation)
        // What it has read of a former topic is not its own once more.
        try run(
            """
            DELETE FROM trigger_topic WHERE trigger_id = ?1 AND ns = (SELECT ns FROM "trigger" WHERE id = ?1)
                AND through <= (SELECT \(InboxRows.position) FROM progress p WHERE p.trigger_id = ?1)
            """, trigger.rawValue)
        let update = try prepare(
            """
            UPDATE progress SET cursor = ?, cursor_mark = NULL, dedup_floor = NULL, pruned_below = NULL, open_cycle = NULL, open_page_state = NULL
            WHERE trigger_id = ?
            """)
        update.bind(1, cursor)
        update.bind(2, trigger)
        try update.run()
        try run("UPDATE \"trigger\" SET generation = generation + 1 WHERE id = ?", trigger.rawValue)
        return try stored(trigger)
    }

    private func checkGeneration(_ trigger: TriggerID, _ generation: Generation) throws {
        let query = try prepare("SELECT generation, name FROM \"trigger\" WHERE id = ?")
        query.bind(1, trigger)
        guard let found = try query.first({ (generation: $0.id(0) as Generation, name: $0.text(1)) }) else {
            throw SluiceError(.notFound, "this trigger was removed", context: ["trigger": trigger.description])
        }
        guard found.generation == generation else {
            throw SluiceError(.conflict, "the trigger \(found.name) was changed meanwhile: look again", context: ["trigger": found.name])
        }
    }

    private func stored(_ trigger: TriggerID) throws -> StoredTrigger {
        guard let stored = try TriggerRow.fetch(db, where: "t.id = ?", { $0.bind(1, trigger) }).first else {
            throw SluiceError(.notFound, "this trigger was removed", context: ["trigger": trigger.description])
        }
        return stored
    }
}
