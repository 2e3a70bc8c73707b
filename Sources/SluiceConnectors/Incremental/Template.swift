import SluiceCore

/// A text with places for values of the connection and the input: `{connection.site_url}`, `{input.resource}`, and with
/// a value for when there is none, `{connection.base_url|https://api.example.com}`. What the poll itself knows stands in
/// `{cursor}` (the lower bound) and `{partition}` or `{partition.name}`.
public struct Template: Sendable, ExpressibleByStringLiteral {
    enum Part: Sendable, Equatable {
        case literal(String)
        case field(root: Root, path: JSONPath, fallback: String?)
    }
    /// All but the first two are found in `PollRequest.places`, and may stand alone: `{cursor}`.
    enum Root: String, Sendable, CaseIterable {
        case connection, input, cursor, partition
        var standsAlone: Bool { self != .connection && self != .input }
    }

    let parts: [Part]

    /// Throws `SluiceError` for an unclosed brace or a place that begins neither with `connection.` nor with `input.`.
    public init(_ text: String) throws(SluiceError) {
        var parts: [Part] = []
        var rest = text[...]
        while let open = rest.firstIndex(of: "{") {
            if open > rest.startIndex { parts.append(.literal(String(rest[..<open]))) }
            guard let close = rest[open...].firstIndex(of: "}") else {
                throw SluiceError(.connector, "the template \"\(text)\" has a { without its }")
            }
            parts.append(try Template.place(rest[rest.index(after: open)..<close], in: text))
            rest = rest[rest.index(after: close)...]
        }
        if !rest.isEmpty { parts.append(.literal(String(rest))) }
        self.parts = parts
    }

    /// A template in source code. A malformed one stops the program: it is a mistake of the programmer.
    public init(stringLiteral text: String) {
        do { try self.init(text) } catch { preconditionFailure(error.message) }
    }

    private static func place(_ text: Substring, in whole: String) throws(SluiceError) -> Part {
        let halves = text.split(separator: "|", maxSplits: 1, omittingEmptySubsequences: false)
        let keys = halves[0].split(separator: ".", omittingEmptySubsequences: false).map(String.init)
        guard let root = Root(rawValue: keys[0]), keys.count >= 2 || root.standsAlone, !keys.contains("") else {
            throw SluiceError(
                .connector,
                "{\(text)} in the template \"\(whole)\" must be {connection.FIELD}, {input.FIELD}, {cursor} or {partition}")
        }
        return .field(root: root, path: JSONPath(Array(keys.dropFirst())), fallback: halves.count > 1 ? String(halves[1]) : nil)
    }

    /// Whether this is one place and nothing else.
    var isSinglePlace: Bool {
        if parts.count == 1, case .field = parts[0] { true } else { false }
    }

    /// Whether a place takes its value from this root.
    func mentions(_ wanted: Root) -> Bool {
        parts.contains { if case .field(wanted, _, _) = $0 { true } else { false } }
    }

    /// Whether a place of this root has no value to fall back on.
    func needs(_ wanted: Root) -> Bool {
        parts.contains { if case .field(wanted, _, nil) = $0 { true } else { false } }
    }

    /// The keys that places of this root look for, each once.
    func paths(of wanted: Root) -> Set<JSONPath> {
        Set(parts.compactMap { if case .field(wanted, let path, _) = $0 { path } else { nil } })
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
                    throw PollFailure(
                        .permanent, SluiceError(.invalid, "the \(root.rawValue) has no value for \(path), which \(purpose) needs: set it"))
                }
                result += encode(value)
            }
        }
        return result
    }

    /// The text, or nil if this is a single place without a value, or speaks of a cursor while there is none.
    func optionalText(_ request: PollRequest, for purpose: String) throws(PollFailure) -> String? {
        if isSinglePlace, Template.value(of: parts[0], request) == nil { return nil }
        if request.places[Root.cursor.rawValue] == nil, needs(.cursor) { return nil }
        return try text(request, for: purpose)
    }

    private static func value(of part: Part, _ request: PollRequest) -> String? {
        guard case .field(let root, let path, let fallback) = part else { return nil }
        let whole: JSONView? =
            switch root {
            case .connection: request.connection.root
            case .input: request.input.root
            case .cursor: request.places["cursor"]
            case .partition: request.places[path.keys.isEmpty ? "partition_id" : "partition"]
            }
        let text = whole.flatMap { path.find(in: $0) }.flatMap { $0.text ?? $0.bool.map { $0 ? "true" : "false" } }
        return text?.isEmpty == false ? text : fallback
    }
}
