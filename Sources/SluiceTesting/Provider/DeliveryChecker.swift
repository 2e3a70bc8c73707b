import SluiceCore

/// Compares what a provider changed with the jobs that came of it. Pure, and shares nothing with Sluice but the reading
/// of JSON: the judge is not the accused's counters.
///
/// What it demands of every trigger, for each resource that the trigger delivers:
/// - every record that was created has a job (in some version: a version that was replaced before a poll is no loss),
/// - every record's *last* version has a job (unless the last change deleted it: lists leave deleted records out),
/// - no version (`id@updated_at`) has two jobs, nor do two jobs share a dedup key,
/// - a job's record has, byte for byte, what the provider served for that version,
/// - no job is about a version that the provider never made.
/// And of all triggers together: each resource with changes is delivered by one of them at least.
public struct DeliveryChecker: Sendable {
    /// A job as `/v1/jobs` shows it, as far as it matters here.
    public struct Job: Sendable {
        public var id: String
        public var trigger: String
        public var position: Int64
        public var dedupKey: String
        public var createdAt: Timestamp
        public var record: [UInt8]
        public init(id: String, trigger: String, position: Int64, dedupKey: String, createdAt: Timestamp, record: [UInt8]) {
            self.id = id
            self.trigger = trigger
            self.position = position
            self.dedupKey = dedupKey
            self.createdAt = createdAt
            self.record = record
        }
    }

    public struct Verdict: Sendable {
        public var changes = 0
        public var jobs = 0
        public var missing: [String] = []
        public var doubled: [String] = []
        public var altered: [String] = []
        public var invented: [String] = []
        /// Versions without a job that a later version of the same record had replaced: no loss.
        public var replacedUnseen = 0
        /// Milliseconds from a change to its job, ascending.
        public var changeToJobMilliseconds: [Int64] = []

        public var isClean: Bool { missing.isEmpty && doubled.isEmpty && altered.isEmpty && invented.isEmpty }

        /// The latency that `share` of all jobs stay within, in milliseconds; nil without jobs. Nearest rank.
        public func changeToJobMilliseconds(share: Double) -> Int64? {
            let count = changeToJobMilliseconds.count
            if count == 0 { return nil }
            return changeToJobMilliseconds[min(count - 1, max(0, Int((share * Double(count)).rounded(.up)) - 1))]
        }
    }

    private struct Version: Hashable, Sendable {
        var resource: String
        var key: String
    }

    private struct Delivery: Hashable, Sendable {
        var trigger: String
        var version: Version
    }

    /// Only jobs of these triggers count; nil for all.
    public let triggers: Set<String>?
    private var changes: [ProviderChange] = []
    private var changeByVersion: [Version: Int] = [:]
    private var jobs: [Job] = []

    public init(triggers: Set<String>? = nil) { self.triggers = triggers }

    public var changeCount: Int { changes.count }
    public var jobCount: Int { jobs.count }

    /// Takes the change log's next entry.
    public mutating func add(_ change: ProviderChange) {
        changeByVersion[Version(resource: change.resource, key: change.key)] = changes.count
        changes.append(change)
    }

    /// Takes a job.
    public mutating func add(_ job: Job) {
        if triggers?.contains(job.trigger) ?? true { jobs.append(job) }
    }

    /// Judges what was added. Only changes that were visible by `cutoff` can be missing; the jobs must have been read
    /// after that, and the change log after the jobs, or else new jobs look invented.
    public func verdict(cutoff: Timestamp = .distantFuture) -> Verdict {
        var verdict = Verdict()
        verdict.changes = changes.count
        verdict.jobs = jobs.count
        let delivered = judgeJobs(&verdict)
        judgeChanges(delivered, cutoff: cutoff, &verdict)
        verdict.changeToJobMilliseconds.sort()
        return verdict
    }

    private func judgeJobs(_ verdict: inout Verdict) -> Set<Delivery> {
        var delivered: Set<Delivery> = []
        var keys: Set<[String]> = []
        var positions: Set<[String]> = []
        for job in jobs {
            let name = "\(job.trigger) \(job.dedupKey) (\(job.id))"
            let isNewKey = keys.insert([job.trigger, job.dedupKey]).inserted
            let isNewPosition = positions.insert([job.trigger, String(job.position)]).inserted
            guard let (version, inner) = DeliveryChecker.identify(job.record), let index = changeByVersion[version] else {
                verdict.invented.append(name)
                continue
            }
            let isNew = delivered.insert(Delivery(trigger: job.trigger, version: version)).inserted
            if !isNew || !isNewKey || !isNewPosition { verdict.doubled.append(name) }
            if inner != changes[index].record[...] { verdict.altered.append(name) }
            if isNew { verdict.changeToJobMilliseconds.append((job.createdAt - changes[index].madeAt).milliseconds) }
        }
        return delivered
    }

    /// A job's record may be the record itself or, as in the list's answer, `{"subscription":{…}}`.
    private static func identify(_ record: [UInt8]) -> (Version, ArraySlice<UInt8>)? {
        guard var view = try? JSONDocument(record).root, view.bytes.count == record.count else { return nil }
        if view["id"] == nil, let members = view.members, members.count == 1 { view = members[0].value }
        guard let resource = view["object"]?.string, let id = view["id"]?.string, let updatedAt = view["updated_at"]?.int64 else {
            return nil
        }
        return (Version(resource: resource, key: "\(id)@\(updatedAt)"), view.bytes)
    }

    private func judgeChanges(_ delivered: Set<Delivery>, cutoff: Timestamp, _ verdict: inout Verdict) {
        var triggersByResource: [String: Set<String>] = [:]
        for delivery in delivered { triggersByResource[delivery.version.resource, default: []].insert(delivery.trigger) }
        var versionsByRecord: [String: [Int]] = [:]
        for (index, change) in changes.enumerated() { versionsByRecord["\(change.resource) \(change.id)", default: []].append(index) }
        // In the order of the log, so that the first offenders are the oldest.
        for (index, change) in changes.enumerated() where change.kind == .created {
            let versions = versionsByRecord["\(change.resource) \(change.id)"] ?? [index]
            for trigger in triggersByResource[change.resource] ?? ["(no trigger)"] {
                judge(versions.map { changes[$0] }, trigger: trigger, delivered, cutoff: cutoff, &verdict)
            }
        }
    }

    private func judge(
        _ versions: [ProviderChange], trigger: String, _ delivered: Set<Delivery>, cutoff: Timestamp, _ verdict: inout Verdict
    ) {
        guard let first = versions.first, let last = versions.last, last.kind != .deleted else { return }
        let unseen = versions.filter {
            !delivered.contains(Delivery(trigger: trigger, version: Version(resource: $0.resource, key: $0.key)))
        }
        if unseen.contains(where: { $0.sequence == last.sequence }) {
            if last.visibleAt <= cutoff {
                verdict.missing.append("\(trigger) \(last.resource) \(last.key)")
            } else if unseen.count == versions.count, first.visibleAt <= cutoff {
                verdict.missing.append("\(trigger) \(first.resource) \(first.id), in any version")
            }
        }
        verdict.replacedUnseen += unseen.filter { $0.sequence != last.sequence }.count
    }
}
