extension Schema {
    /// Destinations that are stopped, and triggers whose jobs are delivered in their order: of those, all but the first
    /// unsettled delivery to each destination wait (`Transaction.blocked`). A dead letter is unsettled.
    static let deliveryOrder = """
        ALTER TABLE destination ADD COLUMN state TEXT NOT NULL DEFAULT 'active';
        ALTER TABLE destination ADD COLUMN state_reason TEXT;
        ALTER TABLE destination ADD COLUMN state_since INTEGER;
        ALTER TABLE "trigger" ADD COLUMN is_ordered INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE delivery ADD COLUMN is_ordered INTEGER NOT NULL DEFAULT 0;
        CREATE INDEX delivery_ordered ON delivery (ns, destination_id, trigger_id, position) WHERE is_ordered = 1 AND state IN (0, 2);
        """
}
