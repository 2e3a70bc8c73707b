import SluiceCore

/// An array inside each element, whose own elements are the records.
public struct Flatten: Sendable {
    public var path: JSONPath
    /// Fields of the outer element that each record is given under these names; with any, records are `derived`.
    public var parent: [(name: String, path: JSONPath)]
    public init(path: JSONPath, parent: [(name: String, path: JSONPath)] = []) {
        self.path = path
        self.parent = parent
    }

    /// The records in an element. One without the array holds none; one where something else stands in its place is a fault.
    func records(in element: JSONView) throws(PollFailure) -> [Record] {
        guard let list = path.find(in: element), !list.isNull else { return [] }
        guard let inner = list.elements else {
            throw PollFailure(
                .permanent, SluiceError(.providerAnswer, "flatten: what stands at \"\(path)\" in an element is not an array"))
        }
        if parent.isEmpty { return inner.map { Record(bytes: $0.bytes) } }
        return inner.map { Record(bytes: joined($0, element)[...], isDerived: true) }
    }

    /// The parent's fields, then the record's own; of one name, the parent's.
    private func joined(_ record: JSONView, _ element: JSONView) -> [UInt8] {
        var writer = JSONWriter()
        writer.object { writer in
            for (name, path) in parent {
                guard let value = path.find(in: element) else { continue }
                writer.key(name)
                writer.raw(value.bytes)
            }
            guard let members = record.members else {
                writer.key("value")
                writer.raw(record.bytes)
                return
            }
            for (key, value) in members where !parent.contains(where: { $0.name == key }) {
                writer.key(key)
                writer.raw(value.bytes)
            }
        }
        return writer.bytes
    }
}

/// The fields that a job's record has, under new names. Values are copied byte for byte; what a record lacks is left out.
public struct RecordMap: Sendable {
    public var fields: [(name: String, path: JSONPath)]
    public init(_ fields: [(name: String, path: JSONPath)]) { self.fields = fields }

    func apply(_ record: Record) -> Record {
        let view = record.view
        var writer = JSONWriter()
        writer.object { writer in
            for (name, path) in fields {
                guard let value = path.find(in: view) else { continue }
                writer.key(name)
                writer.raw(value.bytes)
            }
        }
        return Record(bytes: writer.bytes[...], isDerived: true, isDeletion: record.isDeletion)
    }
}
