import SluiceConnectors
import SluiceCore

/// Makes JSON of what a manifest says, by the types that a connector declares. Numbers keep their literal; text that looks
/// like a number stays text where text is asked for.
enum FieldValues {
    /// The JSON of one value, or what is wrong with it (never quoting the value).
    static func json(_ value: ManifestValue, for field: Field) -> Result<[UInt8], Problem> {
        switch (field.type, value.content) {
        case (.string, .scalar(let text, _)): return .success(literal(text))
        case (.integer, .scalar(let text, _)):
            return isInteger(text) ? .success(Array(text.utf8)) : .failure(Problem("a whole number, for example 42"))
        case (.number, .scalar(let text, _)):
            return isNumber(text) ? .success(Array(text.utf8)) : .failure(Problem("a number, for example 42 or 0.5"))
        case (.boolean, .scalar(let text, _)):
            return text == "true" || text == "false" ? .success(Array(text.utf8)) : .failure(Problem("true or false"))
        case (.dateTime, .scalar(let text, _)): return dateTime(text)
        case (.object, .object), (.array, .array):
            var writer = JSONWriter()
            write(value, to: &writer)
            return .success(writer.bytes)
        case (.string, _), (.integer, _), (.number, _), (.boolean, _), (.dateTime, _): return .failure(Problem("one value"))
        case (.object, _): return .failure(Problem("a list of `name: value` lines"))
        case (.array, _): return .failure(Problem("a list"))
        }
    }

    struct Problem: Error, Equatable {
        /// What the value must be.
        var expected: String
        init(_ expected: String) { self.expected = expected }
    }

    private static func literal(_ text: String) -> [UInt8] {
        var bytes: [UInt8] = []
        JSONWriter.append(text, to: &bytes)
        return bytes
    }

    private static func isNumber(_ text: String) -> Bool { (try? JSONDocument(Array(text.utf8)))?.root.numberLiteral == text }

    private static func isInteger(_ text: String) -> Bool {
        isNumber(text) && text.utf8.allSatisfy { $0 == UInt8(ascii: "-") || (0x30...0x39).contains($0) }
    }

    /// Seconds since 1970, or RFC 3339 with a zone: a time without one is not a moment.
    private static func dateTime(_ text: String) -> Result<[UInt8], Problem> {
        if isInteger(text) { return .success(Array(text.utf8)) }
        let shape = String(decoding: text.utf8.map { (0x30...0x39).contains($0) ? UInt8(ascii: "0") : $0 }, as: UTF8.self).uppercased()
        var zone = shape.dropFirst(19)
        if zone.hasPrefix(".0") { zone = zone.dropFirst().drop { $0 == "0" } }
        guard shape.hasPrefix("0000-00-00T00:00:00"), ["Z", "+00:00", "-00:00"].contains(zone) else {
            return .failure(Problem("a moment: seconds since 1970, or RFC 3339 with a zone, for example 2026-01-31T09:00:00Z"))
        }
        return .success(literal(text))
    }

    /// Untyped: plain `true`, `false`, `null` and JSON numbers are meant as such, all else is text.
    private static func write(_ value: ManifestValue, to writer: inout JSONWriter) {
        switch value.content {
        case .scalar(let text, let isPlain):
            if isPlain, ["true", "false", "null"].contains(text) || isNumber(text) {
                writer.raw(text.utf8)
            } else {
                writer.value(text)
            }
        case .object(let fields):
            writer.object { writer in
                for field in fields {
                    writer.key(field.name)
                    write(field.value, to: &writer)
                }
            }
        case .array(let values): writer.array { writer in for element in values { write(element, to: &writer) } }
        }
    }
}
