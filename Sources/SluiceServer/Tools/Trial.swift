import SluiceConnectors
import SluiceCore

/// One poll of a connector outside of any server, or one webhook read: nothing is stored but the tokens that a provider rotates, and
/// what it shows holds no secret.
public struct Trial: Sendable {
    public struct Order: Sendable {
        public var file: String
        /// Nil: the only trigger type there is.
        public var type: String?
        /// Fields of the connection and the input, as text or as JSON.
        public var connection: [(name: String, value: String)] = []
        public var input: [(name: String, value: String)] = []
        /// JSON; nil: as before the first poll.
        public var cursor: String?
        public var pages = 1
        public var allowsPrivate = false
        public var recordDirectory: String?
        public var replayDirectory: String?
        /// Where refresh tokens that the provider rotates are kept. Nil: none is spent.
        public var tokensFile: String?
        /// How long the provider may hold a long poll.
        public var holdSeconds: Int64 = 10
        /// A webhook as raw HTTP, read instead of polling.
        public var webhookFile: String?
        /// Secrets to verify it with. Nil: it is not verified.
        public var webhookSecretFile: String?
        /// The header of its signature, where the connector's scheme leaves that to the connection.
        public var webhookHeader: String?
        public init(file: String) { self.file = file }
    }

    /// One page of the cycle.
    public struct Page: Sendable {
        public struct Entry: Sendable {
            /// The dedup key, or why there is none.
            public var key: String
            public var isKeyed: Bool
            public var mark: Int64?
            public var isDerived: Bool
            public var bytes: [UInt8]
        }
        public var records: [Entry]
        public var cursor: [UInt8]?
        public var more: Bool
        public var warnings: [String]
    }

    public internal(set) var connector: String
    public internal(set) var type: String
    public internal(set) var cursorBefore: [UInt8]?
    public internal(set) var cursorAfter: [UInt8]?
    public internal(set) var pages: [Page] = []
    public internal(set) var exchanges: [TrialExchange] = []
    /// Why the last page did not come; nil if it did.
    public internal(set) var failure: String?
    public internal(set) var failureKind: String?
    /// What should be known besides, for example that a token was spent.
    public internal(set) var notes: [String] = []
    /// What was made of a webhook; nil if it was a poll.
    public internal(set) var webhook: TrialWebhook?

    /// Polls. Throws `SluiceError` for what is wrong with the order; what goes wrong with the poll is in the result.
    public static func run(_ order: Order) async throws -> Trial {
        let connector = try ConnectorFile.load(order.file)
        let recording = try order.replayDirectory.map { try Recording.read($0) }
        let definition = connector.definition
        let type = try type(order.type ?? recording?.type, definition)
        let isReplay = recording != nil
        let connection = try TrialValues.json(
            order.connection, definition.connectionFields, recorded: recording?.connection, isReplay: isReplay, what: "--field")
        let input = try TrialValues.json(order.input, type.inputFields, recorded: recording?.input, isReplay: isReplay, what: "--input")
        let cursor = try cursor(order.cursor) ?? recording?.cursor
        let scrubber = SecretScrubber(connection: connection.root, fields: definition.connectionFields)
        let clock = AnchoredClock()
        let now = recording?.now ?? clock.now()
        var trial = Trial(connector: definition.name, type: type.name, cursorBefore: cursor, cursorAfter: cursor)
        if let file = order.webhookFile {
            let webhook = try TrialWebhook.Given(
                order, file: file, scheme: definition.webhook.flatMap { SignatureScheme.named($0.scheme) })
            trial.read(webhook, by: connector, type, connection, input, now, scrubber)
            return trial
        }
        if type.kind == .webhook {
            throw SluiceError(
                .invalid, "\(type.name) polls nothing: give --webhook FILE, a webhook as raw HTTP, and see what becomes of it")
        }
        let poll = TrialPoll(connector: connector, type: type, connection: connection, input: input, now: now, order: order)
        if let recording {
            let replayer = TrialReplayer(recording.exchanges, directory: recording.directory, scrubber: scrubber)
            await trial.run(poll, TrialRecorder(replayer, time: clock), held: { try await $0(replayer) }, scrubber)
        } else {
            try await trial.run(poll, clock, scrubber)
        }
        if let directory = order.recordDirectory {
            let open = TrialValues.open(connection.root, definition.connectionFields)
            func known(_ json: [UInt8]) -> [UInt8] { Array(scrubber.text(String(decoding: json, as: UTF8.self)).utf8) }
            let made = Recording(
                directory: directory, type: type.name, connection: known(open), input: known(Array(input.root.bytes)),
                cursor: cursor.map(known), now: now, exchanges: trial.exchanges)
            try made.write()
        }
        return trial
    }

