import SluiceCore

/// What a POST carries: JSON, a form, a GraphQL query or XML, with places for values.
///
/// A JSON string that is one place and nothing else becomes the value itself, with its own type: `limit = "{input.limit}"`
/// is a number if the input's is one. The cursor has its declared type (`rfc3339` is text, the others are numbers), unless
/// `"{cursor:text}"` or `"{cursor:number}"` says otherwise. A member or an element whose place has no value is left out.
public struct RequestBody: Sendable {
    enum Content: Sendable {
        case json(BodyValue)
        case form([Incremental.NamedTemplate])
        /// The query's text is sent as it stands: its braces are no places.
        case graphQL(query: String, variables: BodyValue?)
        /// Values are escaped, so that none of them can become an element.
        case xml(Template)
    }
    let content: Content

    /// Words that a body may name besides fields.
    static let places = Template.Places.words("cursor", "upper")

    /// Throws `SluiceError` for a malformed template inside.
    public static func json(_ document: JSONDocument) throws(SluiceError) -> RequestBody {
        RequestBody(content: .json(try BodyValue(document.root)))
    }

    public static func form(_ fields: [Incremental.NamedTemplate]) -> RequestBody { RequestBody(content: .form(fields)) }

    /// As GraphQL over HTTP says: `{"query":…,"variables":…}`. Errors in an answer with status 200 fail the poll.
    public static func graphQL(query: String, variables: JSONDocument? = nil) throws(SluiceError) -> RequestBody {
        var value: BodyValue?
        if let variables { value = try BodyValue(variables.root) }
        return RequestBody(content: .graphQL(query: query, variables: value))
    }

    /// XML, such as a SOAP envelope. Throws `SluiceError` for a malformed template.
    public static func xml(_ text: String) throws(SluiceError) -> RequestBody {
        let template = try Template(text, places)
        PlaceWitness.note(template, "incremental.body")
        return RequestBody(content: .xml(template))
    }

    var isGraphQL: Bool { if case .graphQL = content { true } else { false } }
    var isXML: Bool { if case .xml = content { true } else { false } }

    /// Whether it cannot be made without a cursor: in text there is nothing that could be left out.
    var needsCursor: Bool { if case .xml(let template) = content { template.needs("cursor") } else { false } }

    /// Whether a word such as `upper` stands in it.
    func names(_ word: String) -> Bool {
        switch content {
        case .json(let value): value.templates.contains { $0.names(of: .word).contains(word) }
        case .form(let fields): fields.contains { $0.value.names(of: .word).contains(word) }
        case .graphQL(_, let variables): variables?.templates.contains { $0.names(of: .word).contains(word) } ?? false
        case .xml(let template): template.mentions(word)
        }
    }

    var templates: [Template] {
        switch content {
        case .json(let value): value.templates
        case .form(let fields): fields.map(\.value)
        case .graphQL(_, let variables): variables?.templates ?? []
        case .xml(let template): [template]
        }
    }

    /// What it says besides values: its keys and its fixed text.
    var literal: String {
        switch content {
        case .json(let value): value.literal
        case .form(let fields): fields.map { $0.name + " " + $0.value.literal }.joined(separator: " ")
        case .graphQL(let query, let variables): query + " " + (variables?.literal ?? "")
        case .xml(let template): template.literal
        }
    }

    /// The body of a request and its media type.
    func render(_ request: PollRequest) throws(PollFailure) -> (bytes: [UInt8], type: String) {
        switch content {
        case .json(let value): return (try value.bytes(request) ?? Array("{}".utf8), "application/json")
        case .form(let fields):
            var pairs: [String] = []
            for field in fields {
                guard let text = try field.value.optionalText(request, for: "the form's field \(field.name)") else { continue }
                pairs.append(WebURL.encode(field.name) + "=" + WebURL.encode(text))
            }
            return (Array(pairs.joined(separator: "&").utf8), "application/x-www-form-urlencoded")
        case .graphQL(let query, let variables):
            let values = try variables?.bytes(request)
            var writer = JSONWriter()
            writer.object { writer in
                writer.member("query", query)
                if let values {
                    writer.key("variables")
                    writer.raw(values)
                }
            }
            return (writer.bytes, "application/json")
        case .xml(let template):
            let text = try template.text(request, for: "the request's body", encode: RequestBody.escapedXML)
            guard text.unicodeScalars.allSatisfy({ $0.value >= 0x20 || [0x09, 0x0A, 0x0D].contains($0.value) }) else {
                throw PollFailure(
                    .permanent, SluiceError(.invalid, "a value for the request's body has a control character, which XML cannot carry"))
            }
            return (Array(text.utf8), "text/xml; charset=utf-8")
        }
    }

