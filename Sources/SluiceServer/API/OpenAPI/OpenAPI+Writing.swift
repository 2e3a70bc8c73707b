import SluiceCore

extension OpenAPI {
    static func write(to writer: inout JSONWriter) {
        writer.object { writer in
            writer.member("openapi", "3.1.0")
            writer.key("info")
            writer.object { writer in
                writer.member("title", "Sluice")
                writer.member("version", API.version)
                writer.member("description", about)
                writer.key("license")
                writer.object { writer in
                    writer.member("name", "Apache-2.0")
                    writer.member("identifier", "Apache-2.0")
                }
            }
            writer.key("servers")
            writer.array { writer in writer.object { $0.member("url", "/") } }
            writer.key("security")
            writer.array { writer in writer.object { bearer(&$0) } }
            writer.list("tags", areas) { writer, area in
                writer.member("name", area.name)
                writer.member("description", area.note)
            }
            writer.key("paths")
            writer.object { paths(&$0) }
            writer.key("components")
            writer.object { components(&$0) }
        }
    }

    private static let about = """
        Changes of the services that a program depends on, as jobs: each once, in full, in time. Every answer is JSON unless it says \
        otherwise. Lists are read in pages: `next` of one is `after` of the following. What is not described here is refused with 400. \
        Answers may get more members: do not mind those that you do not know.
        """

    private static func bearer(_ writer: inout JSONWriter) {
        writer.key("token")
        writer.array { _ in }
    }

    private static func paths(_ writer: inout JSONWriter) {
        var order: [String] = []
        for operation in operations where !order.contains(operation.path) { order.append(operation.path) }
        for path in order {
            writer.key(
                path.split(separator: "/").map { $0.hasPrefix(":") ? "/{\($0.dropFirst())}" : "/\($0)" }.joined())
            writer.object { writer in
                for area in areas {
                    for operation in area.operations where operation.path == path {
                        writer.key(operation.method.lowercased())
                        write(operation, of: area, to: &writer)
                    }
                }
            }
        }
    }

    private static func write(_ operation: Operation, of area: Area, to writer: inout JSONWriter) {
        let isOpen = API.routes.contains { $0.method == operation.method && $0.path == operation.path && $0.isOpen }
        writer.object { writer in
            writer.member("operationId", operation.id)
            writer.key("tags")
            writer.array { $0.value(area.name) }
            writer.member("summary", operation.summary)
            if let description = operation.description { writer.member("description", description) }
            if isOpen {
                writer.key("security")
                writer.array { _ in }
            }
            if !operation.parameters.isEmpty { writer.list("parameters", operation.parameters, write) }
            if let body = operation.body {
                writer.key("requestBody")
                writer.object { writer in
                    writer.member("required", !body.isOptional)
                    writer.key("content")
                    writer.object { writer in
                        content("application/json", body.schema, body.example, isRequest: true, to: &writer)
                        for (type, schema) in body.others { content(type, schema, nil, isRequest: true, to: &writer) }
                    }
                }
            }
            writer.key("responses")
            writer.object { writer in
                for status in Set(operation.answers.map(\.status)).sorted() {
                    write(operation.answers.filter { $0.status == status }, to: &writer)
                }
                for status in operation.refusals(isOpen: isOpen) {
                    writer.key("\(status)")
                    writer.object { $0.member("$ref", "#/components/responses/\(status)") }
                }
            }
        }
    }

    private static func write(_ parameter: inout JSONWriter, _ described: Parameter) {
        parameter.member("name", described.name)
        parameter.member("in", described.place.rawValue)
        parameter.member("description", described.note)
        parameter.member("required", described.isRequired)
        parameter.key("schema")
        (described.isRepeated ? Schema.list(of: described.schema) : described.schema).write(to: &parameter, isRequest: true)
        if let example = described.example {
            parameter.key("example")
            if case .text = described.schema.form { parameter.value(example) } else { parameter.raw(example.utf8) }
        }
    }

    /// Answers of one status: one, or several that differ in their content type.
    private static func write(_ answers: [Answer], to writer: inout JSONWriter) {
        writer.key("\(answers[0].status)")
        writer.object { writer in
            writer.member("description", answers.map(\.note).joined(separator: " "))
            writer.key("content")
            writer.object { writer in
                for answer in answers { content(answer.type, answer.schema, answer.example, isRequest: false, to: &writer) }
            }
        }
    }

    private static func content(
        _ type: String, _ schema: Schema, _ example: String?, isRequest: Bool, to writer: inout JSONWriter
    ) {
        writer.key(type)
        writer.object { writer in
            writer.key("schema")
            schema.write(to: &writer, isRequest: isRequest)
            if let example {
                writer.key("example")
                writer.raw(example.utf8)
            }
        }
    }

    private static func components(_ writer: inout JSONWriter) {
        writer.key("securitySchemes")
        writer.object { writer in
            writer.key("token")
            writer.object { writer in
                writer.member("type", "http")
                writer.member("scheme", "bearer")
                writer.member("description", "`sluice token create NAME` makes one.")
            }
        }
        writer.key("responses")
        writer.object { writer in
            for (status, note) in errorNotes.sorted(by: { $0.key < $1.key }) {
                writer.key("\(status)")
                writer.object { writer in
                    writer.member("description", note)
                    if status == 503 || status == 429 { headers(&writer, "Retry-After", "Seconds.", .count) }
                    if status == 401 { headers(&writer, "WWW-Authenticate", "`Bearer`.", .text) }
                    writer.key("content")
                    writer.object { content("application/json", .named("Error"), nil, isRequest: false, to: &$0) }
                }
            }
        }
        writer.key("schemas")
        writer.object { writer in
            for area in areas {
                for (name, schema) in area.schemas {
                    writer.key(name)
                    schema.write(to: &writer)
                }
            }
        }
    }

    private static func headers(_ writer: inout JSONWriter, _ name: String, _ note: String, _ schema: Schema) {
        writer.key("headers")
        writer.object { writer in
            writer.key(name)
            writer.object { writer in
                writer.member("description", note)
                writer.key("schema")
                schema.write(to: &writer)
            }
        }
    }
}
