/// What one route does, in the words of OpenAPI: what it takes, what it answers, and how it refuses.
struct Operation: Sendable {
    var method: String
    /// As in the table of routes: `/v1/triggers/:name`.
    var path: String
    /// Unique; what generated clients call it.
    var id: String
    /// One line.
    var summary: String
    var description: String?
    var parameters: [Parameter]
    var body: Body?
    var answers: [Answer]
    /// Statuses that it may refuse with, besides those that every operation has.
    var errors: [Int]

    init(
        _ method: String, _ path: String, _ id: String, _ summary: String, _ description: String? = nil, parameters: [Parameter] = [],
        body: Body? = nil, answers: [Answer], errors: [Int] = []
    ) {
        self.method = method
        self.path = path
        self.id = id
        self.summary = summary
        self.description = description
        self.parameters = parameters
        self.body = body
        self.answers = answers
        self.errors = errors
    }

    /// Every status it may refuse with, in order.
    func refusals(isOpen: Bool) -> [Int] {
        Set(errors + [400, 413, 500, 503] + (isOpen ? [] : [401])).sorted()
    }
}

/// A part of the path, the query or the headers.
struct Parameter: Sendable {
    enum Place: String, Sendable { case path, query, header }

    var place: Place
    var name: String
    var schema: Schema
    var note: String
    var isRequired: Bool
    /// May be given more than once.
    var isRepeated = false
    /// As it stands in the URL.
    var example: String?

    static func path(_ name: String, _ schema: Schema, _ note: String, example: String? = nil) -> Parameter {
        Parameter(place: .path, name: name, schema: schema, note: note, isRequired: true, example: example)
    }

    static func query(
        _ name: String, _ schema: Schema, _ note: String, isRequired: Bool = false, isRepeated: Bool = false, example: String? = nil
    ) -> Parameter {
        Parameter(
            place: .query, name: name, schema: schema, note: note, isRequired: isRequired, isRepeated: isRepeated, example: example)
    }

    static func header(_ name: String, _ schema: Schema, _ note: String, example: String? = nil) -> Parameter {
        Parameter(place: .header, name: name, schema: schema, note: note, isRequired: false, example: example)
    }

    /// How many entries of a list are wanted.
    static let limit = limit(standard: 50)
    static func limit(standard: Int, max: Int64 = 1000) -> Parameter {
        query("limit", .whole(1...max), "At most so many entries; \(standard) unless said.")
    }
    /// Where a list goes on; `next` of the page before.
    static let after = query("after", .opaque, "The `next` of the page before.")
    /// The same, for lists that go on after a number.
    static let afterNumber = query("after", .whole(1...Int64.max), "The `next` of the page before.")
}

/// What is sent with a request.
struct Body: Sendable {
    var schema: Schema
    /// JSON.
    var example: String?
    /// Without a body it does what it does with `{}`.
    var isOptional: Bool
    /// Other forms that are taken: content type and what it is. Only what says that it is JSON is held against the schema then.
    var others: [(type: String, schema: Schema)] = []

    static func json(_ members: [Member], example: String? = nil) -> Body {
        Body(schema: .object(members), example: example, isOptional: members.allSatisfy(\.isOptional))
    }
}

/// What comes back when all is well.
struct Answer: Sendable {
    var status: Int
    var note: String
    var schema: Schema
    var type = "application/json"
    /// JSON.
    var example: String?

    init(_ note: String, _ schema: Schema, type: String = "application/json", example: String? = nil) {
        self.init(200, note, schema, type: type, example: example)
    }

    init(_ status: Int, _ note: String, _ schema: Schema, type: String = "application/json", example: String? = nil) {
        self.status = status
        self.note = note
        self.schema = schema
        self.type = type
        self.example = example
    }
}

/// Operations that belong together, and what they call things.
struct Area: Sendable {
    /// A tag of the document.
    var name: String
    var note: String
    /// Named schemas; the names are unique in the document.
    var schemas: [(name: String, schema: Schema)]
    var operations: [Operation]

    init(_ name: String, _ note: String, schemas: [(name: String, schema: Schema)] = [], operations: [Operation]) {
        self.name = name
        self.note = note
        self.schemas = schemas
        self.operations = operations
    }
}
