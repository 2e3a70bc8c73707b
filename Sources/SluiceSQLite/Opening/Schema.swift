import GRDB

/// The tables, by versioned migrations. A released migration is never changed; a change is a new one.
///
/// - Every logical key begins with the namespace `ns`, or with an id that stands for it: ids come from one sequence over all
///   namespaces. What belongs to the server has none: `api_token`, `lease`, `fact`, `counter` (decision 63).
/// - Numbers are never used again: small tables leave that to AUTOINCREMENT, the fast ones (inbox, job, delivery) to
///   `counter`, written once a transaction rather than once a row.
/// - `job.seq` is the order of commits, because there is one writer: whoever reads on after a seq misses nothing.
/// - Dedup keys come in the order of the feed, so their tree grows at its right edge. Jobs have no index but those that
///   grow there, too.
enum Schema {
    /// "SLUI", so that `file` and we ourselves can tell whose database it is.
    static let applicationID: Int32 = 0x534C_5549

    static var migrator: DatabaseMigrator {
        var migrator = DatabaseMigrator()
        migrator.registerMigration("1", foreignKeyChecks: .immediate) { db in
            try db.execute(sql: definitions)
            try db.execute(sql: inbox)
            try db.execute(sql: polls)
            try db.execute(sql: delivery)
            try db.execute(sql: upkeep)
            try db.execute(sql: "PRAGMA application_id = \(applicationID)")
        }
        migrator.registerMigration("2 subscriptions", foreignKeyChecks: .immediate) { db in try db.execute(sql: subscriptions) }
        migrator.registerMigration("3 credentials", foreignKeyChecks: .immediate) { db in try db.execute(sql: credentials) }
        migrator.registerMigration("4 inbox readers") { db in try db.execute(sql: inboxReaders) }
        migrator.registerMigration("5 delivery") { db in try db.execute(sql: deliveryOrder) }
        migrator.registerMigration("6 consumers") { db in try db.execute(sql: consumers) }
        migrator.registerMigration("7 attachment settings") { db in try db.execute(sql: attachmentSettings) }
        migrator.registerMigration("8 backfills") { db in try db.execute(sql: backfills) }
        migrator.registerMigration("9 callbacks", foreignKeyChecks: .immediate) { db in try db.execute(sql: callbacks) }
        migrator.registerMigration("10 former keys") { db in try db.execute(sql: formerKeys) }
        migrator.registerMigration("11 dead letters") { db in try db.execute(sql: deadLetters) }
        migrator.registerMigration("12 claims") { db in try db.execute(sql: claims) }
        migrator.registerMigration("14 removals") { db in try db.execute(sql: removals) }
        migrator.registerMigration("15 digest parts") { db in try db.execute(sql: digestParts) }
        migrator.registerMigration("16 former topics") { db in try db.execute(sql: formerTopics) }
        migrator.registerMigration("17 pruned below") { db in try db.execute(sql: prunedBelow) }
        migrator.registerMigration("18 former states") { db in try db.execute(sql: formerStates) }
        return migrator
    }

    /// `is_discarded`: given up by a person; the digest stays, so that the same bytes are not set aside again. And of a page under way
    /// its records say how far it came: the chunk and the epoch of the last commit were read by nobody.
    /// `marked_through`: the highest mark that any dedup key had. `job_key`: of a key whose record became a job under a former one, that one.
    private static let formerStates = """
        ALTER TABLE progress ADD COLUMN marked_through INTEGER;
        UPDATE progress SET marked_through = (SELECT max(d.mark) FROM dedup d WHERE d.ns = progress.ns AND d.space = progress.dedup_space);
        ALTER TABLE dedup ADD COLUMN job_key BLOB;
        ALTER TABLE quarantine ADD COLUMN is_discarded INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE progress DROP COLUMN at_chunk;
        ALTER TABLE progress DROP COLUMN at_epoch;
        """

