import SluiceCore

extension Incremental {
    /// How the pages of one answer follow each other. Whatever the form, Sluice keeps two promises: what asks for the next
    /// page never outlives the cycle (the cursor is another thing), and a page that was read before is never read for ever.
    public enum Pagination: Sendable {
        case none
        case token(TokenPages)
        /// A Link header with rel=next (RFC 8288), on the same host.
        case link
        /// The next page's whole URL, absolute or relative, on the same host; none on the last page.
        case nextURL(AnswerPlace)
        case keyset(KeysetPages)
        case offset(OffsetPages)
        case page(NumberedPages)

        var isLink: Bool { if case .link = self { true } else { false } }

        /// A token at `from` in the answer, sent back as the parameter `parameter`.
        public static func token(from: JSONPath, parameter: String, restartsFromMark: Bool = false) -> Pagination {
            var rule = TokenPages(from: .body(from), parameter: .query(parameter))
            rule.restartsFromMark = restartsFromMark
            return .token(rule)
        }

        /// The last record's id, at `from` inside it, sent as the parameter `parameter`.
        public static func keyset(from: JSONPath, parameter: String, hasMore: JSONPath?) -> Pagination {
            var rule = KeysetPages(from: from, parameter: .query(parameter))
            rule.end.hasMore = hasMore
            return .keyset(rule)
        }
    }

    /// Where something stands in an answer.
    public enum AnswerPlace: Sendable, Equatable, CustomStringConvertible {
        case body(JSONPath)
        case header(String)
        public var description: String {
            switch self {
            case .body(let path): "\"\(path)\""
            case .header(let name): "the header \(name)"
            }
        }
    }

    /// Where something stands in a request. In the body of a POST it is a path: its last key is set, objects are made on the way.
    public enum RequestPlace: Sendable, Equatable {
        case query(String)
        case header(String)
        case body(JSONPath)
    }

    /// The answer holds a token; none, an empty one, null or false on the last page. It is text, whatever it looks like.
    public struct TokenPages: Sendable {
        public var from: AnswerPlace
        public var parameter: RequestPlace
        public var end = PageEnd()
        /// An ascending feed goes on from the last record's mark instead, and the token serves only within one mark: tokens that
        /// are offsets skip records when others leave the pages before them.
        public var restartsFromMark = false
        public init(from: AnswerPlace, parameter: RequestPlace) {
            self.from = from
            self.parameter = parameter
        }
    }

    /// The last record's id, at `from` inside it, is sent back.
    public struct KeysetPages: Sendable {
        public var from: JSONPath
        public var parameter: RequestPlace
        public var end = PageEnd()
        public init(from: JSONPath, parameter: RequestPlace) {
            self.from = from
            self.parameter = parameter
        }
    }

    /// How many records to pass over. Records that leave the pages before would make it skip others, so each page begins
    /// with the last record of the one before (`overlap`); where that is missing, Sluice steps back.
    public struct OffsetPages: Sendable {
        public var parameter: RequestPlace
        public var end = PageEnd()
        /// Records that two pages share; 0 where nothing ever leaves the list.
        public var overlap: Int64 = 1
        /// As for a token. Nil: wherever the order and a bound from below allow it.
        public var restartsFromMark: Bool?
        public init(parameter: RequestPlace) { self.parameter = parameter }
    }

    /// The number of the page. Nothing can overlap, so this is for lists in ascending order, where Sluice goes on from the mark
    /// instead, and for those that nothing ever leaves.
    public struct NumberedPages: Sendable {
        public var parameter: RequestPlace
        public var first: Int64 = 1
        public var end = PageEnd()
        public var restartsFromMark: Bool?
        /// Nothing ever leaves the list while it is read.
        public var isStable = false
        public init(parameter: RequestPlace) { self.parameter = parameter }
    }

    /// How an answer says that it is the last one. A page with fewer records than asked for says nothing: only `endsShort` makes
    /// it the last.
    public struct PageEnd: Sendable {
        /// True while there is more.
        public var hasMore: JSONPath?
        /// True on the last page, false before.
        public var isLast: JSONPath?
        /// How many records all pages have together.
        public var total: JSONPath?
        /// How many pages there are.
        public var totalPages: JSONPath?
        /// A page without records is the last; for keyset, offset and page where nothing else says so, it always is.
        public var endsEmpty = false
        /// A page with fewer records than asked for is the last: the provider promises full pages.
        public var endsShort = false
        public init() {}
    }

    public struct PageSize: Sendable {
        public var parameter: RequestPlace
        public var value: Int
        public init(parameter: String, value: Int) { self.init(.query(parameter), value: value) }
        public init(_ parameter: RequestPlace, value: Int) {
            self.parameter = parameter
            self.value = value
        }
    }

    /// Pages of one cycle, unless `pagesMax` says otherwise: more than that is a source that never ends (P10).
    public static let pagesMaxDefault: Int64 = 1_000_000

    /// How the pages end, where the form of pagination leaves it to the answer.
    var pageEnd: PageEnd {
        switch pagination {
        case .token(let rule): rule.end
        case .keyset(let rule): rule.end
        case .offset(let rule): rule.end
        case .page(let rule): rule.end
        case .none, .link, .nextURL: PageEnd()
        }
    }

    /// Whether an ascending feed goes on from the last mark instead of by offset, token or number.
    var restartsFromMark: Bool {
        let isPossible = cursor.map { $0.order == .ascending && isBoundedBelow && $0.kind.hasMarks } ?? false
        return switch pagination {
        case .token(let rule): rule.restartsFromMark
        case .offset(let rule): rule.restartsFromMark ?? isPossible
        case .page(let rule): rule.restartsFromMark ?? isPossible
        case .link, .nextURL: linksRestartFromMark ?? isPossible
        case .none, .keyset: false
        }
    }

    /// Whether a request tells the source where to begin.
    var isBoundedBelow: Bool { cursor?.parameter != nil || cursor?.isURL == true || mentionsCursor }
}
