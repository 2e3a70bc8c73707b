import ArgumentParser
import SluiceCore
import SluiceServer

/// How a list is shown.
struct Listing: ParsableArguments {
    @Flag(help: "Print the API's answer as JSON.") var json = false
    @Option(parsing: .unconditional, help: "How many entries at most.") var limit: Int?
    @Option(help: "Go on after this: the `next` of a list before.") var after: String?

    var query: [(name: String, value: String?)] { [("limit", limit.map(String.init)), ("after", after)] }

    /// Columns under their titles, or the JSON. `none`: what to say about an empty list.
    func show(_ answer: JSONView, _ name: String, _ columns: [Column], none: String) {
        if json { return Terminal.out(String(decoding: answer.bytes, as: UTF8.self)) }
        let rows = answer[name]?.elements ?? []
        if rows.isEmpty { return Terminal.out(none) }
        Terminal.out(Table.text(columns.map(\.title), rows.map { row in columns.map { $0.value(row) } }))
        if let next = answer["next"]?.text, answer["more"]?.bool != false { Terminal.out("More: --after \(next)") }
    }
}

struct Column: Sendable {
    var title: String
    var value: @Sendable (JSONView) -> String

    init(_ title: String, _ value: @escaping @Sendable (JSONView) -> String) {
        self.title = title
        self.value = value
    }

    /// A member of the row, as text.
    init(_ title: String, _ key: String) { self.init(title) { Show.text($0[key]) } }
}

enum Show {
    /// A value as people read it; `-` for none.
    static func text(_ value: JSONView?) -> String {
        guard let value, !value.isNull else { return "-" }
        if let flag = value.bool { return flag ? "yes" : "no" }
        if let elements = value.elements { return elements.isEmpty ? "-" : elements.map { text($0) }.joined(separator: ", ") }
        if value.string == "" { return "-" }
        // What a provider or a destination sent stays in its line: nobody can write one that looks like ours.
        return (value.text ?? String(decoding: value.bytes, as: UTF8.self)).replacing("\r\n", with: "⏎").replacing("\r", with: "⏎")
    }

    /// A member for people: an object of plain values as `name: value`. What is handed back as JSON stays JSON.
    private static func member(_ key: String, _ value: JSONView) -> String {
        let staysJSON = ["cursor", "cursor_before", "input", "record", "fields"].contains(key)
        if !staysJSON, let elements = value.elements, !elements.isEmpty, elements.allSatisfy({ $0.members != nil }) {
            return elements.map { member(key, $0) }.joined(separator: "\n")
        }
        guard !staysJSON, let members = value.members else { return text(value) }
        let plain = members.filter { !$0.value.isNull }.map { "\($0.key): \(text($0.value))" }.joined(separator: ", ")
        return plain.isEmpty ? "-" : plain
    }

    /// One line, cut at a width.
    static func brief(_ text: String, _ width: Int = 60) -> String {
        let line = text.split(whereSeparator: \.isNewline).first.map(String.init) ?? ""
        return line.count > width ? line.prefix(width - 1) + "…" : line
    }

    /// Members, one a line, under each other; those that are named `first` before the others.
    static func members(_ object: JSONView, first: [String] = []) -> String {
        let all = object.members ?? []
        let members = first.compactMap { name in all.first { $0.key == name } } + all.filter { !first.contains($0.key) }
        let width = members.map(\.key.count).max() ?? 0
        return members.map { member in
            let lines = self.member(member.key, member.value).split(separator: "\n", omittingEmptySubsequences: false)
            return member.key.padded(width) + "  " + lines.joined(separator: "\n" + String(repeating: " ", count: width + 2))
        }.joined(separator: "\n")
    }
}

enum Table {
    static func text(_ titles: [String], _ rows: [[String]]) -> String {
        let all = [titles.map { $0.uppercased() }] + rows
        let widths = titles.indices.map { column in all.map { $0[column].count }.max() ?? 0 }
        return all.map { row in
            row.indices.map { $0 == row.count - 1 ? row[$0] : row[$0].padded(widths[$0]) }.joined(separator: "  ")
        }.joined(separator: "\n")
    }
}

/// Prints one object, as text or as JSON.
struct Single: ParsableArguments {
    @Flag(help: "Print the API's answer as JSON.") var json = false

    /// Those that are named `first` before the others.
    func show(_ answer: JSONView, first: [String] = []) { show(answer, asText: Show.members(answer, first: first)) }

    /// For people another text than its members.
    func show(_ answer: JSONView, asText text: @autoclosure () -> String) {
        Terminal.out(json ? String(decoding: answer.bytes, as: UTF8.self) : text())
    }

    /// What became of the state of `name`.
    func showChange(_ answer: JSONView, of name: String, saysAlready: Bool = true, more: String = "") {
        let (before, now) = (Show.text(answer["state_before"]), Show.text(answer["state"]))
        show(answer, asText: "\(name): " + (before == now ? now + (saysAlready ? " already" : "") : "\(before) → \(now)") + more)
        if !json, let note = answer["note"]?.string { Terminal.error("Note: \(note)") }
    }
}
