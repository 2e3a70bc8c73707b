import SluiceCore

/// Destinations that were attached from an earlier position: the deliveries of the jobs that were there already are intended
/// piece by piece, so that nobody who writes waits for a million of them.
///
/// The store notes durably how far it came, in the transaction that attaches, so a crash in between loses nothing. Until such
/// a destination has caught up, what its trigger commits is not intended with its job but by the note, which covers it: so the
/// jobs come in the order of their positions, and none overtakes those that were there before.
public protocol CatchUpStore: Sendable {
    /// Intends the next deliveries, about `limit` of them. Call again while `isPartial`.
    func catchUp(limit: Int, at time: Timestamp) async throws -> CatchUpReport
}

public struct CatchUpReport: Sendable, Equatable {
    public var intended: Int
    public var isPartial: Bool
    public init(intended: Int = 0, isPartial: Bool = false) {
        self.intended = intended
        self.isPartial = isPartial
    }
}
