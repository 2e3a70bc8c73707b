import SluiceCore

/// How XML becomes JSON, the same for the same XML always:
///
/// - an element with nothing but text is that text as a string; an empty one is `""`;
/// - any other is an object: its attributes as `"@name"`, then its children by name in the order in which each name first
///   comes, then its text, unless that is only white space, as `"#text"` with the pieces joined;
/// - children of the same name are an array. So are those that `lists` names even where there is one, and the records;
/// - names are as they are written, with their prefix; values are never anything but strings.
///
/// The document is `{"ROOT": …}`. Comments and processing instructions are dropped.
struct XMLMapping {
    /// The names of the elements from the root to the records; empty where there are none to look for.
    let records: [String]
    let lists: Set<String>

    private struct Node {
        var name: String
        var attributes: [(name: String, value: String)]
        var text = ""
        /// Names of children in the order of their first, and the JSON of each.
        var names: [String] = []
        var children: [String: [[UInt8]]] = [:]

        mutating func add(_ name: String, _ json: [UInt8]) {
            if children[name] == nil { names.append(name) }
            children[name, default: []].append(json)
        }
        var isBlank: Bool { text.utf8.allSatisfy(JSONSpace.isSpace) }
    }

    func json(_ body: [UInt8]) throws(XMLError) -> [UInt8] {
        guard String(validating: body, as: UTF8.self) != nil else {
            throw XMLError(what: "is not valid UTF-8", offset: 0, isRefusal: true)
        }
        let result = body.withUnsafeBufferPointer { bytes -> Result<[UInt8], XMLError> in
            do throws(XMLError) {
                var reader = try XMLReader(bytes)
                return .success(try document(&reader))
            } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }

    private func document(_ reader: inout XMLReader) throws(XMLError) -> [UInt8] {
        var stack: [Node] = []
        var result: [UInt8] = []
        while let event = try reader.next() {
            switch event {
            case .open(let name, let attributes): stack.append(Node(name: name, attributes: attributes))
            case .text(let text): stack[stack.count - 1].text += text
            case .close:
                let node = stack.removeLast()
                let isOnTheWay = isOnTheWay(stack, node)
                let json = write(node, at: isOnTheWay ? stack.count + 1 : nil)
                if stack.isEmpty {
                    var writer = JSONWriter()
                    writer.object { writer in
                        writer.key(node.name)
                        writer.raw(json)
                    }
                    result = writer.bytes
                } else {
                    stack[stack.count - 1].add(node.name, json)
                }
            }
        }
        return result
    }

    /// Whether an element stands between the root and the records.
    private func isOnTheWay(_ stack: [Node], _ node: Node) -> Bool {
        guard stack.count + 1 < records.count, records[stack.count] == node.name else { return false }
        return zip(stack, records).allSatisfy { $0.name == $1 }
    }

    /// `depth`: how many names of the way to the records lie behind, itself included; nil beside the way.
    private func write(_ node: Node, at depth: Int?) -> [UInt8] {
        var writer = JSONWriter()
        let holdsRecords = depth == records.count - 1
        if node.attributes.isEmpty, node.names.isEmpty, depth == nil || !node.isBlank {
            writer.value(node.text)
            return writer.bytes
        }
        writer.object { writer in
            for attribute in node.attributes { writer.member("@" + attribute.name, attribute.value) }
            for name in node.names {
                let values = node.children[name] ?? []
                writer.key(name)
                if values.count > 1 || lists.contains(name) || holdsRecords && name == records.last {
                    writer.array { writer in for value in values { writer.raw(value) } }
                } else {
                    writer.raw(values[0])
                }
            }
            // An element on the way without anything in it is an empty list, not another kind of answer.
            if let depth, node.names.isEmpty {
                writeEmpty(depth, &writer)
            } else if holdsRecords, node.children[records.last ?? ""] == nil {
                writer.key(records.last ?? "")
                writer.raw("[]".utf8)
            }
            if !node.isBlank { writer.member("#text", node.text) }
        }
        return writer.bytes
    }

    /// The rest of the way down to an empty array.
    private func writeEmpty(_ depth: Int, _ writer: inout JSONWriter) {
        writer.key(records[depth])
        if depth == records.count - 1 { writer.raw("[]".utf8) } else { writer.object { writeEmpty(depth + 1, &$0) } }
    }
}
