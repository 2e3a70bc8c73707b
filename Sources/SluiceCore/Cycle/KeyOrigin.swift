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
        /// The trigger's committed mark when this one was replaced; nil where its feed has none.
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
    public static let formersMax = 4

    public init(connector: String, formers: [Former] = []) {
        self.connector = connector
        self.formers = formers
    }

    /// How the keys of the next page are made.
    ///
    /// - Parameters:
    ///   - stored: how those before were made; nil for a trigger that has none, or of which it was never noted.
    ///   - connector: what makes them now.
    ///   - mark: the committed cursor in the unit of the marks.
    ///   - floor: below it dedup keys are forgotten.
    ///   - cyclesCompleted: as `DedupRetention` counts them.
    public static func next(
        after stored: KeyOrigin?, connector: String, mark: Int64?, floor: Int64?, cyclesCompleted: Int64
    ) -> KeyOrigin {
        guard var origin = stored else { return KeyOrigin(connector: connector) }
        origin.formers.removeAll { former in
            // As long as its keys are kept, and no longer: a quiet feed reads the same window for ever.
            guard let mark = former.mark, let floor else { return former.cyclesCompleted + DedupRetention.cyclesKept < cyclesCompleted }
            return mark < floor
        }
        guard origin.connector != connector else { return origin }
        origin.formers.removeAll { $0.connector == connector || $0.connector == origin.connector }
        origin.formers.append(Former(connector: origin.connector, mark: mark, cyclesCompleted: cyclesCompleted))
        origin.formers.removeFirst(max(0, origin.formers.count - formersMax))
        origin.connector = connector
        return origin
    }
}
