import SluiceConnectors
import SluiceCore

/// A trial as files: `trial.json` says what was asked for and when, `0001.json` and so on hold a request and its answer each.
/// No secret is in them, so they can be kept beside a connector as its fixtures.
struct Recording {
    private static let filesMax = 1000
    private static let fileBytesMax = 64 << 20

    var directory: String
    var type: String
    /// Open fields of the connection; a JSON object.
    var connectionJSON: [UInt8]
    var inputJSON: [UInt8]
    var cursor: [UInt8]?
    /// What the clock said.
    var now: Timestamp
    var exchanges: [TrialExchange]

    var connection: JSONView? { (try? JSONDocument(connectionJSON))?.root }
    var input: JSONView? { (try? JSONDocument(inputJSON))?.root }

    init(
        directory: String, type: String, connection: [UInt8], input: [UInt8], cursor: [UInt8]?, now: Timestamp, exchanges: [TrialExchange]
    ) {
        (self.directory, self.type, connectionJSON, inputJSON) = (directory, type, connection, input)
        (self.cursor, self.now, self.exchanges) = (cursor, now, exchanges)
    }

    /// Throws `.notFound` if there is no recording there, `.invalid` if it cannot be read.
    static func read(_ directory: String) throws -> Recording {
        let directory = directory.hasSuffix("/") ? String(directory.dropLast()) : directory
        let file = directory + "/trial.json"
        guard let bytes = try SmallFile.read(file) else {
            throw SluiceError(
                .notFound, "there is no recording in \(directory): make one with `sluice connector try --record \(directory)`")
        }
        guard let root = (try? JSONDocument(bytes))?.root, let type = root["type"]?.string, let now = root["now"]?.int64 else {
            throw SluiceError(.invalid, "\(file) is no recording: it needs type and now").with("file", file)
        }
        var recording = Recording(
            directory: directory, type: type, connection: root["connection"].map { Array($0.bytes) } ?? Array("{}".utf8),
            input: root["input"].map { Array($0.bytes) } ?? Array("{}".utf8),
            cursor: root["cursor"].flatMap { $0.isNull ? nil : Array($0.bytes) }, now: Timestamp(milliseconds: now), exchanges: [])
        for number in 1...filesMax {
            let file = directory + "/" + name(number)
            guard let bytes = try SmallFile.read(file, bytesMax: fileBytesMax) else { break }
            guard let root = (try? JSONDocument(bytes))?.root else {
                throw SluiceError(.invalid, "\(file) is not JSON").with("file", file)
            }
            recording.exchanges.append(try TrialExchange(root, file: file))
        }
        return recording
    }

    /// Throws `.conflict` where there is a recording already.
    func write() throws {
        let directory = directory.hasSuffix("/") ? String(directory.dropLast()) : directory
        try SmallFile.makeDirectory(directory)
        var writer = JSONWriter()
        writer.object { writer in
            writer.member("type", type)
            writer.member("connection", json: connectionJSON)
            writer.member("input", json: inputJSON)
            writer.member("cursor", json: cursor)
            writer.member("now", now.milliseconds)
        }
        try SmallFile.writePrivate(directory + "/trial.json", writer.bytes + [0x0A], isNew: true)
        for (index, exchange) in exchanges.prefix(Recording.filesMax).enumerated() {
            var writer = JSONWriter()
            exchange.write(to: &writer)
            try SmallFile.writePrivate(directory + "/" + Recording.name(index + 1), writer.bytes + [0x0A])
        }
    }

    private static func name(_ number: Int) -> String {
        let digits = String(number)
        return String(repeating: "0", count: max(0, 4 - digits.count)) + digits + ".json"
    }
}

extension Trial.Order {
    /// Adds the values of a YAML or JSON file: the fields themselves, or `fields:` with them, or a sluice.yaml with one connection.
    /// `${env:NAME}` and `${file:PATH}` are filled in.
    public mutating func add(connectionFile path: String, environment: [String: String]) throws {
        guard let bytes = try SmallFile.read(path), let text = String(validating: bytes, as: UTF8.self) else {
            throw SluiceError(.notFound, "there is no file \(path), or it is not UTF-8").with("file", path)
        }
        let references = try References.values(of: text, file: path, environment: environment)
        var value = try YAMLValue.parse(text, file: path)
        if case .mapping(let members) = value.content, let all = members.first(where: { $0.key == "connections" }) {
            guard case .mapping(let connections) = all.value.content, connections.count == 1, let only = connections.first else {
                throw SluiceError(.invalid, "\(path) must hold one connection here").with("file", path)
            }
            value = only.value
        }
        if case .mapping(let members) = value.content, let fields = members.first(where: { $0.key == "fields" }) { value = fields.value }
        guard case .mapping(let members) = value.content else {
            throw SluiceError(.invalid, "\(path) must hold names and values, as `fields:` in sluice.yaml").with("file", path)
        }
        for member in members {
            guard case .scalar(let raw, _) = member.value.content, case .success(let text) = ReferenceText.parse(raw) else {
                throw SluiceError(.invalid, "\(path), line \(member.line): `\(member.key)` must be one value").with("file", path)
            }
            guard let resolved = text.resolved(references) else {
                throw SluiceError(.invalid, "\(path), line \(member.line): `\(member.key)` refers to a value that is not set").with(
                    "file", path)
            }
            connection.append((member.key, resolved))
        }
    }
}
