import SluiceCore

/// A request on its route: parameters read with the errors that people need.
struct APICall: Sendable {
    var request: APIRequest
    /// The parts of the path that the route names.
    var parameters: [String: String]
    /// Whose token it was, for what is noted down: `token NAME`, or `this machine`.
    var caller = "this machine"

    func parameter(_ name: String) -> String { parameters[name] ?? "" }

    func query(_ name: String) -> String? { request.query.last { $0.name == name }?.value }

    /// Runs what may wait for long: it is cancelled where the caller hangs up.
    func untilHangUp<Value: Sendable>(_ body: @escaping @Sendable () async throws -> Value) async throws -> Value {
        guard let caller = request.caller else { return try await body() }
        return try await caller.untilHangUp(body)
    }

    func flag(_ name: String) -> Bool { query(name) == "true" }

    /// How many entries of a list are wanted.
    func limit(_ standard: Int = 50, max: Int = 1000) throws(SluiceError) -> Int {
        try Int(number("limit", 1...Int64(max)) ?? Int64(standard))
    }

    func number(_ name: String, _ range: ClosedRange<Int64>) throws(SluiceError) -> Int64? {
        guard let text = query(name) else { return nil }
        guard let number = Int64(text), range.contains(number) else {
            throw SluiceError(.invalid, "`\(name)` is a whole number from \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }

    /// The body as a JSON object; an empty body is an empty object.
    func object() throws(SluiceError) -> JSONView {
        let document: JSONDocument
        do {
            document = try JSONDocument(request.body.isEmpty ? Array("{}".utf8) : request.body)
        } catch {
            throw SluiceError(.invalid, "the body is not JSON: it \(error.reason.rawValue) at byte \(error.offset)")
        }
        guard document.root.kind == .object else { throw SluiceError(.invalid, "the body must be a JSON object") }
        return document.root
    }
}

/// A part of a longer list.
struct ListSlice<Element> {
    var elements: ArraySlice<Element>
    /// What to give as `after` to read on; nil at the end.
    var next: String?

    /// Up to `limit` elements whose name comes after `after`; `all` is ordered by name.
    init(_ all: [Element], after: String?, limit: Int, name: (Element) -> String) {
        let start = after.flatMap { after in all.firstIndex { name($0) > after } ?? all.endIndex } ?? all.startIndex
        elements = all[start...].prefix(limit)
        next = elements.endIndex < all.endIndex ? elements.last.map(name) : nil
    }
}

extension JSONWriter {
    /// A time as RFC 3339 text; null for none.
    mutating func member(_ name: String, _ time: Timestamp?) { member(name, time?.description) }

    /// A list under a name.
    mutating func list<Elements: Sequence>(_ name: String, _ elements: Elements, _ body: (inout JSONWriter, Elements.Element) -> Void) {
        key(name)
        array { writer in
            for element in elements { writer.object { body(&$0, element) } }
        }
    }

    /// Checked JSON, or null.
    mutating func member(_ name: String, json: [UInt8]?) {
        key(name)
        if let json { raw(json) } else { null() }
    }
}