    /// A value as it stands in an element or an attribute (XML 1.0, 2.4).
    private static func escapedXML(_ text: String) -> String {
        let names: [Character: String] = ["&": "&amp;", "<": "&lt;", ">": "&gt;", "\"": "&quot;", "'": "&apos;"]
        return text.map { names[$0] ?? String($0) }.joined()
    }
}

/// A JSON value with places for values.
indirect enum BodyValue: Sendable {
    /// How a place that stands alone becomes JSON.
    enum Form: Sendable { case own, text, number }

    case literal([UInt8])
    case text(Template, Form)
    case object([(key: String, value: BodyValue)])
    case array([BodyValue])

    init(_ view: JSONView) throws(SluiceError) {
        switch view.kind {
        case .object:
            var members: [(key: String, value: BodyValue)] = []
            for (key, value) in view.members ?? [] { members.append((key, try BodyValue(value))) }
            self = .object(members)
        case .array:
            var elements: [BodyValue] = []
            for element in view.elements ?? [] { elements.append(try BodyValue(element)) }
            self = .array(elements)
        case .string:
            let text = view.string ?? ""
            for (suffix, form) in [(":number}", Form.number), (":text}", .text)] where text.hasPrefix("{") && text.hasSuffix(suffix) {
                let template = try Template(String(text.dropLast(suffix.count)) + "}", RequestBody.places)
                guard template.isSinglePlace else { continue }
                PlaceWitness.note(template, "incremental.body")
                self = .text(template, form)
                return
            }
            let template = try Template(text, RequestBody.places)
            PlaceWitness.note(template, "incremental.body")
            self = .text(template, .own)
        case .number, .bool, .null: self = .literal(Array(view.bytes))
        }
    }

    var templates: [Template] {
        switch self {
        case .literal: []
        case .text(let template, _): [template]
        case .object(let members): members.flatMap(\.value.templates)
        case .array(let elements): elements.flatMap(\.templates)
        }
    }

    var literal: String {
        switch self {
        case .literal(let bytes): String(decoding: bytes, as: UTF8.self)
        case .text(let template, _): template.literal
        case .object(let members): members.map { $0.key + " " + $0.value.literal }.joined(separator: " ")
        case .array(let elements): elements.map(\.literal).joined(separator: " ")
        }
    }

    /// The value as JSON, or nil if it is a place without a value.
    func bytes(_ request: PollRequest) throws(PollFailure) -> [UInt8]? {
        switch self {
        case .literal(let bytes): return bytes
        case .text(let template, let form): return try template.json(request, as: form)
        case .object(let members):
            var parts: [(String, [UInt8])] = []
            for (key, value) in members { if let bytes = try value.bytes(request) { parts.append((key, bytes)) } }
            var writer = JSONWriter()
            writer.object { writer in
                for (key, bytes) in parts {
                    writer.key(key)
                    writer.raw(bytes)
                }
            }
            return writer.bytes
        case .array(let elements):
            var parts: [[UInt8]] = []
            for element in elements { if let bytes = try element.bytes(request) { parts.append(bytes) } }
            var writer = JSONWriter()
            writer.array { writer in for bytes in parts { writer.raw(bytes) } }
            return writer.bytes
        }
    }
}

extension Template {
    /// The template as a JSON value: a single place as the value that it names, anything else as a string.
    fileprivate func json(_ request: PollRequest, as form: BodyValue.Form) throws(PollFailure) -> [UInt8]? {
        if form == .own, isSinglePlace, case .field(let root, let path, _) = parts[0] {
            if root == .word, let word = request.scope[path.keys[0]], word.isNumber { return Array(word.text.utf8) }
            if let view = request.view(of: root).flatMap({ path.find(in: $0) }), !view.isNull, view.string?.isEmpty != true {
                return Array(view.bytes)
            }
        }
        guard let text = try optionalText(request, for: "the request's body") else { return nil }
        if form == .number {
            guard JSONNumber.isOne(text) else {
                throw PollFailure(.permanent, SluiceError(.invalid, "a value that the request's body needs as a number is none"))
            }
            return Array(text.utf8)
        }
        var bytes: [UInt8] = []
        JSONWriter.append(text, to: &bytes)
        return bytes
    }
}

/// Numbers as RFC 8259 writes them.
enum JSONNumber {
    static func isOne(_ text: String) -> Bool { (try? JSONDocument(Array(text.utf8)))?.root.numberLiteral == text }
}
