import SluiceCore

extension Schema {
    /// What is wrong with a value, as a sentence that names the place and what may stand there; nil if it fits.
    ///
    /// - Parameter isRequest: As in `write`. Members that are not described are wrong in requests and in answers: the tests hold
    ///   Sluice to its document by this, although the document lets answers grow.
    func problem(with value: JSONView, at place: String = "", isRequest: Bool) -> String? {
        if value.isNull, isNullable { return nil }
        switch form {
        case .any: return nil
        case .something: return value.isNull ? wrong(place) : nil
        case .text(let rule): return value.string.map(rule.fits) == true ? nil : wrong(place)
        case .whole(let range): return value.whole.map(range.contains) == true ? nil : wrong(place)
        case .number: return value.kind == .number ? nil : wrong(place)
        case .flag: return value.kind == .bool ? nil : wrong(place)
        case .list(let element):
            guard let elements = value.elements else { return wrong(place) }
            for (index, value) in elements.enumerated() {
                if let problem = element.problem(with: value, at: "\(place)[\(index)]", isRequest: isRequest) { return problem }
            }
            return nil
        case .object(let members): return Schema.problem(with: value, members, at: place, isRequest: isRequest) ?? nil
        case .map(let schema):
            guard let entries = value.members else { return wrong(place) }
            for entry in entries {
                if let problem = schema.problem(with: entry.value, at: Schema.join(place, entry.key), isRequest: isRequest) {
                    return problem
                }
            }
            return nil
        case .named(let name):
            guard let schema = OpenAPI.components[name] else { return "\(Schema.shown(place)) has no schema `\(name)`" }
            return schema.problem(with: value, at: place, isRequest: isRequest)
        case .either(let schemas):
            let problems = schemas.map { $0.problem(with: value, at: place, isRequest: isRequest) }
            return problems.contains { $0 == nil } ? nil : problems.compactMap(\.self).first ?? wrong(place)
        }
    }

    /// The value with whole numbers as digits alone; whatever has no schema of its own stays byte for byte.
    func plain(_ value: JSONView) -> [UInt8] {
        var writer = JSONWriter()
        write(plain: value, to: &writer)
        return writer.bytes
    }

    private func write(plain value: JSONView, to writer: inout JSONWriter) {
        switch (form, value.kind) {
        case (.whole, .number):
            if let whole = value.whole { writer.value(whole) } else { writer.raw(value.bytes) }
        case (.list(let element), .array):
            writer.array { writer in for each in value.elements ?? [] { element.write(plain: each, to: &writer) } }
        case (.object(let members), .object):
            writer.object { writer in
                for entry in value.members ?? [] {
                    writer.key(entry.key)
                    let schema = members.first { $0.name == entry.key }?.schema ?? .any
                    schema.write(plain: entry.value, to: &writer)
                }
            }
        default: writer.raw(value.bytes)
        }
    }

    private static func problem(with value: JSONView, _ members: [Member], at place: String, isRequest: Bool) -> String? {
        guard let entries = value.members else { return "\(shown(place)) must be a JSON object" }
        var seen: Set<String> = []
        for entry in entries {
            guard let member = members.first(where: { $0.name == entry.key }) else {
                let known = members.map(\.name)
                return "\(shown(place)) takes no `\(entry.key.prefix(64))`: \(Words.hint(entry.key, among: known))"
            }
            guard seen.insert(entry.key).inserted else { return "`\(join(place, entry.key))` is given twice" }
            if isRequest, member.isOptional, entry.value.isNull { continue }
            if let problem = member.schema.problem(with: entry.value, at: join(place, entry.key), isRequest: isRequest) { return problem }
        }
        guard let missing = members.first(where: { !$0.isOptional && !seen.contains($0.name) }) else { return nil }
        return missing.schema.wrong(join(place, missing.name)) + ", and it is missing"
    }

    /// What a parameter's text says against the schema; nil if it fits.
    func problem(withText text: String, named name: String) -> String? {
        let fits =
            switch form {
            case .whole(let range): Int64(text).map(range.contains) == true
            case .flag: text == "true" || text == "false"
            case .text(let rule): rule.fits(text)
            default: true
            }
        return fits ? nil : wrong(name)
    }

    private func wrong(_ place: String) -> String { "\(Schema.shown(place)) is \(sentence)\(isNullable ? ", or null" : "")" }

    private var sentence: String {
        switch form {
        case .any: "any JSON"
        case .something: "any JSON but null"
        case .text(let rule): rule.sentence
        case .whole(let range) where range == Int64.min...Int64.max: "a whole number"
        case .whole(let range) where range.upperBound == .max: "a whole number from \(range.lowerBound) on"
        case .whole(let range): "a whole number from \(range.lowerBound) to \(range.upperBound)"
        case .number: "a number"
        case .flag: "true or false"
        case .list: "a list"
        case .object, .map, .named: "an object"
        case .either(let schemas): schemas.map(\.sentence).joined(separator: ", or ")
        }
    }

    private static func shown(_ place: String) -> String { place.isEmpty ? "the body" : "`\(place)`" }

    private static func join(_ place: String, _ name: String) -> String { place.isEmpty ? name : "\(place).\(name)" }
}

extension TextRule {
    func fits(_ text: String) -> Bool {
        if !words.isEmpty { return words.contains(text) }
        if isName { return Words.isName(text) }
        if let lengthMax { return text.unicodeScalars.count <= lengthMax }
        return true
    }

    fileprivate var sentence: String {
        if !words.isEmpty { return words.count == 1 ? words[0] : "one of \(words.joined(separator: ", "))" }
        if isName { return "at most 64 letters, digits, `-`, `_` and `.`" }
        return lengthMax.map { "text of at most \($0) characters" } ?? "text"
    }
}

extension JSONView {
    /// A whole number, also where it is written as 20.0: JSON Schema (2020-12, 6.1.1) tells the two not apart.
    fileprivate var whole: Int64? {
        if let number = int64 { return number }
        guard let literal = numberLiteral, let point = literal.firstIndex(of: "."),
            literal[literal.index(after: point)...].allSatisfy({ $0 == "0" })
        else { return nil }
        return Int64(literal[..<point])
    }
}
