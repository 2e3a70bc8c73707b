import SluiceCore

/// What shaping keeps beside the cursor and the page state of the poll that it shapes.
///
/// ```
/// page state: {"shape":{"lookup":{…},"carried":[["X-Session","…"]],"upper":1700000000000},"page":…}
/// cursor:     {"mark":…,"value":…,"validator":{…}}
/// ```
/// Both are as they were without shaping where there is nothing to keep.
struct ShapeState: Sendable {
    /// What the lookups of this cycle found: a JSON object.
    var lookup: JSONDocument?
    var carried: [HTTPField] = []
    /// The upper bound that all pages of the cycle are asked with.
    var upper: Timestamp?
    /// The upper bound comes from the server's clock.
    var isUpperServers = false
    /// Of the cycle's first page, committed with the cursor.
    var validator: Validator?

    init() {}

    /// Takes the shape's part out of a request. A cursor or page state without one passes as it is.
    static func split(_ request: PollRequest) throws(PollFailure) -> (inner: PollRequest, state: ShapeState) {
        var (inner, state) = (request, ShapeState())
        if let json = request.pageState, let root = try? JSONDocument(json).root, let shape = root["shape"] {
            let page = root["page"]
            inner.pageState = page.flatMap { $0.isNull ? nil : Array($0.bytes) }
            if let lookup = shape["lookup"] { state.lookup = try? JSONDocument(lookup.bytes) }
            for pair in shape["carried"]?.elements ?? [] {
                let texts = (pair.elements ?? []).compactMap(\.string)
                if texts.count == 2 { state.carried.append(HTTPField(texts[0], texts[1])) }
            }
            state.upper = shape["upper"]?.int64.map { Timestamp(milliseconds: $0) }
            state.isUpperServers = shape["upper_is_servers"]?.bool ?? false
        }
        if let json = request.cursor, let root = try? JSONDocument(json).root, let validator = root["validator"] {
            state.validator = Validator(validator)
            inner.cursor = ShapeState.withoutValidator(root)
        }
        inner.scope.lookup = state.lookup
        return (inner, state)
    }

    private static func withoutValidator(_ root: JSONView) -> [UInt8]? {
        let rest = (root.members ?? []).filter { $0.key != "validator" }
        guard !rest.isEmpty else { return nil }
        var writer = JSONWriter()
        writer.object { writer in
            for (key, value) in rest {
                writer.key(key)
                writer.raw(value.bytes)
            }
        }
        return writer.bytes
    }

    /// The page state to keep until the next page, around that of the poll.
    func pageState(around page: [UInt8]?) -> [UInt8]? {
        guard lookup != nil || !carried.isEmpty || upper != nil else { return page }
        var writer = JSONWriter()
        writer.object { writer in
            writer.key("shape")
            writer.object { writer in
                if let lookup {
                    writer.key("lookup")
                    writer.raw(lookup.root.bytes)
                }
                if !carried.isEmpty {
                    writer.key("carried")
                    writer.array { writer in
                        for field in carried {
                            writer.array { writer in
                                writer.value(field.name)
                                writer.value(field.value)
                            }
                        }
                    }
                }
                if let upper { writer.member("upper", upper.milliseconds) }
                if isUpperServers { writer.member("upper_is_servers", true) }
            }
            writer.key("page")
            if let page { writer.raw(page) } else { writer.null() }
        }
        return writer.bytes
    }

    /// A cursor of the poll together with a validator.
    static func cursor(_ inner: [UInt8]?, with validator: Validator) -> [UInt8]? {
        let root = inner.flatMap { try? JSONDocument($0).root }
        // One that was set by hand may be a bare number or text: it stays as it is.
        if let root, root.kind != .object { return inner }
        var writer = JSONWriter()
        writer.object { writer in
            for (key, value) in root?.members ?? [] {
                writer.key(key)
                writer.raw(value.bytes)
            }
            writer.key("validator")
            validator.write(to: &writer)
        }
        return writer.bytes
    }
}
