import SluiceCore
import SluiceStore

/// Which jobs of a trigger a destination gets, and in what form: a filter and a projection.
public protocol JobSieve: Sendable {
    /// Throws what the filter said, with its line, where it fails on this job: then the job becomes a dead letter, reason
    /// `filter`, rather than being left out unseen.
    func sift(_ job: StoredJob) throws(SluiceError) -> Sifted
}

public enum Sifted: Sendable, Equatable {
    /// The record as the destination is to get it: untouched, or with the projected fields only (their bytes as they came).
    case pass(record: [UInt8], isProjected: Bool)
    /// The filter says no: settled, as `filtered`.
    case skip
}
