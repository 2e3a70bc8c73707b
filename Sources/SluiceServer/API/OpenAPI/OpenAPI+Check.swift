import SluiceCore

/// What a request sends, held against what its operation describes.
extension Operation {
    /// Throws `.invalid` naming the first thing that is not as described. Returns the body for the handler: the same, but with whole
    /// numbers written as such.
    func check(_ request: APIRequest) throws(SluiceError) -> [UInt8] {
        try check(request.query)
        guard let body, body.others.isEmpty || request.isJSON else { return request.body }
        let view = try APICall(request: request, parameters: [:]).object()
        if let problem = body.schema.problem(with: view, isRequest: true) { throw SluiceError(.invalid, problem) }
        return request.body.contains(UInt8(ascii: ".")) ? body.schema.plain(view) : request.body
    }

    private func check(_ query: [(name: String, value: String)]) throws(SluiceError) {
        var seen: Set<String> = []
        for (name, value) in query {
            guard let parameter = parameters.first(where: { $0.place == .query && $0.name == name }) else {
                let known = parameters.filter { $0.place == .query }.map(\.name)
                let hint = known.isEmpty ? "it takes no query" : Words.hint(name, among: known)
                throw SluiceError(.invalid, "this address takes no `\(name.prefix(64))`: \(hint)")
            }
            guard seen.insert(name).inserted || parameter.isRepeated else { throw SluiceError(.invalid, "`\(name)` is given twice") }
            if let problem = parameter.schema.problem(withText: value, named: name) { throw SluiceError(.invalid, problem) }
        }
        for parameter in parameters where parameter.place == .query && parameter.isRequired && !seen.contains(parameter.name) {
            throw SluiceError(.invalid, "`\(parameter.name)` is missing: \(parameter.note)")
        }
    }
}
