import SluiceCore

/// What a poll is given.
public struct PollRequest: Sendable {
    public var triggerType: String
    /// Values of the connection's fields, secrets included: a JSON object.
    public var connection: JSONDocument
    /// The trigger's input: a JSON object.
    public var input: JSONDocument
    /// The committed cursor, JSON; nil before the first committed one.
    public var cursor: [UInt8]?
    /// Where an open cycle goes on, JSON; nil on a cycle's first page.
    public var pageState: [UInt8]?
    /// The moment, by the clock passed in, before which the cycle promises to have seen everything visible.
    public var readBound: Timestamp
    /// The time as the page is asked for, by the clock passed in: for signatures that carry one. No cursor is made of it.
    public var now: Timestamp
    public var recordsMax: Int
    /// Only this stretch of the feed's time is wanted: a backfill. Nil: everything from the cursor on.
    public var window: BackfillWindow?
    /// Below this mark dedup keys are forgotten: what lies there came before, and is not to be read again for a longer lookback.
    public var forgottenBelow: Int64?
    /// Below this mark they may be forgotten from now on: lower than that after a part of the feed was added that begins further back, or
    /// after a longer lookback.
    public var dedupFloor: Int64?
    /// Descriptions by which the trigger's keys were made before: the keys by them come along in `PollPage.formerKeys` wherever
    /// `PollPage.keys` do.
    public var formerRules: [Incremental] = []
    /// What places of templates stand for besides the connection's and the input's fields, while one request is made.
    var scope = TemplateScope()

    /// `now` is the read bound unless it is given.
    public init(
        triggerType: String, connection: JSONDocument, input: JSONDocument, cursor: [UInt8]?, pageState: [UInt8]?,
        readBound: Timestamp, now: Timestamp? = nil, recordsMax: Int = PollLimits.recordsPerPageMax
    ) {
        self.triggerType = triggerType
        self.connection = connection
        self.input = input
        self.cursor = cursor
        self.pageState = pageState
        self.readBound = readBound
        self.now = now ?? readBound
        self.recordsMax = recordsMax
    }
}

/// What a poll returns.
public struct PollPage: Sendable {
    public var records: [Record]
    /// The mark of each record, in the same order, where the feed has one; empty otherwise.
    public var marks: [Int64]
    /// The dedup key of each record, in the same order, where the poll has made them from what the provider sent; nil: ask
    /// `Connector.dedupKeys`.
    public var keys: [Result<[UInt8], SluiceError>]?
    /// What stands before the keys by the description of this page's records, where that is all that `keys` add; nil: they are made of more.
    public var keyPrefix: [UInt8]?
    /// With `keys`: those of each record by `PollRequest.formerRules`.
    public var formerKeys: [[[UInt8]]] = []
    /// The state of each record whose version is too coarse to tell its states apart, in the same order; empty where none is.
    public var states: [RecordState?] = []
    /// When the provider answered, by its clock where it tells.
    var readAt: Timestamp?
    /// The new committed cursor, JSON, taken over together with this page's jobs; nil leaves it as it is.
    public var cursor: [UInt8]?
    /// The committed cursor as an integer in the unit of `marks`, for the pruning of dedup keys; nil if it has none.
    public var cursorMark: Int64?
    /// Where the next page goes on, JSON; only while `more`.
    public var pageState: [UInt8]?
    /// Whether another page is there now (`can_poll_more`).
    public var more: Bool
    /// Things the operator should know. One that begins with `gap:` raises the alarm `gap`; one on the last page that begins with
    /// `left out:` raises `partitions_left_out`, which the next cycle without one clears.
    public var warnings: [String]
    /// What the ids of a source that begins to count anew count within: it becomes a part of the dedup keys.
    public var epoch: String?
    /// What could not become records: quarantined, visible.
    public var setAside: [SetAside] = []
    /// How many elements the provider listed, whatever became of them; nil where that was not counted.
    package var listedCount: Int?

    /// How the warning begins that parts of the source were refused, and so not read in the cycle that ends here.
    public static let leftOutPrefix = "left out:"

    /// Bytes that could not become a record, and why. `name` tells it from others of the same bytes.
    public struct SetAside: Sendable, Equatable {
        public var bytes: [UInt8]
        public var reason: String
        public var name: String
        public init(bytes: [UInt8], reason: String, name: String) {
            self.bytes = bytes
            self.reason = reason
            self.name = name
        }
    }

    public init(
        records: [Record], marks: [Int64] = [], cursor: [UInt8]? = nil, cursorMark: Int64? = nil, pageState: [UInt8]? = nil,
        more: Bool, warnings: [String] = [], epoch: String? = nil, keys: [Result<[UInt8], SluiceError>]? = nil
    ) {
        self.epoch = epoch
        self.keys = keys
        self.records = records
        self.marks = marks
        self.cursor = cursor
        self.cursorMark = cursorMark
        self.pageState = pageState
        self.more = more
        self.warnings = warnings
    }
}

