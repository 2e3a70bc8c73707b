/// What a value in the API's JSON may be. Three things read it: the OpenAPI document is written from it (JSON Schema 2020-12),
/// requests are checked by it before their handler sees them, and the tests hold every answer against it.
struct Schema: Sendable {
    indirect enum Form: Sendable {
        /// Whatever JSON: a record, a cursor, the settings of a connector.
        case any
        /// Whatever JSON but null.
        case something
        case text(TextRule)
        case whole(ClosedRange<Int64>)
        case number
        case flag
        case list(of: Schema)
        case object([Member])
        /// Names that differ from case to case, with values of one kind.
        case map(of: Schema)
        /// One of the document's components.
        case named(String)
        case either([Schema])
    }

    var form: Form
    var isNullable = false

    init(_ form: Form) { self.form = form }

    var orNull: Schema {
        var copy = self
        copy.isNullable = true
        return copy
    }

    static let any = Schema(.any)
    static let something = Schema(.something)
    static let text = Schema(.text(TextRule()))
    static let flag = Schema(.flag)
    static let number = Schema(.number)
    static let whole = Schema(.whole(Int64.min...Int64.max))
    /// How many there are.
    static let count = Schema(.whole(0...Int64.max))
    /// RFC 3339, in UTC with milliseconds.
    static let time = Schema(.text(TextRule(format: "date-time")))
    /// What people call connections, triggers, destinations, consumers and tokens.
    static let name = Schema(.text(.name))
    /// Given back as it was got; says nothing to its reader.
    static let opaque = Schema(.text(TextRule(lengthMax: 512)))

    static func text(max: Int) -> Schema { Schema(.text(TextRule(lengthMax: max))) }
    static func text(format: String) -> Schema { Schema(.text(TextRule(format: format))) }
    static func whole(_ range: ClosedRange<Int64>) -> Schema { Schema(.whole(range)) }
    static func words(_ words: [String]) -> Schema { Schema(.text(TextRule(words: words))) }
    static func words<Word: CaseIterable & RawRepresentable<String>>(_ type: Word.Type) -> Schema {
        words(Word.allCases.map(\.rawValue))
    }
    static func list(of element: Schema) -> Schema { Schema(.list(of: element)) }
    static func object(_ members: [Member]) -> Schema { Schema(.object(members)) }
    static func map(of value: Schema) -> Schema { Schema(.map(of: value)) }
    static func named(_ component: String) -> Schema { Schema(.named(component)) }
    static func either(_ schemas: [Schema]) -> Schema { Schema(.either(schemas)) }

    /// A page of a longer list: the entries under their name, and `next`, to give as `after`; null at the end.
    static func page(_ name: String, of entry: Schema, _ others: [Member] = []) -> Schema {
        .object(
            [Member(name, .list(of: entry))] + others
                + [Member("next", .opaque.orNull, "Give it as `after` to read on; null at the end.")])
    }
}

/// What a text may be.
struct TextRule: Sendable {
    /// A name from JSON Schema's list of formats.
    var format: String?
    /// In characters (Unicode scalars).
    var lengthMax: Int?
    /// The only ones there are; empty: any.
    var words: [String] = []
    /// As `Words.isName` has it.
    var isName = false

    static let name = TextRule(isName: true)
    static let namePattern = "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$"
}

/// A member of an object.
struct Member: Sendable {
    var name: String
    var schema: Schema
    var note: String?
    /// May be left out; in a request it may be null as well.
    var isOptional: Bool

    init(_ name: String, _ schema: Schema, _ note: String? = nil, isOptional: Bool = false) {
        self.name = name
        self.schema = schema
        self.note = note
        self.isOptional = isOptional
    }
}
