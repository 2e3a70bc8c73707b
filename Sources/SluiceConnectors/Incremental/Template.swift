import SluiceCore

/// A text with places for values of the connection and the input: `{connection.site_url}`, `{input.resource}`, and with
/// a value for when there is none, `{connection.base_url|https://api.example.com}`. `{{` and `}}` stand for single braces.
/// What the poll itself knows stands in `{cursor}` (the lower bound) and in `{partition}` or `{partition.name}`.
public struct Template: Sendable, ExpressibleByStringLiteral {
    enum Part: Sendable, Equatable {
        case literal(String)
        case field(root: Root, path: JSONPath, fallback: String?)
    }
    enum Root: String, Sendable, CaseIterable {
        case connection, input
        /// What a lookup found: `{lookup.account}`.
        case lookup
        /// The record that is fetched in full: `{record.id}`.
        case record
        /// What is read one after the other: `{partition.name}`; its id is the word `{partition}`.
        case partition
        /// A single word that its purpose defines, such as `{cursor}`.
        case word = ""
    }

    /// What the places of a template may name.
    struct Places: Sendable {
        var roots: Set<Root>
        var words: Set<String> = []
        /// Connection, input, lookups, the partition and the cursor: what stands in any request.
        static let fields = Places(roots: [.connection, .input, .lookup, .partition], words: ["cursor", "partition"])
        /// And the record at hand.
        static let record = Places(roots: [.connection, .input, .lookup, .partition, .record], words: ["partition"])
        static func words(_ words: String...) -> Places { Places(roots: Places.fields.roots, words: Set(words + ["partition"])) }

        var description: String {
            let fields = Root.allCases.filter { $0 != .word && roots.contains($0) }.map { "{\($0.rawValue).FIELD}" }
            return (words.sorted().map { "{\($0)}" } + fields).joined(separator: ", ")
        }
    }

    let parts: [Part]

    /// Throws `SluiceError` for an unclosed brace or a place that names nothing known.
    public init(_ text: String) throws(SluiceError) { try self.init(text, .fields) }

    init(_ text: String, _ places: Places) throws(SluiceError) {
        var parts: [Part] = []
        var literal = ""
        var rest = text[...]
        while let sign = rest.first {
            if rest.hasPrefix("{{") || rest.hasPrefix("}}") {
                literal.append(sign)
                rest = rest.dropFirst(2)
            } else if sign == "{" {
                if !literal.isEmpty { parts.append(.literal(literal)) }
                literal = ""
                guard let close = rest.firstIndex(of: "}") else {
                    throw SluiceError(.connector, "the template \"\(text)\" has a { without its }")
                }
                parts.append(try Template.place(rest[rest.index(after: rest.startIndex)..<close], places, in: text))
                rest = rest[rest.index(after: close)...]
            } else {
                literal.append(sign)
                rest = rest.dropFirst()
            }
        }
        if !literal.isEmpty { parts.append(.literal(literal)) }
        self.parts = parts
    }

    /// A template in source code. A malformed one stops the program: it is a mistake of the programmer.
    public init(stringLiteral text: String) {
        let places = Places(roots: Set(Root.allCases), words: TemplateScope.words)
        do { try self.init(text, places) } catch { preconditionFailure(error.message) }
    }

    private static func place(_ text: Substring, _ places: Places, in whole: String) throws(SluiceError) -> Part {
        let halves = text.split(separator: "|", maxSplits: 1, omittingEmptySubsequences: false)
        let fallback = halves.count > 1 ? String(halves[1]) : nil
        let keys = halves[0].split(separator: ".", omittingEmptySubsequences: false).map(String.init)
        if keys.count == 1, places.words.contains(keys[0]) { return .field(root: .word, path: JSONPath(keys), fallback: fallback) }
        guard keys.count >= 2, let root = Root(rawValue: keys[0]), places.roots.contains(root), !keys.contains("") else {
            throw SluiceError(
                .connector, "{\(text)} in the template \"\(whole)\" must be one of \(places.description); {{ and }} write single braces")
        }
        return .field(root: root, path: JSONPath(Array(keys.dropFirst())), fallback: fallback)
    }

    /// What stands in it besides places.
    var literal: String { parts.map { if case .literal(let text) = $0 { text } else { " " } }.joined() }

    /// Whether this is one place and nothing else.
    var isSinglePlace: Bool {
        if parts.count == 1, case .field = parts[0] { true } else { false }
    }

    /// Whether a place is this word.
    func mentions(_ word: String) -> Bool { names(of: .word).contains(word) }

    /// Whether a place takes its value from the partition.
    var mentionsPartition: Bool { mentions("partition") || !names(of: .partition).isEmpty }

    /// Whether a place is this word and has no value to fall back on.
    func needs(_ word: String) -> Bool {
        parts.contains { if case .field(.word, let path, nil) = $0 { path.keys == [word] } else { false } }
    }

    /// The keys that places of this root look for, each once.
    func paths(of root: Root) -> Set<JSONPath> {
        Set(parts.compactMap { if case .field(root, let path, _) = $0 { path } else { nil } })
    }

    /// The names that it takes from a root, for example the lookups that it needs.
    func names(of root: Root) -> [String] {
        parts.compactMap { if case .field(root, let path, _) = $0 { path.keys.first } else { nil } }
    }

    /// The text with its values, each passed through `encode`. Throws a permanent failure that names the first field that
    /// has no value.
    func text(_ request: PollRequest, for purpose: String, encode: (String) -> String = { $0 }) throws(PollFailure) -> String {
        var result = ""
        for part in parts {
            switch part {
            case .literal(let text): result += text
            case .field(let root, let path, _):
                guard let value = Template.value(of: part, request) else {
                    let what = root == .word ? "{\(path)} has no value" : "the \(root.rawValue) has no value for \(path)"
                    throw PollFailure(.permanent, SluiceError(.invalid, "\(what), which \(purpose) needs: set it"))
                }
                result += encode(value)
            }
        }
        return result
    }

    /// The text, or nil if this is a single place without a value, or speaks of a cursor while there is none.
    func optionalText(_ request: PollRequest, for purpose: String) throws(PollFailure) -> String? {
        if isSinglePlace, Template.value(of: parts[0], request) == nil { return nil }
        if request.scope["cursor"] == nil, needs("cursor") { return nil }
        return try text(request, for: purpose)
    }

    private static func value(of part: Part, _ request: PollRequest) -> String? {
        guard case .field(let root, let path, let fallback) = part else { return nil }
        if root == .word { return request.scope[path.keys[0]]?.text ?? fallback }
        let view = request.view(of: root).flatMap { path.find(in: $0) }
        let text = view.flatMap { $0.text ?? $0.bool.map { $0 ? "true" : "false" } }
        return text?.isEmpty == false ? text : fallback
    }
}

extension PollRequest {
    /// The object that a root of templates stands for; nil where there is none now.
    func view(of root: Template.Root) -> JSONView? {
        switch root {
        case .connection: connection.root
        case .input: input.root
        case .lookup: scope.lookup?.root
        case .record: scope.record
        case .partition: scope.partition
        case .word: nil
        }
    }
}
