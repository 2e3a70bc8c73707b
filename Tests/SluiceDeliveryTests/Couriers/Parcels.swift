import SluiceCore
import SluiceDelivery
import SluiceStore

/// Jobs as a worker hands them to a courier.
enum Parcels {
    static let uid = "7Qx2"

    static func make(_ key: String, record: String? = nil, attempt: Int = 1) -> Parcel {
        let text = record ?? "{\"id\": \"\(key)\",  \"n\":1.50}"
        let job = StoredJob(
            trigger: TriggerID(1), position: JobPosition(7), token: "t", dedupKey: Array(key.utf8), record: Array(text.utf8),
            isDerived: false, cause: .webhook, createdAt: Timestamp(milliseconds: 1_767_225_600_000))
        return Parcel(
            delivery: 1, id: JobIdentity.id(uid: uid, dedupKey: job.dedupKey), job: job, trigger: (name: "orders", uid: uid),
            attempt: attempt)
    }

    static func make(_ range: Range<Int>) -> [Parcel] { range.map { make("k\($0)") } }
}
