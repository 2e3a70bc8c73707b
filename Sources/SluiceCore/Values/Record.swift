/// One upstream item, its bytes kept as they came.
public struct Record: Sendable {
    /// One JSON value, sharing the storage of its page.
    public var bytes: ArraySlice<UInt8>
    /// Whether a connector changed it, so that these are no longer the provider's bytes.
    public var isDerived: Bool
    /// Whether it says that the item is gone (a tombstone).
    public var isDeletion: Bool

    public init(bytes: ArraySlice<UInt8>, isDerived: Bool = false, isDeletion: Bool = false) {
        self.bytes = bytes
        self.isDerived = isDerived
        self.isDeletion = isDeletion
    }

    /// A look into the record.
    public var view: JSONView { JSONView(checked: bytes) }
}

/// A record with what the commit needs to know of it.
public struct KeyedRecord: Sendable {
    public var record: Record
    /// Identity and version, as UTF-8 text, for example `evt_1@1700000000`. At most `dedupKeyBytesMax` bytes.
    public var dedupKey: [UInt8]
    /// Where the record stands in the feed's order, if the feed has one that integers show: used to forget dedup keys
    /// that lie below the committed mark by more than the longest lookback. In the unit of the connector's cursor.
    public var mark: Int64?
    /// Its keys by what made keys before (`KeyOrigin.formers`): known under one of them, it is no new record.
    public var formerKeys: [[UInt8]]
    /// Set where the version in the key is too coarse to tell the record's states apart.
    public var state: RecordState?

    public init(record: Record, dedupKey: [UInt8], mark: Int64? = nil, formerKeys: [[UInt8]] = [], state: RecordState? = nil) {
        self.formerKeys = formerKeys
        self.state = state
        self.record = record
        self.dedupKey = dedupKey
        self.mark = mark
    }

    /// A dedup key longer than this is refused and its record quarantined.
    public static let dedupKeyBytesMax = 1024
}