/// Bounds of a poll (P10).
public enum PollLimits {
    public static let recordsPerPageMax = 10_000
    /// A held request cannot ask for less: the provider says all that happened at once in one answer. `pageBytesMax` bounds it as well.
    public static let recordsPerHeldAnswerMax = 500_000
    public static let cursorBytesMax = 64 * 1024
    public static let pageBytesMax = 64 * 1024 * 1024
}

/// Why a poll gave nothing, in the kinds that call for different answers.
public struct PollFailure: Error, Sendable {
    public enum Kind: Sendable, Equatable {
        /// 5xx, time-outs, broken connections, garbage: back off and try again.
        case transient
        /// 429: the whole connection waits.
        case rateLimited
        /// 401 and 403: try once to refresh, then mark the connection.
        case unauthorized
        /// The provider does not know the cursor: fail loudly, keep it.
        case badCursor
        /// The page token of an open cycle is no longer valid: begin again from the committed cursor.
        case pageStateExpired
        /// A fault of the connector, the input, or an answer that will not get better by asking again soon.
        case permanent
    }
    public var kind: Kind
    public var error: SluiceError
    /// From Retry-After or a rate header: no request on this connection before this much time has passed.
    public var retryAfter: Span?
    /// Asking again is no use before somebody has acted: the connection is marked at once.
    public var isFinal = false
    /// Nothing was sent: the connection's budget holds the request back. The poll goes on later, and nothing failed.
    public var isHeldBack = false

    public init(_ kind: Kind, _ error: SluiceError, retryAfter: Span? = nil) {
        self.kind = kind
        self.error = error
        self.retryAfter = retryAfter
    }
}

/// The one way in which a connector reaches the network. The polling service gives one that keeps the connection's
/// budget, its limits and its address guard, and stops with `PollFailure`.
public protocol HTTPSending: Sendable {
    /// Throws `PollFailure` for what never became an answer (refused, timed out, too large, forbidden address) and for
    /// statuses 429, 401, 403 and 5xx unless `request.acceptsAnyStatus`. Other statuses come back as a reply.
    func send(_ request: HTTPRequestPlan) async throws -> HTTPReply
}

/// A request that a connector wants made.
public struct HTTPRequestPlan: Sendable, Equatable {
    public var method: String
    /// Absolute, http or https, with its query.
    public var url: String
    public var headers: [HTTPField]
    public var body: [UInt8]
    /// Hand every status to the connector instead of failing on 429, 401, 403 and 5xx.
    public var acceptsAnyStatus: Bool
    /// In `longPoll` only: how long the provider may hold the request before it answers or, of a stream, says nothing.
    public var holdSpan: Span?
    /// With `holdSpan`: the answer is JSON values, one a line, that never ends. What has come is handed over as soon as there is
    /// something, as a reply whose body is a JSON array of the complete lines; the next request that is a stream goes on
    /// reading the same answer, or is sent if that has ended. So a connector names in each where it would begin anew.
    public var isStream: Bool

    public init(
        method: String = "GET", url: String, headers: [HTTPField] = [], body: [UInt8] = [], acceptsAnyStatus: Bool = false,
        holdSpan: Span? = nil, isStream: Bool = false
    ) {
        self.holdSpan = holdSpan
        self.isStream = isStream
        self.method = method
        self.url = url
        self.headers = headers
        self.body = body
        self.acceptsAnyStatus = acceptsAnyStatus
    }
}

/// An answer, read whole within the limits.
public struct HTTPReply: Sendable {
    public var status: Int
    public var headers: [HTTPField]
    public var body: [UInt8]

    public init(status: Int, headers: [HTTPField], body: [UInt8]) {
        self.status = status
        self.headers = headers
        self.body = body
    }

    /// The body as JSON, or a transient failure that quotes how the body begins.
    public func json() throws(PollFailure) -> JSONDocument {
        do {
            return try JSONDocument(body)
        } catch {
            let start = String(decoding: body.prefix(60), as: UTF8.self)
            throw PollFailure(
                .transient,
                SluiceError(.providerAnswer, "the provider's answer is not JSON: it \(error) and begins with \(start.debugDescription)")
                    .with("status", String(status)))
        }
    }
}

extension HTTPReply {
    /// How its body begins, on one line, for people.
    package var beginning: String {
        let words = String(decoding: body.prefix(600), as: UTF8.self).split { $0.isWhitespace || $0.isNewline }
        return String(words.joined(separator: " ").prefix(300))
    }
}
