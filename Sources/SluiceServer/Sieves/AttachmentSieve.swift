import SluiceCore
import SluiceDelivery
import SluiceLua
import SluiceStore

/// The filter and the projection of one attachment, ready to be applied.
struct AttachmentSieve: JobSieve {
    let settings: AttachmentSettings
    let filter: LuaFilter?
    let projection: JSONProjection?
    let trigger: JobJSON.TriggerNames

    /// Throws `.filter` or `.invalid` with what is wrong with the settings.
    init(_ settings: AttachmentSettings, trigger: JobJSON.TriggerNames) throws(SluiceError) {
        self.settings = settings
        self.trigger = trigger
        (filter, projection) = try settings.checked()
    }

    func sift(_ job: StoredJob) throws(SluiceError) -> Sifted {
        if let filter, try !filter.passes(job.record, filtered(job)) { return .skip }
        guard let projection else { return .pass(record: job.record, isProjected: false) }
        guard let record = projection.project(job.record[...]) else {
            throw SluiceError(.filter, "the record is not an object, so no `fields` can be taken from it")
        }
        return .pass(record: record, isProjected: true)
    }

    private func filtered(_ job: StoredJob) -> FilteredJob {
        let (uid, key) = (trigger.uid, job.dedupKey)
        return FilteredJob(
            id: { JobIdentity.id(uid: uid, dedupKey: key) }, trigger: trigger.name, position: job.position.rawValue,
            cause: job.cause.rawValue, createdAt: job.createdAt, isDerived: job.isDerived, isDeletion: job.isDeletion)
    }
}

/// Stands where the settings that are stored cannot be used, after a downgrade for example: each job becomes a dead letter that
/// says so, rather than reaching a destination it was not meant for or being left out unseen.
struct BrokenSieve: JobSieve {
    let error: SluiceError
    func sift(_ job: StoredJob) throws(SluiceError) -> Sifted { throw error }
}
