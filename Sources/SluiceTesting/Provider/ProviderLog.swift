import SluiceCore

/// The change log as JSON lines: how one process tells another what the provider changed.
public enum ProviderLog {
    /// One line, without its line feed: `{"seq","id","updated_at","resource","kind","made_at_ms","visible_at_ms","record"}`,
    /// where `record` has the bytes that the API serves.
    public static func line(_ change: ProviderChange) -> [UInt8] {
        var json = JSONWriter()
        json.object { json in
            json.member("seq", Int64(change.sequence))
            json.member("id", change.id)
            json.member("updated_at", change.updatedAtSeconds)
            json.member("resource", change.resource)
            json.member("kind", change.kind.rawValue)
            json.member("made_at_ms", change.madeAt.milliseconds)
            json.member("visible_at_ms", change.visibleAt.milliseconds)
            json.key("record")
            json.raw(change.record)
        }
        return json.bytes
    }

    /// Reads all lines of `text`. Throws on the first that is not a change.
    public static func parse(_ text: [UInt8]) throws -> [ProviderChange] {
        try text.split(separator: 0x0A).map { line in
            let root = try JSONDocument(line).root
            guard let sequence = root["seq"]?.int64, let id = root["id"]?.string, let resource = root["resource"]?.string,
                let kind = root["kind"]?.string.flatMap({ ProviderChange.Kind(rawValue: $0) }),
                let madeAt = root["made_at_ms"]?.int64, let visibleAt = root["visible_at_ms"]?.int64, let record = root["record"]
            else { throw SluiceError(.invalid, "A line of the provider's change log is not a change.") }
            return ProviderChange(
                sequence: Int(sequence), resource: resource, id: id, kind: kind, madeAt: Timestamp(milliseconds: madeAt),
                visibleAt: Timestamp(milliseconds: visibleAt), record: Array(record.bytes))
        }
    }
}
