import SluiceCore
import SluiceLua

/// What one destination gets of one trigger's jobs. Stored as JSON with the attachment.
public struct AttachmentSettings: Sendable, Equatable {
    /// A predicate in Lua; nil: every job passes.
    public var filter: String?
    /// What is kept of a record; none: all of it.
    public var fields: [JSONPath] = []
    public init(filter: String? = nil, fields: [JSONPath] = []) {
        self.filter = filter
        self.fields = fields
    }

    static let pathHint =
        "a path in `fields` is keys with points between them, such as customer.email, or a list of keys where a key has a point in it"

    public var isEmpty: Bool { filter == nil && fields.isEmpty }

    /// Empty where nothing is set.
    public var json: [UInt8] {
        if isEmpty { return [] }
        var writer = JSONWriter()
        writer.object { writer in
            if let filter { writer.member("filter", filter) }
            guard !fields.isEmpty else { return }
            writer.key("fields")
            writer.array { writer in
                for path in fields { writer.array { writer in for key in path.keys { writer.value(key) } } }
            }
        }
        return writer.bytes
    }

    /// Reads what `json` wrote.
    public init(json: [UInt8]) {
        guard let root = (try? JSONDocument(json))?.root else { return }
        filter = root["filter"]?.string
        fields = root["fields"]?.elements?.map { JSONPath($0.elements?.compactMap(\.string) ?? []) } ?? []
    }

    /// The filter compiled and the projection made. Throws `.filter` or `.invalid` with what is wrong.
    func checked() throws(SluiceError) -> (filter: LuaFilter?, projection: JSONProjection?) {
        var parts: (filter: LuaFilter?, projection: JSONProjection?)
        if let filter { parts.filter = try LuaFilter(filter) }
        if !fields.isEmpty { parts.projection = try JSONProjection(fields) }
        return parts
    }

    /// A filter's text on one line, for plans and lists.
    static func brief(_ filter: String) -> String {
        let line = filter.split(whereSeparator: \.isWhitespace).joined(separator: " ")
        return line.count > 80 ? line.prefix(79) + "…" : line
    }
}
