import SluiceCore

/// What a stand-in needs to know to answer as the source would that a description describes.
extension Incremental {
    /// Reads a description that need not say where the source is: what a trigger with lambdas declares as `simulate`.
    /// Throws as `init(json:)` does.
    package static func standIn(json: JSONView) throws(SluiceError) -> Incremental {
        guard let members = json.members else { throw SluiceError(.connector, "must be a table with the keys of incremental") }
        var writer = JSONWriter()
        writer.object { writer in
            if !members.contains(where: { $0.key == "base_url" }) { writer.member("base_url", "https://stand-in.invalid") }
            for member in members where !["connection", "input"].contains(member.key) {
                writer.key(member.key)
                writer.raw(member.value.bytes)
            }
        }
        let document: JSONDocument
        do throws(JSONError) {
            document = try JSONDocument(writer.bytes, depthMax: 80)
        } catch {
            throw SluiceError(.connector, "cannot be read: \(error)")
        }
        return try Incremental(json: document)
    }

    /// The key that holds each record inside its element, with the values of a request; nil without `unwrap`.
    package func unwrapKey(_ request: PollRequest) -> String? { unwrap.flatMap { try? $0.optionalText(request, for: "unwrap") } }

    /// Whether the URL begins with a field of the connection, which then must be a URL itself.
    package var urlField: String? {
        guard case .field(let root, let path, _) = baseURL.parts.first, root == .connection else { return nil }
        return path.keys.first
    }
}

extension CursorRule {
    /// A mark as the source writes it.
    package func literal(of mark: Int64) -> String { text(of: mark) }
    /// Units of the mark in a second; nil if the cursor is no time.
    package var marksPerSecond: Int64? { unitsPerSecond }
    /// How finely the source compares, in units of the mark.
    package var comparedUnits: Int64 { max(granularity ?? (isExclusive && kind == .rfc3339 ? 1000 : 1), 1) }
}
