import SluiceCore

/// A condition on a field of each record, checked here because the API cannot. Records for which it does not hold become no
/// jobs; they move the mark all the same.
///
/// Values are compared as text, so that `"1"` equals `1` and `true` equals `"true"`; order is by number where both are
/// numbers, else by text. A condition whose value is a place without a value is left out.
public struct FilterCondition: Sendable {
    public enum Test: Sendable {
        case equals(Template)
        case differs(Template)
        /// One of these; a single place whose value is an array stands for its elements.
        case isOneOf([Template])
        /// The field is there and not null; with false, it is not.
        case exists(Bool)
        case above(Template)
        case below(Template)
        case atLeast(Template)
        case atMost(Template)
    }
    public var field: JSONPath
    public var test: Test

    public init(_ field: JSONPath, _ test: Test) {
        self.field = field
        self.test = test
    }

    /// The condition with its values; nil where it has none, so that it is left out.
    func resolved(_ request: PollRequest) throws(PollFailure) -> Resolved? {
        func text(_ template: Template) throws(PollFailure) -> String? {
            try template.optionalText(request, for: "the filter on \(field)")
        }
        func wanted(_ template: Template, _ make: (String) -> Resolved.Test) throws(PollFailure) -> Resolved? {
            guard let text = try text(template) else { return nil }
            return Resolved(field: field, test: make(text))
        }
        switch test {
        case .equals(let template): return try wanted(template) { .oneOf([$0]) }
        case .differs(let template): return try wanted(template) { .noneOf([$0]) }
        case .exists(let flag): return Resolved(field: field, test: .exists(flag))
        case .above(let template): return try wanted(template) { .order($0, [1]) }
        case .below(let template): return try wanted(template) { .order($0, [-1]) }
        case .atLeast(let template): return try wanted(template) { .order($0, [0, 1]) }
        case .atMost(let template): return try wanted(template) { .order($0, [-1, 0]) }
        case .isOneOf(let templates):
            var texts: [String] = []
            for template in templates {
                if let list = template.list(request) { texts += list } else if let text = try text(template) { texts.append(text) }
            }
            return texts.isEmpty ? nil : Resolved(field: field, test: .oneOf(texts))
        }
    }

    /// A condition whose values are known.
    struct Resolved {
        enum Test {
            case oneOf([String])
            case noneOf([String])
            case exists(Bool)
            /// How the field compares with the text: any of these.
            case order(String, [Int])
        }
        let field: JSONPath
        let test: Test

        func holds(_ record: JSONView) -> Bool {
            let view = field.find(in: record).flatMap { $0.isNull ? nil : $0 }
            switch test {
            case .exists(let flag): return (view != nil) == flag
            case .oneOf(let texts): return view.map { view in texts.contains { Resolved.isSame(view, $0) } } ?? false
            case .noneOf(let texts): return view.map { view in !texts.contains { Resolved.isSame(view, $0) } } ?? true
            case .order(let text, let wanted):
                guard let view, let own = view.text else { return false }
                return wanted.contains(Resolved.compare(own, text))
            }
        }

        static func isSame(_ view: JSONView, _ text: String) -> Bool {
            if let flag = view.bool { return text == (flag ? "true" : "false") }
            guard let own = view.text else { return false }
            if own == text { return true }
            // 1.0 equals 1, where no digit is lost by looking.
            guard let literal = view.numberLiteral, let left = Double(literal), let right = Double(text) else { return false }
            return left == right && abs(left) < 9_007_199_254_740_992
        }

        private static func compare(_ left: String, _ right: String) -> Int {
            if let left = Int64(left), let right = Int64(right) { return left < right ? -1 : left == right ? 0 : 1 }
            if let left = Double(left), let right = Double(right), left.isFinite, right.isFinite {
                return left < right ? -1 : left == right ? 0 : 1
            }
            return left == right ? 0 : left.utf8.lexicographicallyPrecedes(right.utf8) ? -1 : 1
        }
    }
}

extension Template {
    /// The texts of an array that a single place names; nil for anything else.
    fileprivate func list(_ request: PollRequest) -> [String]? {
        guard isSinglePlace, case .field(let root, let path, _) = parts[0], let view = request.view(of: root),
            let elements = path.find(in: view)?.elements
        else { return nil }
        return elements.compactMap { $0.text ?? $0.bool.map { $0 ? "true" : "false" } }
    }
}

/// How a source says that an item is gone: a record that becomes a job with `deleted`, and a dedup key of its own.
public struct Tombstone: Sendable {
    public var field: JSONPath
    /// What the field then says; nil: anything but null, false and an empty text.
    public var value: Template?
    public init(field: JSONPath, value: Template? = nil) {
        self.field = field
        self.value = value
    }

    /// What dedup keys of tombstones end with.
    static let keySuffix = Array("@deleted".utf8)

    struct Resolved {
        let field: JSONPath
        let text: String?
        func holds(_ record: JSONView) -> Bool {
            guard let view = field.find(in: record), !view.isNull else { return false }
            if let text { return FilterCondition.Resolved.isSame(view, text) }
            return view.bool != false && view.string?.isEmpty != true
        }
    }

    func resolved(_ request: PollRequest) throws(PollFailure) -> Resolved {
        Resolved(field: field, text: try value?.text(request, for: "the tombstone"))
    }
}
