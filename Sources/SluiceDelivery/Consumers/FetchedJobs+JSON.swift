import SluiceCore
import SluiceStore

extension FetchedJobs {
    /// `{"lease","expires_at","expires_at_ms","jobs":[…],"more","at_bound"}`: each job as `/v1/jobs` shows it, with `attempt`.
    /// Throws `.internalError` for a job whose trigger `names` does not know.
    public func write(names: (TriggerID) -> JobJSON.TriggerNames?, into bytes: inout [UInt8]) throws(SluiceError) {
        bytes += "{\"lease\":".utf8
        if let lease, !jobs.isEmpty {
            JSONWriter.append(lease.text, to: &bytes)
            bytes += ",\"expires_at\":\"\(expiresAt)\",\"expires_at_ms\":\(expiresAt.milliseconds)".utf8
        } else {
            bytes += "null,\"expires_at\":null,\"expires_at_ms\":null".utf8
        }
        bytes += ",\"jobs\":[".utf8
        for (index, entry) in jobs.enumerated() {
            guard let trigger = names(entry.job.trigger) else {
                throw SluiceError(
                    .internalError, "A job belongs to trigger number \(entry.job.trigger), which is not known yet; ask again.")
            }
            if index > 0 { bytes.append(UInt8(ascii: ",")) }
            JobJSON.write(entry.job, triggerName: trigger.name, uid: trigger.uid, isProjected: entry.isProjected, into: &bytes)
            // Before the brace that ends the job.
            bytes.removeLast()
            bytes += ",\"attempt\":\(entry.attempt)}".utf8
        }
        bytes += "],\"more\":\(more),\"at_bound\":\(isAtBound)}".utf8
    }
}
