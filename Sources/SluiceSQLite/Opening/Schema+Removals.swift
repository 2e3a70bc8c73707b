extension Schema {
    /// `removal` alone says what retention removed (see `RemovedJobs`). What was known of a trigger by `removed_jobs` only tells no
    /// reader anything: its row reaches nobody.
    static let removals = """
        ALTER TABLE removal ADD COLUMN position INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE removal ADD COLUMN made_at INTEGER NOT NULL DEFAULT 0;
        DELETE FROM removal WHERE NOT EXISTS (SELECT 1 FROM progress p WHERE p.trigger_id = removal.trigger_id);
        INSERT INTO removal (ns, trigger_id, max_seq, position, made_at)
            SELECT p.ns, r.trigger_id, 0, r.position, r.made_at FROM removed_jobs r JOIN progress p ON p.trigger_id = r.trigger_id;
        DROP TABLE removed_jobs;
        CREATE INDEX removal_trigger ON removal (trigger_id, max_seq);
        """
}
