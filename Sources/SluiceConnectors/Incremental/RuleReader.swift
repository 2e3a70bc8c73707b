import SluiceCore

/// Reads an object of a connector's rules, key by key; every error names the key, and what nobody asked for is refused.
struct RuleReader {
    /// Where the object stands, for example `incremental.cursor`.
    let place: String
    let members: [(key: String, value: JSONView)]
    private var known: [String] = []

    init(_ view: JSONView, at place: String) throws(SluiceError) {
        self.place = place
        // Lua cannot tell an empty object from an empty array.
        if view.elements?.isEmpty == true {
            members = []
        } else if let members = view.members {
            self.members = members
        } else {
            throw SluiceError(.connector, "\(place) must be a table with named keys")
        }
    }

    func fault(_ key: String, _ what: String) -> SluiceError { SluiceError(.connector, "\(place).\(key) \(what)") }

    /// The value of a key as it stands.
    mutating func view(_ key: String) -> JSONView? { take(key) }

    /// For the reference.
    private func note(_ key: String, _ kind: KeyWitness.Kind) { KeyWitness.note(place, key, kind) }

    private mutating func take(_ key: String) -> JSONView? {
        if !known.contains(key) { known.append(key) }
        note(key, .value)
        return members.first { $0.key == key }.map(\.value).flatMap { $0.isNull ? nil : $0 }
    }

    /// Any value, for those who read it themselves.
    mutating func value(_ key: String) -> JSONView? { take(key) }

    func required<Value>(_ key: String, _ value: Value?) throws(SluiceError) -> Value {
        if let value { return value }
        let strays = members.map(\.key).filter { !known.contains($0) }
        guard let near = strays.first(where: { Spelling.isNear($0, key) }) else { throw fault(key, "is missing: add it") }
        throw fault(key, "is missing; `\(near)` stands there, which means nothing: did you mean \(key)?")
    }

    mutating func optionalText(_ key: String) throws(SluiceError) -> String? {
        note(key, .text)
        guard let view = take(key) else { return nil }
        guard let text = view.text else { throw fault(key, "must be text") }
        return text
    }

    mutating func text(_ key: String) throws(SluiceError) -> String { try required(key, try optionalText(key)) }

    mutating func optionalTemplate(_ key: String) throws(SluiceError) -> Template? {
        note(key, .template)
        guard let text = try optionalText(key) else { return nil }
        return try template(text, key)
    }

    mutating func template(_ key: String) throws(SluiceError) -> Template { try required(key, try optionalTemplate(key)) }

    func template(_ text: String, _ key: String, _ places: Template.Places = .fields) throws(SluiceError) -> Template {
        do throws(SluiceError) {
            let template = try Template(text, places)
            PlaceWitness.note(template, "\(place).\(key)")
            return template
        } catch {
            throw fault(key, "is malformed: \(error.message)")
        }
    }

    mutating func flag(_ key: String) throws(SluiceError) -> Bool? {
        note(key, .flag)
        guard let view = take(key) else { return nil }
        guard let flag = view.bool else { throw fault(key, "must be true or false") }
        return flag
    }

    mutating func integer(_ key: String, _ range: ClosedRange<Int64>) throws(SluiceError) -> Int64? {
        note(key, .integer(range))
        guard let view = take(key) else { return nil }
        guard let value = view.int64, range.contains(value) else {
            throw fault(key, "must be a whole number from \(range.lowerBound) to \(range.upperBound)")
        }
        return value
    }

    /// One whole number, or a list of them.
    mutating func integers(_ key: String, _ range: ClosedRange<Int64>) throws(SluiceError) -> [Int64] {
        note(key, .integer(range))
        guard let view = take(key) else { return [] }
        var values: [Int64] = []
        for element in view.elements ?? [view] {
            guard let value = element.int64, range.contains(value) else {
                throw fault(key, "must be a list of whole numbers from \(range.lowerBound) to \(range.upperBound)")
            }
            values.append(value)
        }
        return values
    }

    mutating func choice(_ key: String, _ choices: [String]) throws(SluiceError) -> String? {
        note(key, .choice(choices))
        guard let text = try optionalText(key) else { return nil }
        guard choices.contains(text) else {
            throw fault(key, "is \(text.debugDescription), but must be \(choices.joined(separator: ", "))")
        }
        return text
    }

    mutating func optionalPath(_ key: String) throws(SluiceError) -> JSONPath? {
        note(key, .path)
        guard let view = take(key) else { return nil }
        return try path(view, key)
    }

    mutating func path(_ key: String) throws(SluiceError) -> JSONPath { try required(key, try optionalPath(key)) }

    /// One path as text, or an array of paths.
    mutating func paths(_ key: String) throws(SluiceError) -> [JSONPath] {
        note(key, .paths)
        guard let view = take(key) else { return [] }
        guard let elements = view.elements else { return [try path(view, key)] }
        var paths: [JSONPath] = []
        for element in elements { paths.append(try path(element, key)) }
        return paths
    }

    func path(_ view: JSONView, _ key: String) throws(SluiceError) -> JSONPath {
        let keys: [String?] =
            view.elements?.map(\.string) ?? view.string?.split(separator: ".", omittingEmptySubsequences: false).map { String($0) } ?? [nil]
        let names = keys.compactMap { $0 }
        if names.count != keys.count || names.contains("") {
            throw fault(key, "must be keys with points between them, such as \"data.items\", or an array of keys")
        }
        return JSONPath(names)
    }

    mutating func optionalNested(_ key: String) throws(SluiceError) -> RuleReader? {
        note(key, .table)
        guard let view = take(key) else { return nil }
        return try RuleReader(view, at: "\(place).\(key)")
    }

    mutating func nested(_ key: String) throws(SluiceError) -> RuleReader { try required(key, try optionalNested(key)) }

    /// Whether a key stands there, of which nothing else is known yet.
    func holds(_ key: String) -> Bool { members.contains { $0.key == key && !$0.value.isNull } }

    /// Names and templates, for parameters and headers. Numbers and booleans count as text.
    mutating func templates(_ key: String, _ places: Template.Places = .fields) throws(SluiceError) -> [Incremental.NamedTemplate] {
        note(key, .templates)
        guard let reader = try optionalNested(key) else { return [] }
        var result: [Incremental.NamedTemplate] = []
        for (name, value) in reader.members {
            guard let text = value.text ?? value.bool.map({ $0 ? "true" : "false" }) else { throw reader.fault(name, "must be text") }
            result.append(.init(name, try reader.template(text, name, places)))
        }
        return result
    }

    /// Refuses every key that was not asked for.
    func finish() throws(SluiceError) {
        for (key, _) in members where !known.contains(key) {
            throw fault(key, "means nothing here: remove it, or choose from \(known.sorted().joined(separator: ", "))")
        }
    }

    /// The same where exactly one of the keys must be given, whatever of `extras` stands beside it.
    func finishWithOne(besides extras: [String] = []) throws(SluiceError) {
        try finish()
        if members.count(where: { !extras.contains($0.key) }) != 1 {
            let keys = known.filter { !extras.contains($0) }.sorted().joined(separator: ", ")
            throw SluiceError(.connector, "\(place) must hold exactly one of \(keys)")
        }
    }
}
