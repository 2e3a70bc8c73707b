/// One state of a record whose version is a time of a second or coarser: two changes within it show the same version.
///
/// ```
/// read while the granule runs:  the key is new → a job, and this state is noted; another state → a job of its own
/// read once it is over:         what was noted is compared for the last time; from then on the key alone tells
/// ```
public struct RecordState: Sendable, Equatable {
    /// A digest of the record as the provider sent it, as text.
    public var digest: [UInt8]
    /// Whether a later change may still show the same version.
    public var isOpen: Bool

    public init(digest: [UInt8], isOpen: Bool) {
        self.digest = digest
        self.isOpen = isOpen
    }

    static let mark = Array("@state:".utf8)

    /// The record's dedup key, given that of a job: of one that is not the first of its version, without the state.
    public static func dedupKey(ofJob key: [UInt8]) -> [UInt8] {
        key.ranges(of: mark).last.map { Array(key[..<$0.lowerBound]) } ?? key
    }
}

extension KeyedRecord {
    /// Notes that a record became a job while its version was open.
    public var openKey: [UInt8] { dedupKey + RecordState.mark + Array("open".utf8) }
    /// Notes a state, and is the dedup key of its job where it is not the first one. Nil where the version tells states apart.
    public var stateKey: [UInt8]? { state.map { dedupKey + RecordState.mark + $0.digest } }
}