    private static func type(_ name: String?, _ definition: ConnectorDefinition) throws -> TriggerTypeDefinition {
        let names = definition.triggers.map(\.name).joined(separator: ", ")
        guard let name else {
            if definition.triggers.count == 1, let only = definition.triggers.first { return only }
            throw SluiceError(.invalid, "say which trigger type to poll: --type, one of \(names)")
        }
        guard let type = definition.trigger(name) else {
            throw SluiceError(.notFound, "the connector \(definition.name) has no trigger type `\(name)`: it has \(names)")
        }
        return type
    }

    private static func cursor(_ text: String?) throws -> [UInt8]? {
        guard let text else { return nil }
        guard let document = try? JSONDocument(Array(text.utf8)) else {
            throw SluiceError(.invalid, "--cursor is JSON, as `sluice trigger cursor show` prints it")
        }
        return document.root.isNull ? nil : Array(document.root.bytes)
    }

    /// As it came: `scrub` takes the secrets out.
    func shown(_ page: PollPage, _ keys: [Result<[UInt8], SluiceError>]) -> Page {
        var entries: [Page.Entry] = []
        for (index, record) in page.records.enumerated() {
            let mark = index < page.marks.count && page.marks[index] != Int64.max ? page.marks[index] : nil
            let (key, isKeyed): (String, Bool) =
                switch index < keys.count ? keys[index] : .failure(SluiceError(.connector, "dedup gave no key")) {
                case .success(let bytes): (String(decoding: bytes, as: UTF8.self), true)
                case .failure(let error): (error.message, false)
                }
            entries.append(
                Page.Entry(key: key, isKeyed: isKeyed, mark: mark, isDerived: record.isDerived, bytes: Array(record.bytes)))
        }
        return Page(records: entries, cursor: page.cursor, more: page.more, warnings: page.warnings)
    }
}

extension Trial.Page {
    mutating func scrub(_ scrubber: SecretScrubber) {
        for index in records.indices {
            records[index].key = scrubber.text(records[index].key)
            records[index].bytes = scrubber.body(records[index].bytes)
        }
        cursor = cursor.map { scrubber.body($0) }
        warnings = warnings.map(scrubber.text)
    }
}

/// Values for fields, from the command line or a recording.
enum TrialValues {
    /// One JSON object of all values. A missing one that must be there is an error; in a replay secrets may be missing.
    static func json(
        _ given: [(name: String, value: String)], _ fields: [Field], recorded: JSONView?, isReplay: Bool, what: String
    ) throws -> JSONDocument {
        for (name, _) in given where !fields.contains(where: { $0.name == name }) {
            throw SluiceError(.invalid, "\(what) \(name): there is no such field: \(Words.hint(name, among: fields.map(\.name)))")
        }
        var writer = JSONWriter()
        var missing: [String] = []
        try writer.object { writer in
            for field in fields {
                if let value = given.last(where: { $0.name == field.name })?.value {
                    writer.key(field.name)
                    writer.raw(try json(value, field, what))
                } else if let value = recorded?[field.name] {
                    writer.key(field.name)
                    writer.raw(value.bytes)
                } else if let json = field.defaultJSON {
                    writer.key(field.name)
                    writer.raw(json.utf8)
                } else if !field.isOptional {
                    if isReplay, field.isSecret { writer.member(field.name, "replayed") } else { missing.append(field.name) }
                }
            }
        }
        guard missing.isEmpty else {
            throw SluiceError(.invalid, "values are missing: " + missing.map { "\(what) \($0)=…" }.joined(separator: " "))
        }
        return try JSONDocument(writer.bytes)
    }

    private static func json(_ text: String, _ field: Field, _ what: String) throws -> [UInt8] {
        if field.type == .object || field.type == .array {
            guard let document = try? JSONDocument(Array(text.utf8)), document.root.kind == (field.type == .object ? .object : .array)
            else {
                throw SluiceError(.invalid, "\(what) \(field.name) must be \(field.type == .object ? "an object" : "a list") in JSON")
            }
            return Array(document.root.bytes)
        }
        let value = ManifestValue(content: .scalar(text, isPlain: false), line: 0, isReferenced: true)
        switch FieldValues.json(value, for: field) {
        case .success(let json): return json
        case .failure(let problem): throw SluiceError(.invalid, "\(what) \(field.name) must be \(problem.expected)")
        }
    }

    /// What is not secret.
    static func open(_ connection: JSONView, _ fields: [Field]) -> [UInt8] {
        var writer = JSONWriter()
        writer.object { writer in
            for field in fields where !field.isSecret {
                guard let value = connection[field.name] else { continue }
                writer.key(field.name)
                writer.raw(value.bytes)
            }
        }
        return writer.bytes
    }
}
