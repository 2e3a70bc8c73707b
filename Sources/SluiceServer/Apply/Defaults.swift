import SluiceConnectors
import SluiceCore

/// Fills in what a connector declares as the value that holds if none is given.
enum Defaults {
    /// `object` is a JSON object; its own members stay as they are written, missing ones are added.
    static func filled(_ object: [UInt8], _ fields: [Field]) -> [UInt8] {
        let given = (try? JSONDocument(object))?.root.members ?? []
        let missing = fields.filter { field in field.defaultJSON != nil && !given.contains { $0.key == field.name } }
        if missing.isEmpty { return object }
        var writer = JSONWriter()
        writer.object { writer in
            for member in given {
                writer.key(member.key)
                writer.raw(member.value.bytes)
            }
            for field in missing {
                writer.key(field.name)
                writer.raw((field.defaultJSON ?? "null").utf8)
            }
        }
        return writer.bytes
    }
}
