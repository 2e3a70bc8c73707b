import SluiceCore

/// One trigger over many lists of the same kind: the issues of each repository, the messages of each channel.
///
/// ```
/// partitions = { list = { path = "/user/repos", pagination = { link = true } }, id = "full_name" }
/// path = "/repos/{partition.full_name}/issues"
/// ```
/// Each partition has a cursor of its own, all of them inside the trigger's one cursor. Every cycle lists the partitions anew:
/// one that was not there before begins where the trigger itself began, so that nothing is lost between its creation and its
/// discovery; one that is gone keeps its cursor for a while, in case it comes back.
public struct Partitions: Sendable {
    public enum Source: Sendable {
        /// A list of the provider's, read at the start of each cycle.
        case list(PartitionList)
        /// A field of the trigger's input: a list of texts or of objects, or one text with commas.
        case input(String)
        /// Always the same.
        case values([String])
    }
    public var source: Source
    /// What a partition is known by, inside an element of the list; empty if the elements are texts or numbers.
    public var id: JSONPath
    /// More partitions than this fail the poll (P10): their cursors must fit into one.
    public var countMax = Partitions.countMaxDefault
    /// How long the cursor of a partition is kept that is no longer listed.
    public var keepRemoved = Span.days(7)

    public static let countMaxDefault = 200
    static let countMaxHighest: Int64 = 1_000

    public init(source: Source, id: JSONPath) {
        self.source = source
        self.id = id
    }
}

/// How the provider lists partitions.
public struct PartitionList: Sendable {
    public var path: Template
    public var query: [Incremental.NamedTemplate] = []
    /// Where in the answer the array stands; empty if the answer is the array.
    public var records: JSONPath
    public var pagination = Incremental.Pagination.none
    public var pageSize: Incremental.PageSize?

    public init(path: Template, records: JSONPath) {
        self.path = path
        self.records = records
    }
}

/// A partition as a cycle keeps it: its id, and of its element what the templates name.
struct Partition: Sendable, Equatable {
    var id: String
    /// A JSON object.
    var fields: [UInt8]

    static let idBytesMax = 256

    init(id: String, fields: [UInt8]) {
        self.id = id
        self.fields = fields
    }

    /// Nil if the element has no usable id.
    init?(_ element: JSONView, id path: JSONPath, keeping paths: [JSONPath]) {
        guard let id = path.find(in: element)?.text, !id.isEmpty, id.utf8.count <= Partition.idBytesMax else { return nil }
        var fields = JSONView(checked: Array("{}".utf8)[...])
        for path in paths {
            guard let value = path.find(in: element) else { continue }
            fields = JSONView(checked: fields.setting(path.keys[...], to: Array(value.bytes))[...])
        }
        self.init(id: id, fields: Array(fields.bytes))
    }
}

// MARK: JSON

extension Partitions {
    init(_ rule: RuleReader) throws(SluiceError) {
        var rule = rule
        let (list, input, values) = (try rule.optionalNested("list"), try rule.optionalText("input"), try rule.texts("values"))
        let source: Source
        switch (list, input, values.isEmpty) {
        case (let list?, nil, true): source = .list(try PartitionList(list))
        case (nil, let input?, true):
            PlaceWitness.note(input: input, "\(rule.place).input")
            source = .input(input)
        case (nil, nil, false): source = .values(values)
        default: throw rule.fault("list", "or input or values must say where the partitions come from, one of the three")
        }
        let id = try rule.optionalPath("id") ?? JSONPath([])
        if case .list = source, id.keys.isEmpty { throw rule.fault("id", "is missing: name what tells one partition from another") }
        self.init(source: source, id: id)
        countMax = Int(try rule.integer("max", 1...Partitions.countMaxHighest) ?? Int64(Partitions.countMaxDefault))
        keepRemoved = .seconds(try rule.integer("keep_removed_seconds", 0...31_536_000) ?? 604_800)
        try rule.finish()
    }
}

extension PartitionList {
    fileprivate init(_ rule: RuleReader) throws(SluiceError) {
        var rule = rule
        self.init(path: try rule.template("path"), records: try rule.optionalPath("records") ?? JSONPath([]))
        query = try rule.templates("query")
        if let size = try rule.optionalNested("page_size") { pageSize = try Incremental.pageSize(size) }
        if let pages = try rule.optionalNested("pagination") {
            // The same words as for records.
            var reader = Incremental(baseURL: "", path: path, records: records, dedup: .init(id: JSONPath([]), versions: []))
            try reader.readPagination(pages)
            pagination = reader.pagination
        }
        try rule.finish()
    }
}