    /// Refresh tokens that a provider rotates, sealed. One row a connection; `version` grows with every change.
    private static let credentials = """
        CREATE TABLE credential (
            connection_id INTEGER PRIMARY KEY, version INTEGER NOT NULL, sealed BLOB NOT NULL, changed_at INTEGER NOT NULL);
        """

    /// The highest floor by which dedup keys of a trigger were forgotten, since its cursor was set.
    private static let prunedBelow = "ALTER TABLE progress ADD COLUMN pruned_below INTEGER"

    /// A topic that a reader of the inbox listened to before, and the last webhook of it then: NULL where it listens still.
    private static let formerTopics = "ALTER TABLE trigger_topic ADD COLUMN through INTEGER"

    /// Each sixteenth of the digests becomes four parts, written as far as it was.
    private static let digestParts = """
        CREATE TABLE former_mark AS SELECT part, seq FROM inbox_digest_mark;
        DELETE FROM inbox_digest_mark;
        INSERT INTO inbox_digest_mark (part, seq)
            SELECT 4 * part + quarter, seq FROM former_mark, (SELECT 0 AS quarter UNION SELECT 1 UNION SELECT 2 UNION SELECT 3);
        DROP TABLE former_mark;
        """

    /// Webhook-only triggers: what they have not covered stays in the inbox.
    private static let inboxReaders = """
        ALTER TABLE "trigger" ADD COLUMN reads_inbox INTEGER NOT NULL DEFAULT 0;
        CREATE INDEX trigger_reads_inbox ON "trigger" (ns, connection_id) WHERE reads_inbox = 1;
        """

    private static let definitions = """
        CREATE TABLE namespace (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE);
        INSERT INTO namespace (id, name) VALUES (1, 'default');

        CREATE TABLE connection (
            id INTEGER PRIMARY KEY AUTOINCREMENT, ns INTEGER NOT NULL, name TEXT NOT NULL, connector TEXT NOT NULL,
            fields BLOB NOT NULL, sealed_secrets BLOB NOT NULL, settings BLOB NOT NULL, problem TEXT, created_at INTEGER NOT NULL,
            UNIQUE (ns, name));

        CREATE TABLE endpoint (
            id INTEGER PRIMARY KEY AUTOINCREMENT, ns INTEGER NOT NULL, connection_id INTEGER NOT NULL, token TEXT NOT NULL UNIQUE,
            created_at INTEGER NOT NULL, expires_at INTEGER);
        CREATE INDEX endpoint_connection ON endpoint (ns, connection_id);

        CREATE TABLE topic (
            id INTEGER PRIMARY KEY AUTOINCREMENT, ns INTEGER NOT NULL, connection_id INTEGER NOT NULL, key TEXT NOT NULL,
            signal_sequence INTEGER NOT NULL DEFAULT 0, signalled_at INTEGER NOT NULL DEFAULT 0,
            UNIQUE (ns, connection_id, key));

        CREATE TABLE "trigger" (
            id INTEGER PRIMARY KEY AUTOINCREMENT, ns INTEGER NOT NULL, name TEXT NOT NULL, uid TEXT NOT NULL UNIQUE,
            connection_id INTEGER NOT NULL, type TEXT NOT NULL, input BLOB NOT NULL, settings BLOB NOT NULL,
            state TEXT NOT NULL, state_reason TEXT, generation INTEGER NOT NULL, created_at INTEGER NOT NULL,
            UNIQUE (ns, name));
        CREATE INDEX trigger_connection ON "trigger" (ns, connection_id);

        CREATE TABLE trigger_topic (
            ns INTEGER NOT NULL, trigger_id INTEGER NOT NULL, topic_id INTEGER NOT NULL,
            PRIMARY KEY (ns, trigger_id, topic_id)) WITHOUT ROWID;

        CREATE TABLE destination (
            id INTEGER PRIMARY KEY AUTOINCREMENT, ns INTEGER NOT NULL, name TEXT NOT NULL, kind TEXT NOT NULL,
            settings BLOB NOT NULL, sealed_secrets BLOB NOT NULL,
            UNIQUE (ns, name));

        CREATE TABLE attachment (
            ns INTEGER NOT NULL, trigger_id INTEGER NOT NULL, destination_id INTEGER NOT NULL, from_position INTEGER NOT NULL,
            PRIMARY KEY (ns, trigger_id, destination_id)) WITHOUT ROWID;
        """

