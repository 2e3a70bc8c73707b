import SluiceCore

/// One answer of `GET /v1/jobs`, read without touching the records' bytes.
public struct JobsPage: Sendable {
    public var jobs: [DeliveryChecker.Job]
    /// The token to go on from; nil where the server gave none.
    public var next: String?
    public var hasMore: Bool

    /// Reads `{"jobs":[{"id","trigger","position","dedup_key","created_at_ms","record",…}],"next":"…","more":false}`.
    /// Throws where that shape is broken: a job that cannot be read must not look like a missing one.
    public init(_ body: [UInt8]) throws {
        let root = try JSONDocument(body, depthMax: 200).root
        guard let list = root["jobs"]?.elements, let more = root["more"]?.bool else { throw JobsPage.fault("it has no jobs or no more") }
        jobs = try list.map { job in
            guard let id = job["id"]?.string, let trigger = job["trigger"]?.string, let position = job["position"]?.int64,
                let key = job["dedup_key"]?.string, let createdAt = job["created_at_ms"]?.int64, let record = job["record"]
            else { throw JobsPage.fault("one of its jobs lacks a field: \(String(decoding: job.bytes.prefix(200), as: UTF8.self))") }
            return DeliveryChecker.Job(
                id: id, trigger: trigger, position: position, dedupKey: key, createdAt: Timestamp(milliseconds: createdAt),
                record: Array(record.bytes))
        }
        next = root["next"]?.string
        hasMore = more
        if hasMore && next == nil { throw JobsPage.fault("it promises more and gives no token") }
    }

    private static func fault(_ text: String) -> SluiceError {
        SluiceError(.providerAnswer, "A page of /v1/jobs is not as agreed: \(text).")
    }
}
