import SluiceCore

/// What a request sends, held against what its operation describes.
extension Operation {
    /// Throws `.invalid` naming the first thing that is not as described. Returns the body for the handler: the same, but with whole
    /// numbers written as such.
    func check(_ request: APIRequest) throws(SluiceError) -> [UInt8] {
        try check(request.query)
        guard let body else {
            try Operation.checkNoBody(request)
            return request.body
        }
        guard body.others.isEmpty || request.isJSON || Operation.isWrapped(request.body) else { return request.body }
        let view = try APICall(request: request, parameters: [:]).object()
        if let problem = body.schema.problem(with: view, isRequest: true) { throw SluiceError(.invalid, problem) }
        return request.body.contains(UInt8(ascii: ".")) ? body.schema.plain(view) : request.body
    }

    /// Who sends something expects it to be minded. An empty object is what some clients send where they have nothing to say.
    private static func checkNoBody(_ request: APIRequest) throws(SluiceError) {
        guard request.method != "GET", request.method != "HEAD", !request.body.isEmpty else { return }
        guard let root = (try? JSONDocument(request.body))?.root, root.isNull || root.members?.isEmpty == true else {
            throw SluiceError(.invalid, "this address takes no body: send none")
        }
    }

    /// A manifest in its JSON envelope is one whatever its Content-Type says: curl names forms unless told otherwise.
    private static func isWrapped(_ body: [UInt8]) -> Bool { (try? JSONDocument(body))?.root["manifest"]?.string != nil }

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
