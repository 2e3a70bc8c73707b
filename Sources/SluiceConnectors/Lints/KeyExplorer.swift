import SluiceCore

/// Finds out which keys a reader takes, by giving it tables and mending them as its own errors say.
struct KeyExplorer {
    /// Reads a JSON object, or throws what is wrong with it.
    typealias Read = (JSONDocument) throws -> Void

    private static let mendsMax = 40
    private static let tablesMax = 2000

    private let root: String
    private let read: Read
    private let witness: KeyWitness
    private var seen: Set<String> = []
    /// A document in which the table of a place is read.
    private var documents: [(place: String, json: [UInt8])] = []

    /// `root`: what the reader calls the object that it is given, for example `incremental`.
    init(_ root: String, _ witness: KeyWitness, read: @escaping Read) {
        (self.root, self.witness, self.read) = (root, witness, read)
    }

    /// Visits every table and every choice that can be found.
    mutating func explore() {
        visit(root, Array("{}".utf8))
        var index = 0
        while index < documents.count, index < KeyExplorer.tablesMax {
            let (place, json) = documents[index]
            index += 1
            for (key, kind) in (witness.all[place] ?? [:]).sorted(by: { $0.key < $1.key }) {
                let path = "\(place).\(key)"
                switch kind {
                case .table, .tableOrFunction, .value, .data: if seen.insert(path).inserted { visit(path, setting(json, path, "{}")) }
                case .choice(let choices):
                    for choice in choices where seen.insert("\(path)=\(choice)").inserted {
                        visit(place, setting(json, path, "\"\(choice)\""))
                    }
                case .flag: if seen.insert("\(path)=true").inserted { visit(place, setting(json, path, "true")) }
                default: break
                }
            }
        }
    }

    /// Reads a document until it is whole, or cannot be mended; what was asked for on the way is noted.
    private mutating func visit(_ place: String, _ json: [UInt8]) {
        var json = json
        for _ in 0..<KeyExplorer.mendsMax {
            guard let document = try? JSONDocument(json, depthMax: 80) else { return }
            do {
                try KeyWitness.$current.withValue(witness) { try read(document) }
                break
            } catch {
                guard let mended = mended(json, (error as? SluiceError)?.message ?? "") else { break }
                json = mended
            }
        }
        documents.append((place, json))
    }

    /// The document with what a message says is missing; nil if it says something else.
    private func mended(_ json: [UInt8], _ message: String) -> [UInt8]? {
        guard let path = message.split(separator: " ").first.map(String.init), path.hasPrefix(root + "."),
            let point = path.lastIndex(of: "."), let root = (try? JSONDocument(json, depthMax: 80))?.root
        else { return nil }
        let (place, key) = (String(path[..<point]), String(path[path.index(after: point)...]))
        let keys = path.split(separator: ".").dropFirst().map(String.init)
        // What it must look like is said by example.
        if let mark = message.firstRange(of: "as in \"") {
            let example = message[mark.upperBound...].prefix { $0 != "\"" }
            let made = setting(json, path, "\"\(example)\"")
            return made == json ? nil : made
        }
        guard JSONPath(keys).find(in: root) == nil, let kind = witness.all[place]?[key] else { return nil }
        return setting(json, path, KeyExplorer.sample(kind))
    }

    private func setting(_ json: [UInt8], _ path: String, _ value: String) -> [UInt8] {
        guard let view = (try? JSONDocument(json, depthMax: 80))?.root else { return json }
        return view.setting(path.split(separator: ".").dropFirst().map(String.init)[...], to: Array(value.utf8))
    }

    private static func sample(_ kind: KeyWitness.Kind) -> String {
        switch kind {
        case .value, .text, .template, .path, .paths, .data, .function: "\"x\""
        case .table, .tableOrFunction: "{}"
        case .templates: "{\"x\":\"x\"}"
        case .flag: "true"
        case .seconds: "1"
        case .integer(let range): String(range.lowerBound)
        case .choice(let choices): "\"\(choices.first ?? "x")\""
        }
    }
}

/// What connectors may say, table by table, as the code reads it.
public struct KeyReference: Sendable {
    public struct Key: Sendable, Equatable {
        public var name: String
        /// What it takes, in words.
        public var takes: String
    }
    public struct Table: Sendable {
        /// Where it stands, for example `incremental.cursor`; empty for the file's own.
        public var place: String
        public var keys: [Key]
    }
    public var tables: [Table]

    /// `witness`: what other readers have noted already.
    package init(_ witness: KeyWitness) {
        var incremental = KeyExplorer("incremental", witness) { _ = try Incremental(json: $0) }
        incremental.explore()
        var subscription = KeyExplorer("subscription", witness) { _ = try SubscriptionRules(json: $0) }
        subscription.explore()
        var status = KeyExplorer("status", witness) { _ = try CallbackRules(json: $0) }
        status.explore()
        var longPoll = KeyExplorer("long_poll", witness) { _ = try LongPollRule(json: $0) }
        longPoll.explore()
        var connection = KeyExplorer("connection", witness) { _ = try ConnectionAccess(json: $0) }
        connection.explore()
        tables = witness.all.map { place, keys in
            Table(place: place, keys: keys.map { Key(name: $0.key, takes: KeyReference.words($0.value)) }.sorted { $0.name < $1.name })
        }.sorted { $0.place < $1.place }
    }

    private static func words(_ kind: KeyWitness.Kind) -> String {
        switch kind {
        case .value, .data: "a value"
        case .text: "text"
        case .table: "a table"
        case .tableOrFunction: "a table, or a function"
        case .template: "text with places"
        case .templates: "names and texts with places"
        case .path: "a path"
        case .paths: "a path, or a list of them"
        case .flag: "true or false"
        case .function: "a function"
        case .seconds: "seconds"
        case .integer(let range) where range.upperBound > 1 << 60: "a whole number from \(range.lowerBound)"
        case .integer(let range): "a whole number, \(range.lowerBound) to \(range.upperBound)"
        case .choice(let choices): choices.map { "`\($0)`" }.joined(separator: ", ")
        }
    }

    /// The page docs/REFERENCE.md, whole.
    public var markdown: String {
        var lines = [
            "# Every key of a connector", "",
            "Made by `sluice connector reference --write docs/REFERENCE.md` out of what the readers ask for; a test holds it to them.",
            "What each key means: [CONNECTORS.md](CONNECTORS.md). A *path* is text with points between keys, or a list of keys; *places* are",
            "`{connection.FIELD}`, `{input.FIELD}` and those that the page names. An unknown key is refused, with the known ones.",
        ]
        for table in tables {
            lines += ["", table.place.isEmpty ? "## The file" : "## `\(table.place)`", "| key | takes |", "|---|---|"]
            lines += table.keys.map { "| `\($0.name)` | \($0.takes) |" }
        }
        return lines.joined(separator: "\n") + "\n"
    }
}
