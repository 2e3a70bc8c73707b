extension Schema {
    /// Which pending deliveries are claimed: due again only when their claim runs out, unlike retries, which are due later because they
    /// are to wait. It is part of the index, so that claims are found among any number of retries without reading their rows.
    /// `destination.filtered`: how many jobs filters left out, ever.
    static let claims = """
        ALTER TABLE destination ADD COLUMN filtered INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE delivery ADD COLUMN is_claimed INTEGER NOT NULL DEFAULT 0;
        DROP INDEX delivery_pending;
        CREATE INDEX delivery_pending ON delivery (ns, destination_id, next_attempt_at, is_claimed) WHERE state = 0;
        """
}
