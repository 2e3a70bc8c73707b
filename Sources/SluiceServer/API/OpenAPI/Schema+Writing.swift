import SluiceCore

extension Schema {
    /// Writes the schema as JSON Schema 2020-12.
    ///
    /// - Parameter isRequest: What is sent to Sluice may hold nothing else than what is described, and what may be left out may
    ///   be null. What Sluice answers may grow: readers must not mind members that they do not know.
    func write(to writer: inout JSONWriter, isRequest: Bool = false, note: String? = nil, isNullable nullable: Bool? = nil) {
        let isNullable = nullable ?? isNullable
        writer.object { writer in
            switch form {
            case .any: break
            case .something:
                writer.key("not")
                writer.object { $0.member("type", "null") }
            case .text(let rule): rule.write(to: &writer, isNullable: isNullable)
            case .whole(let range):
                Schema.type("integer", isNullable, to: &writer)
                writer.member("format", "int64")
                // Of what is sent, the bounds of 64 bits are bounds; of what is answered they go without saying.
                if isRequest || range.lowerBound > .min { writer.member("minimum", range.lowerBound) }
                if isRequest || range.upperBound < .max { writer.member("maximum", range.upperBound) }
            case .number: Schema.type("number", isNullable, to: &writer)
            case .flag: Schema.type("boolean", isNullable, to: &writer)
            case .list(let element):
                Schema.type("array", isNullable, to: &writer)
                writer.key("items")
                element.write(to: &writer, isRequest: isRequest)
            case .object(let members):
                Schema.type("object", isNullable, to: &writer)
                Schema.write(members, to: &writer, isRequest: isRequest)
            case .map(let value):
                Schema.type("object", isNullable, to: &writer)
                writer.key("additionalProperties")
                value.write(to: &writer, isRequest: isRequest)
            case .named(let name):
                if isNullable {
                    Schema.write(anyOf: [.named(name)], isNullable: true, to: &writer, isRequest: isRequest)
                } else {
                    writer.member("$ref", "#/components/schemas/\(name)")
                }
            case .either(let schemas): Schema.write(anyOf: schemas, isNullable: isNullable, to: &writer, isRequest: isRequest)
            }
            if let note { writer.member("description", note) }
        }
    }

    private static func type(_ name: String, _ isNullable: Bool, to writer: inout JSONWriter) {
        writer.key("type")
        if isNullable {
            writer.array { writer in for name in [name, "null"] { writer.value(name) } }
        } else {
            writer.value(name)
        }
    }

    private static func write(_ members: [Member], to writer: inout JSONWriter, isRequest: Bool) {
        writer.key("properties")
        writer.object { writer in
            for member in members {
                writer.key(member.name)
                let isNullable = member.schema.isNullable || isRequest && member.isOptional
                member.schema.write(to: &writer, isRequest: isRequest, note: member.note, isNullable: isNullable)
            }
        }
        let required = members.filter { !$0.isOptional }
        if !required.isEmpty {
            writer.key("required")
            writer.array { writer in for member in required { writer.value(member.name) } }
        }
        if isRequest { writer.member("additionalProperties", false) }
    }

    private static func write(anyOf schemas: [Schema], isNullable: Bool, to writer: inout JSONWriter, isRequest: Bool) {
        writer.key("anyOf")
        writer.array { writer in
            for schema in schemas { schema.write(to: &writer, isRequest: isRequest) }
            if isNullable { writer.object { $0.member("type", "null") } }
        }
    }
}

extension TextRule {
    fileprivate func write(to writer: inout JSONWriter, isNullable: Bool) {
        writer.key("type")
        if isNullable {
            writer.array { writer in for name in ["string", "null"] { writer.value(name) } }
        } else {
            writer.value("string")
        }
        if let format { writer.member("format", format) }
        if let lengthMax { writer.member("maxLength", Int64(lengthMax)) }
        if isName { writer.member("pattern", TextRule.namePattern) }
        if !words.isEmpty {
            writer.key("enum")
            writer.array { writer in
                for word in words { writer.value(word) }
                if isNullable { writer.null() }
            }
        }
    }
}