    /// `digest_head` is the first 48 bits of the digest. Its index is written by `DigestIndex`, not by SQLite.
    private static let inbox = """
        CREATE TABLE inbox (
            seq INTEGER PRIMARY KEY, ns INTEGER NOT NULL, connection_id INTEGER NOT NULL, received_at INTEGER NOT NULL,
            digest_head INTEGER, delivery_digest BLOB, delivery_id TEXT, topics BLOB NOT NULL, unmatched_reason TEXT,
            is_forced INTEGER NOT NULL, method TEXT NOT NULL, path TEXT NOT NULL, query TEXT NOT NULL,
            headers BLOB NOT NULL, body BLOB NOT NULL);
        CREATE INDEX inbox_connection ON inbox (ns, connection_id);
        CREATE INDEX inbox_unmatched ON inbox (ns) WHERE unmatched_reason IS NOT NULL;
        CREATE TABLE inbox_digest (
            ns INTEGER NOT NULL, head INTEGER NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (ns, head, seq)) WITHOUT ROWID;
        CREATE TABLE inbox_digest_mark (part INTEGER PRIMARY KEY, seq INTEGER NOT NULL);
        INSERT INTO inbox_digest_mark (part, seq) WITH RECURSIVE parts (part) AS (
            SELECT 0 UNION ALL SELECT part + 1 FROM parts WHERE part < 15) SELECT part, 0 FROM parts;
        """

    /// A trigger's dedup keys lie in its `dedup_space`; a reset gives it a new one and leaves the old one to be removed
    /// later. `dedup.last_cycle` counts completed cycles.
    /// `progress` is what commits change; `at_*` is the last (cycle, page) committed.
    private static let polls = """
        CREATE TABLE lease (
            shard INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, holder TEXT NOT NULL, acquired_at INTEGER NOT NULL);

        CREATE TABLE progress (
            trigger_id INTEGER PRIMARY KEY, ns INTEGER NOT NULL, dedup_space INTEGER NOT NULL,
            last_position INTEGER NOT NULL DEFAULT 0, cycles_completed INTEGER NOT NULL DEFAULT 0,
            at_cycle INTEGER NOT NULL DEFAULT 0, at_page INTEGER NOT NULL DEFAULT -1, at_chunk INTEGER NOT NULL DEFAULT -1,
            at_complete INTEGER NOT NULL DEFAULT 1, at_epoch INTEGER NOT NULL DEFAULT 0, cycle_jobs INTEGER NOT NULL DEFAULT 0,
            cursor BLOB, cursor_mark INTEGER, dedup_floor INTEGER, covered_sequence INTEGER NOT NULL DEFAULT 0,
            open_cycle TEXT, open_page_state BLOB,
            last_start_at INTEGER, last_success_at INTEGER, safety_due_at INTEGER,
            failures INTEGER NOT NULL DEFAULT 0, retry_at INTEGER, last_error TEXT,
            polls_by_cause TEXT NOT NULL DEFAULT '{}', quarantined INTEGER NOT NULL DEFAULT 0);

        CREATE TABLE dedup (
            ns INTEGER NOT NULL, space INTEGER NOT NULL, key BLOB NOT NULL, mark INTEGER, last_cycle INTEGER NOT NULL,
            PRIMARY KEY (ns, space, key)) WITHOUT ROWID;

        CREATE TABLE job (
            seq INTEGER PRIMARY KEY, ns INTEGER NOT NULL, trigger_id INTEGER NOT NULL, position INTEGER NOT NULL,
            cause TEXT NOT NULL, created_at INTEGER NOT NULL, is_derived INTEGER NOT NULL, dedup_key BLOB NOT NULL,
            record BLOB NOT NULL);
        CREATE UNIQUE INDEX job_position ON job (ns, trigger_id, position);

        CREATE TABLE quarantine (
            id INTEGER PRIMARY KEY AUTOINCREMENT, ns INTEGER NOT NULL, trigger_id INTEGER NOT NULL, digest BLOB NOT NULL,
            reason TEXT NOT NULL, bytes BLOB NOT NULL, created_at INTEGER NOT NULL,
            UNIQUE (ns, trigger_id, digest));
        """

