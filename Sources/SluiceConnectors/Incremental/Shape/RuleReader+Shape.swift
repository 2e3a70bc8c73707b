import SluiceCore

extension RuleReader {
    /// A table, or a list of them.
    mutating func nestedList(_ key: String) throws(SluiceError) -> [RuleReader] {
        guard let view = view(key) else { return [] }
        guard let elements = view.elements, !elements.isEmpty else { return [try RuleReader(view, at: "\(place).\(key)")] }
        var result: [RuleReader] = []
        for (index, element) in elements.enumerated() { result.append(try RuleReader(element, at: "\(place).\(key)[\(index + 1)]")) }
        return result
    }

    /// A list of names.
    mutating func names(_ key: String) throws(SluiceError) -> [String] {
        guard let view = view(key) else { return [] }
        guard let texts = view.elements?.map(\.string), !texts.contains(nil) else { throw fault(key, "must be a list of names") }
        return texts.compactMap(\.self)
    }

    mutating func headerName(_ key: String) throws(SluiceError) -> String {
        let name = try text(key)
        guard HeaderText.isName(name) else { throw fault(key, "must be the name of a header, such as X-Signature") }
        return name
    }

    mutating func optionalTemplate(_ key: String, _ places: Template.Places) throws(SluiceError) -> Template? {
        guard let text = try optionalText(key) else { return nil }
        return try template(text, key, places)
    }

    /// A text with places, a number, or true or false.
    mutating func valueTemplate(_ key: String) throws(SluiceError) -> Template? {
        guard let view = view(key) else { return nil }
        return try valueTemplate(view, key)
    }

    mutating func valueTemplates(_ key: String) throws(SluiceError) -> [Template] {
        guard let view = view(key) else { return [] }
        var result: [Template] = []
        for element in view.elements ?? [view] { result.append(try valueTemplate(element, key)) }
        if result.isEmpty { throw fault(key, "must be a list of values, or a place such as {input.states}") }
        return result
    }

    private func valueTemplate(_ view: JSONView, _ key: String) throws(SluiceError) -> Template {
        guard let text = view.text ?? view.bool.map({ $0 ? "true" : "false" }) else {
            throw fault(key, "must be text, a number, true or false")
        }
        return try template(text, key, .fields)
    }

    /// Every key with the path that it names.
    func allPaths() throws(SluiceError) -> [(name: String, path: JSONPath)] {
        var result: [(name: String, path: JSONPath)] = []
        for (key, value) in members { result.append((key, try path(value, key))) }
        if result.isEmpty { throw SluiceError(.connector, "\(place) must name at least one field") }
        return result
    }
}
