import SluiceConnectors
import SluiceCore

/// What a connector's file says of a list, as far as people change it while triggers run.
struct Description: Hashable {
    /// What tells one state of a record from another.
    enum Dedup: String, CaseIterable {
        case version
        case versionAndTime
        /// The id alone: each record is a job once, and its changes are not asked for.
        case id

        var ignoresChanges: Bool { self == .id }
        var versions: [JSONPath] {
            switch self {
            case .version: [JSONPath(["version"])]
            case .versionAndTime: [JSONPath(["version"]), JSONPath(["updated_at"])]
            case .id: []
            }
        }
    }
    var dedup = Dedup.version
    var lookbackSeconds: Int64

    /// For `ConnectorDefinition.hash`.
    var hash: String { "\(dedup.rawValue) \(lookbackSeconds)" }

    init(dedup: Dedup = .version, lookbackSeconds: Int64) { (self.dedup, self.lookbackSeconds) = (dedup, lookbackSeconds) }
}

/// A description, ready to poll with.
struct DescribedPoll {
    let description: Description
    let rules: Incremental
    let poll: IncrementalPoll

    init(_ description: Description, of feed: Feed, overlap: Int64?, since: Int64) {
        self.description = description
        rules = feed.incremental(description, overlap: overlap, since: since)
        poll = IncrementalPoll(rules)
    }
}
