import SluiceCore

/// Records that were set aside because they could not be read or keyed.
public protocol QuarantineStore: Sendable {
    /// The newest first, without those that were discarded.
    func quarantine(_ namespace: NamespaceID, trigger: TriggerID, limit: Int) async throws -> [QuarantinedRecord]

    /// Makes jobs of records that were set aside, under the keys that they have now, and takes them out of the quarantine: one
    /// transaction, in which the generation is checked. A record that is a job already makes none. What is discarded is kept in mind:
    /// the same bytes are not set aside again. Throws `.conflict` where the
    /// trigger has changed, `.notFound` where it is gone.
    func retryQuarantine(_ retry: QuarantineRetry) async throws -> QuarantineRetryReport
}

/// How much of one trigger may be set aside (P10): a provider that sends nothing but what nobody can key must not fill the disk. A commit
/// that would set more aside throws `.quarantineFull` and stores nothing, so that the cursor stays before it. Where nothing is set aside yet one
/// page is taken, whatever it holds.
public enum QuarantineLimits {
    public static let recordsMax = 10_000
    public static let bytesMax = 128 << 20

    public static let full = SluiceError(
        .quarantineFull,
        "as much of this trigger is set aside as may be (\(recordsMax) records, \(bytesMax >> 20) MiB), so nothing is read on, and nothing is "
            + "lost: see why with `sluice trigger quarantine NAME`, mend the connector and make jobs of them with --retry, or give them up "
            + "with --discard")
}

public struct QuarantineRetry: Sendable {
    public var trigger: TriggerID
    public var generation: Generation
    /// What has become of each part that was set aside, by its digest: one record, or those of a webhook.
    public var records: [(digest: [UInt8], keyed: [KeyedRecord])]
    /// The digests of those that are given up: nothing is made of them.
    public var discarded: [[UInt8]]
    public var at: Timestamp

    public init(
        trigger: TriggerID, generation: Generation, records: [(digest: [UInt8], keyed: [KeyedRecord])], discarded: [[UInt8]] = [],
        at: Timestamp
    ) {
        self.trigger = trigger
        self.generation = generation
        self.records = records
        self.discarded = discarded
        self.at = at
    }
}

public struct QuarantineRetryReport: Sendable, Equatable {
    /// Jobs that were made.
    public var jobs: Int
    /// Records that left the quarantine: those that became jobs, or were jobs already, or are given up.
    public var removed: Int
    public init(jobs: Int, removed: Int) {
        self.jobs = jobs
        self.removed = removed
    }
}
