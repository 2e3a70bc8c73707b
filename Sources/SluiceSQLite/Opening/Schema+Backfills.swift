extension Schema {
    /// - `backfill`: one row each; `step` counts its commits. A trigger has one at most that has not ended.
    /// - `backfill_key`: while one runs, the dedup keys of both sides, see `BackfillFlags`; empty once it is done.
    /// - `backfill_difference`: what came of it. `kind`: 1 missing, 2 extra, 3 known by its key only.
    /// - `removed_jobs`: how far retention has come in each trigger. What went before there was this table is guessed from the
    ///   first job that is left.
    static let backfills = """
        CREATE TABLE backfill (
            id INTEGER PRIMARY KEY AUTOINCREMENT, ns INTEGER NOT NULL, trigger_id INTEGER NOT NULL, connection_id INTEGER NOT NULL,
            mode TEXT NOT NULL, is_audit INTEGER NOT NULL, from_time INTEGER NOT NULL, to_time INTEGER NOT NULL,
            definition BLOB NOT NULL, notes TEXT NOT NULL, state TEXT NOT NULL, phase TEXT NOT NULL, step INTEGER NOT NULL,
            gathered INTEGER NOT NULL, gather_to INTEGER NOT NULL, cursor BLOB NOT NULL, page_state BLOB, connector TEXT NOT NULL,
            counts TEXT NOT NULL, failures INTEGER NOT NULL, retry_at INTEGER, last_error TEXT,
            created_at INTEGER NOT NULL, progress_at INTEGER NOT NULL, ended_at INTEGER);
        CREATE INDEX backfill_trigger ON backfill (ns, trigger_id);
        CREATE UNIQUE INDEX backfill_unfinished ON backfill (trigger_id) WHERE ended_at IS NULL;

        CREATE TABLE backfill_key (
            backfill_id INTEGER NOT NULL, key BLOB NOT NULL, flags INTEGER NOT NULL, position INTEGER,
            PRIMARY KEY (backfill_id, key)) WITHOUT ROWID;
        CREATE TABLE backfill_difference (
            backfill_id INTEGER NOT NULL, kind INTEGER NOT NULL, key BLOB NOT NULL, position INTEGER,
            PRIMARY KEY (backfill_id, kind, key)) WITHOUT ROWID;

        CREATE TABLE removed_jobs (
            trigger_id INTEGER PRIMARY KEY, position INTEGER NOT NULL, made_at INTEGER NOT NULL);
        INSERT INTO removed_jobs (trigger_id, position, made_at)
            SELECT t.id, j.position - 1, j.created_at FROM "trigger" t JOIN job j ON j.ns = t.ns AND j.trigger_id = t.id
                AND j.position = (SELECT min(k.position) FROM job k WHERE k.ns = t.ns AND k.trigger_id = t.id)
            WHERE j.position > 1;
        """
}
