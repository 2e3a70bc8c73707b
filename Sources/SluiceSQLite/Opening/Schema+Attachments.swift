extension Schema {
    /// `settings`: filter and projection, a JSON object; empty where there is none.
    /// `catch_up`: kept jobs of a trigger whose deliveries to a destination are still to be intended, after a position and up to
    /// another; without one the destination has them all to come, those that are committed meanwhile too. With a `dead_reason`
    /// they are intended as dead letters; with the one that `Transaction.detachedPending` names, deliveries that are pending become such.
    static let attachmentSettings = """
        ALTER TABLE attachment ADD COLUMN settings BLOB NOT NULL DEFAULT x'';
        CREATE TABLE catch_up (
            id INTEGER PRIMARY KEY AUTOINCREMENT, ns INTEGER NOT NULL, trigger_id INTEGER NOT NULL, destination_id INTEGER NOT NULL,
            after_position INTEGER NOT NULL, through_position INTEGER, dead_reason TEXT);
        CREATE INDEX catch_up_attachment ON catch_up (ns, trigger_id, destination_id);
        """

    /// Dead letters in the order in which they died. A delivery in state 4 is one that was discarded.
    static let deadLetters = """
        ALTER TABLE delivery ADD COLUMN discarded_at INTEGER;
        ALTER TABLE delivery ADD COLUMN discarded_by TEXT;
        ALTER TABLE delivery ADD COLUMN discard_note TEXT;
        CREATE INDEX delivery_died ON delivery (ns, settled_at) WHERE state = 2;
        CREATE INDEX delivery_died_of ON delivery (ns, destination_id, settled_at) WHERE state = 2;
        CREATE INDEX delivery_discarded ON delivery (ns, settled_at) WHERE state = 4;
        """
}
