import SluiceCore

/// How a provider holds a request until there is news: what `long_poll = {…}` adds to an `incremental`.
///
/// The held request is the one that `incremental` makes, with the parameter that asks for it to be held, and bounded by exactly
/// the cursor: an overlap would be answered at once, for ever. Sluice sends the next one as soon as one is answered.
public struct LongPollRule: Sendable {
    /// The parameter that says how long to hold; nil if the provider needs none.
    public var parameter: String?
    /// Whether the parameter counts milliseconds instead of seconds.
    public var countsMilliseconds = false
    /// How long the provider holds.
    public var hold: Span
    /// How the provider tells that it has begun to count anew, asked by each poll that (re)connects; nil if it never does.
    public var epoch: EpochQuestion?
    /// Whether the ids follow each other without a gap: then one that jumps raises the gap alarm.
    public var areIDsConsecutive = false

    /// A request whose answer tells whether the ids still count on.
    public struct EpochQuestion: Sendable {
        public enum Answer: Sendable, Equatable {
            /// Something that changes with each restart, such as the time of the last one.
            case token
            /// The newest id: lower than the cursor, the ids began anew. The field is looked for in the last record.
            case newestID
        }
        public var answer: Answer
        /// Nil: the path of the feed itself.
        public var path: Template?
        public var query: [Incremental.NamedTemplate]
        /// Where it stands in the answer.
        public var field: JSONPath
        public init(_ answer: Answer, path: Template? = nil, query: [Incremental.NamedTemplate] = [], field: JSONPath) {
            self.answer = answer
            self.path = path
            self.query = query
            self.field = field
        }
    }

    public init(parameter: String?, hold: Span) {
        self.parameter = parameter
        self.hold = hold
    }

    /// Whether ids are watched, so that the cursor holds an epoch besides.
    var watchesIDs: Bool { epoch != nil || areIDsConsecutive }

    /// How long a request may be held.
    public static let holdMax = Span.minutes(15)

    /// Reads `long_poll = {…}` from JSON. Throws an error that names the key and what mends it.
    ///
    /// ```
    /// { "parameter": "timeout", "seconds": 60, "consecutive": true,
    ///   "epoch": { "path": "/rest/system/status", "token": "startTime" } }
    /// ```
    /// `"unit": "milliseconds"` for a parameter that counts these; `"epoch": { "query": {…}, "newest": "id" }` where only the
    /// newest id tells.
    public init(json: JSONDocument) throws(SluiceError) {
        var reader = try RuleReader(json.root, at: "long_poll")
        let most = LongPollRule.holdMax.milliseconds / 1000
        let seconds = try reader.required("seconds", try reader.integer("seconds", 1...most))
        self.init(parameter: try reader.optionalText("parameter"), hold: .seconds(seconds))
        countsMilliseconds = try reader.choice("unit", ["seconds", "milliseconds"]) == "milliseconds"
        areIDsConsecutive = try reader.flag("consecutive") ?? false
        if var rule = try reader.optionalNested("epoch") {
            let (path, query) = (try rule.optionalTemplate("path"), try rule.templates("query"))
            let (token, newest) = (try rule.optionalPath("token"), try rule.optionalPath("newest"))
            try rule.finish()
            switch (token, newest) {
            case (let token?, nil): epoch = EpochQuestion(.token, path: path, query: query, field: token)
            case (nil, let newest?): epoch = EpochQuestion(.newestID, path: path, query: query, field: newest)
            default: throw rule.fault("token", "or newest must be there, and not both")
            }
        }
        try reader.finish()
    }

    /// Why it does not fit an `incremental`, or nil.
    public func problem(with rules: Incremental) -> String? {
        guard let cursor = rules.cursor, cursor.parameter != nil else {
            return "needs incremental.cursor with a parameter: a held request asks for what comes after it"
        }
        if watchesIDs, cursor.kind != .integer { return "watches ids (epoch, consecutive), so incremental.cursor.type must be integer" }
        return nil
    }
}
