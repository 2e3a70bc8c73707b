import GRDB
import SluiceCore
import SluiceStore

/// Rows of what is defined, as values.
enum DefinitionRows {
    static func all(_ db: Database, _ namespace: NamespaceID) throws -> Definitions {
        Definitions(
            connections: try rows(
                db,
                """
                SELECT id, name, connector, fields, sealed_secrets, settings, problem, created_at FROM connection
                WHERE ns = ? ORDER BY name
                """,
                namespace
            ) {
                StoredConnection(
                    id: $0.id(0), name: $0.text(1), connector: $0.text(2), fields: $0.bytes(3), sealedSecrets: $0.bytes(4),
                    settings: $0.bytes(5), problem: $0.optionalText(6), createdAt: $0.time(7))
            },
            endpoints: try rows(db, "SELECT connection_id, token, created_at, expires_at FROM endpoint WHERE ns = ? ORDER BY id", namespace)
            {
                StoredEndpoint(connection: $0.id(0), token: $0.text(1), createdAt: $0.time(2), expiresAt: $0.optionalTime(3))
            },
            topics: try rows(
                db, "SELECT id, connection_id, key, signal_sequence, signalled_at FROM topic WHERE ns = ? ORDER BY connection_id, key",
                namespace
            ) {
                StoredTopic(id: $0.id(0), connection: $0.id(1), key: $0.text(2), signalSequence: $0.id(3), signalledAt: $0.time(4))
            },
            triggers: try TriggerRow.fetch(db, where: "t.ns = ?") { $0.bind(1, namespace) },
            destinations: try rows(
                db,
                """
                SELECT id, name, kind, settings, sealed_secrets, state, state_reason, state_since FROM destination
                WHERE ns = ? ORDER BY name
                """, namespace
            ) { row in
                guard let state = DestinationState(rawValue: row.text(5)) else {
                    throw SluiceError(.storage, "the database is damaged: a destination is in the state \(row.text(5))")
                }
                return StoredDestination(
                    id: row.id(0), name: row.text(1), kind: row.text(2), settings: row.bytes(3), sealedSecrets: row.bytes(4), state: state,
                    stateReason: row.optionalText(6), stateSince: row.optionalTime(7))
            },
            attachments: try rows(
                db,
                """
                SELECT a.trigger_id, a.destination_id, a.from_position, a.settings, (
                    SELECT min(c.after_position) FROM catch_up c WHERE c.ns = a.ns AND c.trigger_id = a.trigger_id
                        AND c.destination_id = a.destination_id AND c.dead_reason IS NULL)
                FROM attachment a WHERE a.ns = ? ORDER BY a.trigger_id, a.destination_id
                """,
                namespace
            ) {
                StoredAttachment(
                    trigger: $0.id(0), destination: $0.id(1), fromPosition: $0.id(2), settings: $0.bytes(3),
                    caughtUpTo: $0.optionalInt(4).map(JobPosition.init))
            })
    }

    private static func rows<T>(_ db: Database, _ sql: String, _ namespace: NamespaceID, _ read: (Prepared) throws -> T) throws -> [T] {
        let query = try Prepared(db, sql)
        query.bind(1, namespace)
        return try query.all(read)
    }
}

/// A trigger with its progress and topics.
enum TriggerRow {
    static func fetch(_ db: Database, where condition: String, _ bind: (Prepared) -> Void) throws -> [StoredTrigger] {
        let query = try Prepared(
            db,
            """
            SELECT t.id, t.uid, t.name, t.connection_id, t.type, t.input, t.settings, t.state, t.state_reason, t.generation, t.created_at,
                p.cursor, p.cursor_mark, p.dedup_floor, p.covered_sequence, p.open_cycle, p.open_page_state, p.at_cycle,
                p.cycles_completed, p.last_start_at, p.last_success_at, p.safety_due_at, p.failures, p.retry_at, p.last_error,
                p.last_position, p.polls_by_cause, p.quarantined, p.key_origin, t.reads_inbox, p.pruned_below, p.marked_through
            FROM "trigger" t JOIN progress p ON p.trigger_id = t.id WHERE \(condition) ORDER BY t.name
            """)
        bind(query)
        var triggers = try query.all(decode)
        let topics = try Prepared(
            db,
            """
            SELECT l.trigger_id, l.topic_id, l.through FROM trigger_topic l JOIN "trigger" t ON t.id = l.trigger_id AND t.ns = l.ns
            WHERE \(condition) ORDER BY l.topic_id
            """)
        bind(topics)
        var byTrigger: [TriggerID: [TopicID]] = [:]
        var formers: [TriggerID: [FormerTopic]] = [:]
        for (trigger, topic, through) in try topics.all({ ($0.id(0) as TriggerID, $0.id(1) as TopicID, $0.optionalInt(2)) }) {
            if let through {
                formers[trigger, default: []].append(FormerTopic(topic: topic, through: InboxSequence(through)))
            } else {
                byTrigger[trigger, default: []].append(topic)
            }
        }
        for index in triggers.indices {
            triggers[index].topics = byTrigger[triggers[index].id] ?? []
            triggers[index].formerTopics = formers[triggers[index].id] ?? []
        }
        return triggers
    }

    private static func decode(_ row: Prepared) throws -> StoredTrigger {
        guard let state = TriggerState(rawValue: row.text(7)) else {
            throw SluiceError(.storage, "the database is damaged: a trigger is in the state \(row.text(7))")
        }
        var trigger = StoredTrigger(
            id: row.id(0), uid: row.text(1), name: row.text(2), connection: row.id(3), type: row.text(4), input: row.bytes(5),
            settings: row.bytes(6), state: state, stateReason: row.optionalText(8), generation: row.id(9), topics: [],
            createdAt: row.time(10), progress: try progress(row))
        trigger.readsInbox = row.int(29) != 0
        return trigger
    }

    private static func progress(_ row: Prepared) throws -> TriggerProgress {
        var progress = TriggerProgress()
        progress.cursor = row.optionalBytes(11)
        progress.cursorMark = row.optionalInt(12)
        progress.dedupFloor = row.optionalInt(13)
        progress.coveredSequence = row.id(14)
        progress.openCycle = try row.optionalBytes(15).map { try OpenCycleColumn.decode($0, pageState: row.optionalBytes(16)) }
        progress.lastCycle = row.int(17)
        progress.cyclesCompleted = row.int(18)
        progress.lastStartAt = row.optionalTime(19)
        progress.lastSuccessAt = row.optionalTime(20)
        progress.safetyDueAt = row.optionalTime(21)
        progress.failures = Int(row.int(22))
        progress.retryAt = row.optionalTime(23)
        progress.lastError = row.optionalText(24)
        progress.lastPosition = row.id(25)
        progress.pollsByCause = PollCounts.decode(row.bytes(26))
        progress.quarantined = row.int(27)
        progress.prunedBelow = row.optionalInt(30)
        progress.markedThrough = row.optionalInt(31)
        progress.keyOrigin = try row.optionalBytes(28).map { try KeyOriginColumn.decode($0) }
        return progress
    }
}
