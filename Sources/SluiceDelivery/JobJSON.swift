import SluiceCore
import SluiceStore

/// Jobs as JSON: put together from bytes, so that a record reaches its reader exactly as it came from the provider.
public enum JobJSON {
    /// What a trigger is called outside the store.
    public typealias TriggerNames = (name: String, uid: String)

    /// One job as `/v1/jobs` shows it. A job that was read without its record has no `record`.
    ///
    ///     {"id":"job_…","trigger":"orders","position":1,"seq_token":"…","created_at":"2026-01-01T00:00:00.000Z",
    ///      "created_at_ms":1767225600000,"dedup_key":"id@updated_at","derived":false,"cause":"webhook","record":{…}}
    ///
    /// A job whose record says that the item is gone has `"deleted":true` as well, and one whose record is a projection, as its
    /// destination wants it, `"projected":true`.
    public static func write(
        _ job: StoredJob, triggerName: String, uid: String, isProjected: Bool = false, into bytes: inout [UInt8]
    ) {
        bytes.reserveCapacity(bytes.count + job.record.count + 512)
        bytes.append(UInt8(ascii: "{"))
        writeIdentity(job, triggerName: triggerName, uid: uid, into: &bytes)
        bytes += ",\"seq_token\":".utf8
        JSONWriter.append(job.token, to: &bytes)
        bytes += ",\"created_at\":\"\(job.createdAt)\",\"created_at_ms\":\(job.createdAt.milliseconds)".utf8
        writeRest(job, isProjected: isProjected, into: &bytes)
        bytes.append(UInt8(ascii: "}"))
    }

    /// A page of jobs: `{"jobs":[…],"next":"opaque","more":false}`. Throws `.internalError` for a job whose trigger
    /// `names` does not know: read the definitions again and write the page again; leaving the job out would lose it.
    public static func write(
        _ page: JobPage, names: (TriggerID) -> TriggerNames?, into bytes: inout [UInt8]
    ) throws(SluiceError) {
        bytes += "{\"jobs\":[".utf8
        for (index, job) in page.jobs.enumerated() {
            guard let trigger = names(job.trigger) else {
                throw SluiceError(.internalError, "A job belongs to trigger number \(job.trigger), which is not known yet; ask again.")
            }
            if index > 0 { bytes.append(UInt8(ascii: ",")) }
            write(job, triggerName: trigger.name, uid: trigger.uid, into: &bytes)
        }
        bytes += "],\"next\":".utf8
        JSONWriter.append(page.next, to: &bytes)
        bytes += (page.more ? ",\"more\":true}" : ",\"more\":false}").utf8
    }

    /// The body of a push. It is the same for each attempt: `timestamp` is when the job was made (Standard Webhooks,
    /// "Payload structure").
    ///
    ///     {"type":"job","timestamp":"…","data":{"id":"job_…","trigger":"orders","position":1,"created_at":"…",
    ///      "dedup_key":"…","derived":false,"cause":"webhook","record":{…}}}
    /// `id`: the job's, where it is known already.
    public static func pushBody(_ job: StoredJob, triggerName: String, uid: String, id: String? = nil, isProjected: Bool = false) -> [UInt8]
    {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(job.record.count + 512)
        let createdAt = job.createdAt.description
        bytes += "{\"type\":\"job\",\"timestamp\":\"\(createdAt)\",\"data\":".utf8
        writeCarried(job, triggerName: triggerName, uid: uid, id: id, createdAt: createdAt, isProjected: isProjected, into: &bytes)
        bytes.append(UInt8(ascii: "}"))
        return bytes
    }

    /// A job as it is carried: what a push has under `data`, and what a command, a file and a broker get. `id` and `createdAt`:
    /// where they are known already.
    public static func writeCarried(
        _ job: StoredJob, triggerName: String, uid: String, id: String? = nil, createdAt: String? = nil, isProjected: Bool = false,
        into bytes: inout [UInt8]
    ) {
        bytes.reserveCapacity(bytes.count + job.record.count + 512)
        bytes.append(UInt8(ascii: "{"))
        writeIdentity(job, triggerName: triggerName, uid: uid, id: id, into: &bytes)
        bytes += ",\"created_at\":\"\(createdAt ?? job.createdAt.description)\"".utf8
        writeRest(job, isProjected: isProjected, into: &bytes)
        bytes.append(UInt8(ascii: "}"))
    }

    private static func writeIdentity(_ job: StoredJob, triggerName: String, uid: String, id: String? = nil, into bytes: inout [UInt8]) {
        bytes += "\"id\":".utf8
        JSONWriter.append(id ?? JobIdentity.id(uid: uid, dedupKey: job.dedupKey), to: &bytes)
        bytes += ",\"trigger\":".utf8
        JSONWriter.append(triggerName, to: &bytes)
        bytes += ",\"position\":\(job.position)".utf8
    }

    private static func writeRest(_ job: StoredJob, isProjected: Bool, into bytes: inout [UInt8]) {
        bytes += ",\"dedup_key\":".utf8
        // Bytes that are not UTF-8 become U+FFFD: JSON has no way to say them, and the id is made from the raw key.
        JSONWriter.append(String(decoding: job.dedupKey, as: UTF8.self), to: &bytes)
        if job.isDeletion { bytes += ",\"deleted\":true".utf8 }
        if isProjected { bytes += ",\"projected\":true".utf8 }
        bytes += (job.isDerived ? ",\"derived\":true,\"cause\":\"" : ",\"derived\":false,\"cause\":\"").utf8
        bytes += job.cause.rawValue.utf8
        bytes.append(UInt8(ascii: "\""))
        guard !job.record.isEmpty else { return }
        bytes += ",\"record\":".utf8
        bytes += job.record
    }
}
