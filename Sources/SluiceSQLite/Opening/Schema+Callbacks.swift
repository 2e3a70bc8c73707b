extension Schema {
    /// Callbacks. What is due is found by connection in `callback_due`, which holds those that are pending; `callback_tally` counts
    /// these, so that neither the bound nor the next due time costs a look at each of them.
    static let callbacks = """
        CREATE TABLE callback (
            id INTEGER PRIMARY KEY AUTOINCREMENT, ns INTEGER NOT NULL, uid TEXT NOT NULL UNIQUE, connection_id INTEGER NOT NULL,
            trigger_id INTEGER NOT NULL, type TEXT, input BLOB NOT NULL, destination_id INTEGER, token_hash BLOB NOT NULL UNIQUE,
            sealed_token BLOB NOT NULL, idempotency_key TEXT, request_digest BLOB NOT NULL, is_unsafe INTEGER NOT NULL,
            pauses TEXT NOT NULL, generation INTEGER NOT NULL,
            state TEXT NOT NULL, asks INTEGER NOT NULL, created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL,
            next_at INTEGER NOT NULL, last_start_at INTEGER, polls INTEGER NOT NULL, step INTEGER NOT NULL, failures INTEGER NOT NULL,
            signals INTEGER NOT NULL, covered INTEGER NOT NULL, last_error TEXT, ended_at INTEGER, reason TEXT,
            ended_by TEXT, position INTEGER, result BLOB);
        CREATE INDEX callback_due ON callback (ns, connection_id, next_at) WHERE state = 'pending';
        CREATE INDEX callback_state ON callback (ns, state, id);
        CREATE INDEX callback_connection ON callback (ns, connection_id, id);
        CREATE UNIQUE INDEX callback_key ON callback (ns, connection_id, idempotency_key) WHERE idempotency_key IS NOT NULL;
        CREATE INDEX callback_ended ON callback (ended_at) WHERE state <> 'pending';
        CREATE TABLE callback_tally (
            ns INTEGER NOT NULL, connection_id INTEGER NOT NULL, pending INTEGER NOT NULL,
            PRIMARY KEY (ns, connection_id)) WITHOUT ROWID;
        """
}
