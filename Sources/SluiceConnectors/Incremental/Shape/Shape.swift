import SluiceCore

/// What an `Incremental` does to requests and answers beyond listing records: bodies, signatures, lookups, other formats,
/// and what becomes of each record. Nothing of it touches the cursor: marks, order and pages are those of the elements that
/// the provider listed, and dedup keys are made of what it sent.
///
/// ```
/// lookup ─▶ request: body, carried headers, validator, signature ─▶ answer: format
///   ─▶ elements: marks, cursor, next page ─▶ flatten ─▶ tombstone, filter ─▶ dedup keys ─▶ enrich ─▶ map ─▶ jobs
/// ```
public struct Shape: Sendable {
    /// What a POST carries.
    public var body: RequestBody?
    public var signing: RequestSigning?
    public var carried: [CarriedHeader] = []
    /// Asks with If-None-Match or If-Modified-Since where a 304 surely means that there is no news.
    public var isConditional = false
    public var lookups: [Lookup] = []
    public var format = PageFormat.json
    public var flatten: Flatten?
    /// All must hold.
    public var filter: [FilterCondition] = []
    public var tombstone: Tombstone?
    public var enrichment: Enrichment?
    public var map: RecordMap?
    public var variants: Variants?

    public init() {}

    /// Whether requests and answers are as they would be without it. A body is put in place by `IncrementalPoll`.
    var isPlain: Bool { !changesRequests && !changesRecords && variants == nil }

    private var changesRequests: Bool {
        signing != nil || !carried.isEmpty || isConditional || !lookups.isEmpty || !format.isJSON || body?.isGraphQL == true
    }

    /// Whether records are others than the elements of the list, so that their dedup keys are made before.
    var changesRecords: Bool {
        flatten != nil || !filter.isEmpty || tombstone != nil || enrichment != nil || map != nil || format.isXML
    }
}

extension Incremental {
    /// Whether a record alone is enough to make its dedup key: it is an element of the one list there is, as it was sent.
    package var keysStandAlone: Bool { partitions == nil && !shape.changesRecords && shape.variants == nil }
}

extension CursorRule {
    /// What is finer than this is lost in writing a bound.
    var writtenMilliseconds: Int64 { format?.granuleMilliseconds ?? pattern?.granuleMilliseconds ?? 1 }
}

/// Rules that differ by what a trigger's input says, for example one set for each type of object.
public struct Variants: Sendable {
    /// What tells which, for example `{input.object}`.
    public var by: Template
    public var rules: [String: Incremental]
    public init(by: Template, rules: [String: Incremental]) {
        self.by = by
        self.rules = rules
    }

    func rules(for request: PollRequest) throws(PollFailure) -> Incremental {
        let name = try by.text(request, for: "the choice of a variant")
        guard let rules = rules[name] else {
            let known = rules.keys.sorted().joined(separator: ", ")
            throw PollFailure(.permanent, SluiceError(.invalid, "there is no variant \(name.debugDescription): choose from \(known)"))
        }
        return rules
    }
}
