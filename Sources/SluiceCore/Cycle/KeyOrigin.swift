/// With which connector a trigger's dedup keys are made, and with which those were that may come again.
///
/// ```
/// made by A ──connector changes──▶ made by B, formers [A] ──the overlap has passed──▶ made by B
/// ```
/// While a former one is named, each record is looked for under its key by that one too: what became a job under an old key does
/// not become one again under its new key (P4).
public struct KeyOrigin: Sendable, Equatable {
    /// `ConnectorDefinition.hash`.
    public var connector: String
    /// Oldest first.
    public var formers: [Former]

    public struct Former: Sendable, Equatable {
        public var connector: String
        /// The highest mark of any dedup key when this one was replaced; nil where its feed has none.
        public var mark: Int64?
        /// Completed cycles by then.
        public var cyclesCompleted: Int64
        public init(connector: String, mark: Int64?, cyclesCompleted: Int64) {
            self.connector = connector
            self.mark = mark
            self.cyclesCompleted = cyclesCompleted
        }
    }

    /// More often than this a `dedup` does not change within one overlap; the oldest are let go of.
    public static let formersMax = 8

    public init(connector: String, formers: [Former] = []) {
        self.connector = connector
        self.formers = formers
    }

    /// The mark below which keys are known no more because their connectors were let go of since `stored`; nil where none was. The keys
    /// may be there still, and nobody can tell their records by them. One that was pushed out before its time does not count: what shows
    /// late must not be passed over because a connector was changed often.
    public func forgottenBelow(since stored: KeyOrigin?, floor: Int64?) -> Int64? {
        guard let floor else { return nil }
        let gone = (stored?.formers ?? []).filter { former in
            former.connector != connector && !formers.contains { $0.connector == former.connector }
        }
        return gone.compactMap(\.mark).filter { $0 < floor }.max().map { $0 + 1 }
    }

    /// How the keys of the next page are made.
    ///
    /// - Parameters:
    ///   - stored: how those before were made; nil for a trigger that has none, or of which it was never noted.
    ///   - connector: what makes them now.
    ///   - marked: the highest mark that any dedup key has. The committed cursor may lie below: what an open cycle has read, or what is
    ///     held back because records show late, is keyed already.
    ///   - floor: below it dedup keys are forgotten.
    ///   - cyclesCompleted: as `DedupRetention` counts them.
    public static func next(
        after stored: KeyOrigin?, connector: String, marked: Int64?, floor: Int64?, cyclesCompleted: Int64
    ) -> KeyOrigin {
        guard var origin = stored else { return KeyOrigin(connector: connector) }
        origin.formers.removeAll { former in
            // As long as its keys are kept, and no longer: a quiet feed reads the same window for ever.
            guard let mark = former.mark, let floor else { return former.cyclesCompleted + DedupRetention.cyclesKept < cyclesCompleted }
            return mark < floor
        }
        guard origin.connector != connector else { return origin }
        origin.formers.removeAll { $0.connector == connector || $0.connector == origin.connector }
        origin.formers.append(Former(connector: origin.connector, mark: marked, cyclesCompleted: cyclesCompleted))
        origin.formers.removeFirst(max(0, origin.formers.count - formersMax))
        origin.connector = connector
        return origin
    }
}
