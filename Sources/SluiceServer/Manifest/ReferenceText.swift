import SluiceCore

/// Text with references to values that do not belong into a file: `${env:NAME}` and `${file:PATH}`. `$${` stands for `${`.
public struct ReferenceText: Sendable, Equatable {
    public enum Part: Sendable, Equatable {
        case literal(String)
        /// `env:NAME` or `file:PATH`.
        case reference(String)
    }
    public var parts: [Part]

    public var references: [String] {
        parts.compactMap { if case .reference(let name) = $0 { name } else { nil } }
    }

    /// Nil with a reason if a reference is malformed.
    public static func parse(_ text: String) -> Result<ReferenceText, Malformed> {
        var parts: [Part] = []
        var literal = ""
        var rest = Substring(text)
        while let dollar = rest.firstIndex(of: "$") {
            literal += rest[..<dollar]
            rest = rest[dollar...]
            if rest.hasPrefix("$${") {
                literal += "${"
                rest = rest.dropFirst(3)
            } else if rest.hasPrefix("${") {
                guard let end = rest.firstIndex(of: "}") else { return .failure(Malformed(reason: "a `${` is not closed by `}`")) }
                let name = String(rest[rest.index(rest.startIndex, offsetBy: 2)..<end])
                guard let colon = name.firstIndex(of: ":"), ["env", "file"].contains(name[..<colon]),
                    name.index(after: colon) < name.endIndex
                else {
                    return .failure(Malformed(reason: "a reference is written ${env:NAME} or ${file:PATH} (write $${ for a plain ${)"))
                }
                if !literal.isEmpty { parts.append(.literal(literal)) }
                literal = ""
                parts.append(.reference(name))
                rest = rest[rest.index(after: end)...]
            } else {
                literal += "$"
                rest = rest.dropFirst()
            }
        }
        literal += rest
        if !literal.isEmpty || parts.isEmpty { parts.append(.literal(literal)) }
        return .success(ReferenceText(parts: parts))
    }

    public struct Malformed: Error, Equatable { public var reason: String }

    /// The text with its references replaced; nil if a value is missing.
    public func resolved(_ values: [String: String]) -> String? {
        var text = ""
        for part in parts {
            switch part {
            case .literal(let literal): text += literal
            case .reference(let name):
                guard let value = values[name] else { return nil }
                text += value
            }
        }
        return text
    }

    /// All references in a document, in any of its values, without repetition, sorted.
    public static func all(in value: YAMLValue) -> [String] {
        var found: Set<String> = []
        collect(value, into: &found)
        return found.sorted()
    }

    private static func collect(_ value: YAMLValue, into found: inout Set<String>) {
        switch value.content {
        case .scalar(let text, _):
            if case .success(let parsed) = parse(text) { found.formUnion(parsed.references) }
        case .mapping(let members): for member in members { collect(member.value, into: &found) }
        case .sequence(let values): for element in values { collect(element, into: &found) }
        }
    }
}

/// Reads the values that a manifest refers to, where the person is who applies it.
public enum References {
    private static let fileBytesMax = 64 * 1024

    /// The values of all references of a manifest that can be had; missing ones are left out, and `apply` names them. A file's
    /// last line end does not count. Reads files.
    public static func values(of manifest: String, file: String, environment: [String: String]) throws(SluiceError) -> [String: String] {
        var values: [String: String] = [:]
        for name in ReferenceText.all(in: try YAMLValue.parse(manifest, file: file)) {
            if name.hasPrefix("env:") {
                values[name] = environment[String(name.dropFirst(4))]
            } else if let bytes = try SmallFile.read(String(name.dropFirst(5)), bytesMax: fileBytesMax) {
                var text = String(decoding: bytes, as: UTF8.self)
                if text.hasSuffix("\r\n") || text.hasSuffix("\n") { text.removeLast() }
                values[name] = text
            }
        }
        return values
    }
}