    /// States: 0 pending, 1 delivered, 2 dead.
    private static let delivery = """
        CREATE TABLE delivery (
            id INTEGER PRIMARY KEY, ns INTEGER NOT NULL, destination_id INTEGER NOT NULL, trigger_id INTEGER NOT NULL,
            position INTEGER NOT NULL, job_seq INTEGER NOT NULL, state INTEGER NOT NULL DEFAULT 0,
            next_attempt_at INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, reason TEXT, last_status INTEGER,
            created_at INTEGER NOT NULL, pending_since INTEGER NOT NULL, settled_at INTEGER);
        CREATE UNIQUE INDEX delivery_job ON delivery (ns, job_seq, destination_id);
        CREATE INDEX delivery_pending ON delivery (ns, destination_id, next_attempt_at) WHERE state = 0;
        CREATE INDEX delivery_dead ON delivery (ns, destination_id) WHERE state = 2;

        CREATE TABLE attempt (
            id INTEGER PRIMARY KEY AUTOINCREMENT, ns INTEGER NOT NULL, delivery_id INTEGER NOT NULL, at INTEGER NOT NULL,
            status INTEGER, error TEXT, response BLOB NOT NULL, duration_milliseconds INTEGER NOT NULL);
        CREATE INDEX attempt_delivery ON attempt (ns, delivery_id);
        """

    /// Subscriptions at providers, and those that were left behind there. Rows outlive their trigger: what is left is shown.
    private static let subscriptions = """
        CREATE TABLE subscription (
            id INTEGER PRIMARY KEY AUTOINCREMENT, ns INTEGER NOT NULL, trigger_id INTEGER NOT NULL, connection_id INTEGER NOT NULL,
            type TEXT NOT NULL, input BLOB NOT NULL, token TEXT UNIQUE, url TEXT NOT NULL, sealed BLOB NOT NULL,
            generation INTEGER NOT NULL, created_at INTEGER NOT NULL,
            phase TEXT NOT NULL, key TEXT NOT NULL, found_id TEXT, has_output INTEGER NOT NULL, is_uncertain INTEGER NOT NULL,
            must_replace INTEGER NOT NULL, may_be_doubled INTEGER NOT NULL, attempts INTEGER NOT NULL, phase_since INTEGER NOT NULL,
            next_at INTEGER NOT NULL, check_at INTEGER NOT NULL, doubt_until INTEGER, expires_at INTEGER, refresh_at INTEGER,
            checked_at INTEGER, last_check TEXT, last_error TEXT);
        CREATE INDEX subscription_connection ON subscription (ns, connection_id);
        """

    /// `garbage`: what a removal left behind, removed piece by piece so that the writer is never busy for long.
    private static let upkeep = """
        CREATE TABLE api_token (
            id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, hash BLOB NOT NULL, created_at INTEGER NOT NULL);
        CREATE TABLE fact (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
        CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
        INSERT INTO counter (name, value) VALUES ('inbox', 0), ('job', 0), ('delivery', 0), ('space', 0);
        CREATE TABLE garbage (id INTEGER PRIMARY KEY AUTOINCREMENT, ns INTEGER NOT NULL, kind TEXT NOT NULL, target INTEGER NOT NULL);
        """
}
