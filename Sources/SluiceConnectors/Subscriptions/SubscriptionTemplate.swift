import SluiceCore

/// A text with places for values: `{connection.X}`, `{input.X}`, `{webhook.url}`, `{webhook.secret}`, `{webhook.expires_at}`
/// (RFC 3339), `{webhook.expires_at_unix}`, `{output.X}`; with a value for when there is none, `{input.X|all}`.
struct SubscriptionTemplate: Sendable {
    enum Part: Sendable, Equatable {
        case literal(String)
        case place(path: [String], fallback: String?)
    }

    static let roots = ["connection", "input", "webhook", "output"]
    let parts: [Part]

    init(_ text: String) throws(SluiceError) {
        var parts: [Part] = []
        var rest = text[...]
        while let open = rest.firstIndex(of: "{") {
            if open > rest.startIndex { parts.append(.literal(String(rest[..<open]))) }
            guard let close = rest[open...].firstIndex(of: "}") else {
                throw SluiceError(.connector, "the template \"\(text)\" has a { without its }")
            }
            let halves = rest[rest.index(after: open)..<close].split(separator: "|", maxSplits: 1, omittingEmptySubsequences: false)
            let keys = halves[0].split(separator: ".", omittingEmptySubsequences: false).map(String.init)
            guard keys.count >= 2, SubscriptionTemplate.roots.contains(keys[0]), !keys.contains("") else {
                throw SluiceError(
                    .connector, "{\(halves[0])} in the template \"\(text)\" must begin with connection., input., webhook. or output.")
            }
            parts.append(.place(path: keys, fallback: halves.count > 1 ? String(halves[1]) : nil))
            rest = rest[rest.index(after: close)...]
        }
        if !rest.isEmpty || parts.isEmpty { parts.append(.literal(String(rest))) }
        self.parts = parts
    }

    /// The first keys below a root that it uses.
    func fields(of root: String) -> [String] {
        parts.compactMap { part in
            if case .place(let path, _) = part, path[0] == root { path[1] } else { nil }
        }
    }

    /// The text with its values, each passed through `encode`. Throws a permanent failure that names the first without a value.
    func text(_ scope: JSONView, encode: (String) -> String = { $0 }) throws(PollFailure) -> String {
        var result = ""
        for part in parts {
            switch part {
            case .literal(let text): result += text
            case .place(let path, let fallback):
                let view = scope[path: path]
                guard let value = view?.text ?? view?.bool.map({ $0 ? "true" : "false" }) ?? fallback else {
                    throw PollFailure(
                        .permanent,
                        SluiceError(.invalid, "the subscription needs \(path.joined(separator: ".")), which has no value: set it"))
                }
                result += encode(value)
            }
        }
        return result
    }

    /// For a template that is one place and nothing else: the value itself, whatever its type; nil: none.
    func value(_ scope: JSONView) -> (isSingle: Bool, view: JSONView?) {
        guard parts.count == 1, case .place(let path, let fallback) = parts[0] else { return (false, nil) }
        if let view = scope[path: path], !view.isNull { return (true, view) }
        guard let fallback else { return (true, nil) }
        var writer = JSONWriter()
        writer.value(fallback)
        return (true, JSONView(checked: writer.bytes[...]))
    }
}

/// A JSON value whose strings are templates.
enum SubscriptionBody {
    /// Every template in it, read once to find what is wrong with them.
    static func templates(_ view: JSONView) throws(SluiceError) -> [SubscriptionTemplate] {
        if let text = view.string { return [try SubscriptionTemplate(text)] }
        var result: [SubscriptionTemplate] = []
        for value in view.members?.map(\.value) ?? view.elements ?? [] { result += try templates(value) }
        return result
    }

    /// Writes it with its values. A member that is one place without a value is left out.
    static func write(_ view: JSONView, _ scope: JSONView, to writer: inout JSONWriter) throws {
        if let members = view.members {
            try writer.object { writer in
                for (key, value) in members {
                    if let text = value.string {
                        let single = try SubscriptionTemplate(text).value(scope)
                        if single.isSingle, single.view == nil { continue }
                    }
                    writer.key(key)
                    try write(value, scope, to: &writer)
                }
            }
        } else if let elements = view.elements {
            try writer.array { writer in for element in elements { try write(element, scope, to: &writer) } }
        } else if let text = view.string {
            let template = try SubscriptionTemplate(text)
            let single = template.value(scope)
            if let view = single.view { writer.raw(view.bytes) } else { writer.value(try template.text(scope)) }
        } else {
            writer.raw(view.bytes)
        }
    }
}
