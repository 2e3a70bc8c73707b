/// What goes wrong with cursors (docs/CONNECTORS.md): the rows of the table that `sluice connector simulate` prints.
public enum ConnectorTrap: String, Sendable, CaseIterable {
    case equalTimestamps = "equal-timestamps"
    case pageEdgeTie = "tie-at-page-edge"
    case pageWideTie = "page-wide-tie"
    case lateVisibility = "late-visibility"
    case roundedPrecision = "rounded-precision"
    case clockSkew = "clock-skew"
    case futureDated = "future-dated"
    case noZone = "no-zone"
    case unordered = "unordered-feed"
    case changedAgain = "changed-again"
    case shiftingPages = "shifting-pages"
    case crash = "crash-at-every-step"
    case expiringToken = "expiring-token"
    case deletedAnchor = "deleted-anchor"
    case retentionGap = "retention-gap"
    case poisonRecord = "poison-record"
    case keptStart = "kept-start"
    case idleFeed = "idle-feed"
    case idReset = "id-reset"

    /// What the stand-in does.
    public var explanation: String {
        switch self {
        case .equalTimestamps: "a record comes with the timestamp that the cursor already stands at"
        case .pageEdgeTie: "records on both sides of a page's end share a timestamp"
        case .pageWideTie: "more records than a page holds share one timestamp"
        case .lateVisibility: "a record shows up after newer ones, within the time that the connector declares"
        case .roundedPrecision: "times are finer than the cursor counts"
        case .clockSkew: "this machine's clock and the provider's differ by seconds or hours"
        case .futureDated: "a record is dated days ahead"
        case .noZone: "times come without a zone"
        case .unordered: "the list says nothing of time"
        case .changedAgain: "a record that was read changes, and changes again"
        case .shiftingPages: "records move between pages while they are read"
        case .crash: "the process dies before or after each commit of a cycle, and goes on"
        case .expiringToken: "the page token is refused in the middle of a cycle"
        case .deletedAnchor: "the record that marks the place is deleted"
        case .retentionGap: "the source has dropped what came since the last poll"
        case .poisonRecord: "one record lacks its id or its time"
        case .keptStart: "the first poll finds nothing, and the second comes hours later"
        case .idleFeed: "polls with nothing new between them"
        case .idReset: "a long poll's ids begin anew"
        }
    }
}
