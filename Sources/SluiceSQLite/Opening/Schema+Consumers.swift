extension Schema {
    /// Consumers: their position, what they have in hand, and what comes again. Sets of jobs are runs of `job.seq`.
    ///
    /// `consumer_trigger`: which triggers' jobs are a consumer's, those after `after_seq`.
    /// `consumer_left`: jobs that were not handed out when their trigger was detached; they become dead letters bit by bit.
    /// `removal`: up to where retention removed jobs of a trigger. A later row that reaches as far takes the place of an
    /// earlier one, so that there are few. A token knows the last one of its time: what was removed since is missed.
    static let consumers = """
        CREATE TABLE consumer (
            destination_id INTEGER PRIMARY KEY, ns INTEGER NOT NULL, position INTEGER NOT NULL, high_water INTEGER NOT NULL,
            last_lease INTEGER NOT NULL DEFAULT 0, moved_at INTEGER NOT NULL);
        CREATE TABLE consumer_trigger (
            destination_id INTEGER NOT NULL, trigger_id INTEGER NOT NULL, after_seq INTEGER NOT NULL,
            PRIMARY KEY (destination_id, trigger_id)) WITHOUT ROWID;
        CREATE TABLE consumer_lease (
            destination_id INTEGER NOT NULL, number INTEGER NOT NULL, nonce INTEGER NOT NULL, worker TEXT, taken_at INTEGER NOT NULL,
            expires_at INTEGER NOT NULL, visibility INTEGER NOT NULL, is_open INTEGER NOT NULL, jobs BLOB NOT NULL, state BLOB NOT NULL,
            PRIMARY KEY (destination_id, number)) WITHOUT ROWID;
        CREATE TABLE consumer_returned (
            destination_id INTEGER NOT NULL, id INTEGER NOT NULL, attempts INTEGER NOT NULL, due_at INTEGER NOT NULL, reason TEXT,
            jobs BLOB NOT NULL, PRIMARY KEY (destination_id, id)) WITHOUT ROWID;
        CREATE TABLE consumer_left (
            id INTEGER PRIMARY KEY AUTOINCREMENT, ns INTEGER NOT NULL, destination_id INTEGER NOT NULL, trigger_id INTEGER NOT NULL,
            after_seq INTEGER NOT NULL, through_seq INTEGER NOT NULL);
        CREATE TABLE removal (
            id INTEGER PRIMARY KEY AUTOINCREMENT, ns INTEGER NOT NULL, trigger_id INTEGER NOT NULL, max_seq INTEGER NOT NULL);
        CREATE INDEX removal_reach ON removal (ns, max_seq);

        INSERT INTO consumer (destination_id, ns, position, high_water, moved_at)
            SELECT id, ns, 0, 0, CAST(strftime('%s', 'now') AS INTEGER) * 1000 FROM destination WHERE kind = 'pull';
        INSERT INTO consumer_trigger (destination_id, trigger_id, after_seq)
            SELECT a.destination_id, a.trigger_id, coalesce(
                (SELECT j.seq FROM job j WHERE j.ns = a.ns AND j.trigger_id = a.trigger_id AND j.position <= a.from_position
                    ORDER BY j.position DESC LIMIT 1), 0)
            FROM attachment a JOIN destination d ON d.id = a.destination_id WHERE d.kind = 'pull';
        """
}
