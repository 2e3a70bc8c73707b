import SluiceConnectors
import SluiceCore

/// A request as the stand-in reads it: its parameters, wherever they stand.
struct StandInRequest: Sendable {
    let url: String
    /// Of the query, a form, and the members of a JSON body by their paths.
    private(set) var values: [String: String]
    private let headers: [HTTPField]
    private let body: [UInt8]

    init(_ request: HTTPRequestPlan) {
        url = request.url
        headers = request.headers
        body = request.body
        values = ProviderModel.query(request.url)
        if let root = (try? JSONDocument(request.body))?.root {
            add(root, at: "")
        } else if !request.body.isEmpty {
            values.merge(ProviderModel.query("?" + String(decoding: request.body, as: UTF8.self))) { query, _ in query }
        }
    }

    private mutating func add(_ view: JSONView, at path: String) {
        let elements = (view.elements ?? []).enumerated().map { (key: String($0.offset), value: $0.element) }
        for member in view.members ?? elements {
            let inner = path.isEmpty ? member.key : "\(path).\(member.key)"
            add(member.value, at: inner)
            values[inner] = values[inner] ?? member.value.text ?? member.value.bool.map { $0 ? "true" : "false" }
        }
    }

    subscript(place: Incremental.RequestPlace) -> String? {
        switch place {
        case .query(let name): values[name]
        case .header(let name): headers.first(name)
        case .body(let path) where path.keys.isEmpty: String(decoding: body, as: UTF8.self)
        case .body(let path): values[path.description]
        }
    }
}

/// A JSON object that is built by paths.
struct JSONTree {
    private indirect enum Node {
        case raw(String)
        case object([(key: String, node: Node)])
    }
    private var root = Node.object([])

    /// Puts checked JSON at a path; at an empty one it is the whole document.
    mutating func set(_ path: [String], _ json: String) { root = JSONTree.set(root, path[...], json) }

    private static func set(_ node: Node, _ path: ArraySlice<String>, _ json: String) -> Node {
        guard let key = path.first else { return .raw(json) }
        // What stands at a shorter path already stays: the document is an array, say.
        guard case .object(var members) = node else { return node }
        if let index = members.firstIndex(where: { $0.key == key }) {
            members[index].node = set(members[index].node, path.dropFirst(), json)
        } else {
            members.append((key, set(.object([]), path.dropFirst(), json)))
        }
        return .object(members)
    }

    var text: String { JSONTree.text(root) }

    private static func text(_ node: Node) -> String {
        switch node {
        case .raw(let json): return json
        case .object(let members):
            let parts = members.map { member -> String in
                var key: [UInt8] = []
                JSONWriter.append(member.key, to: &key)
                return String(decoding: key, as: UTF8.self) + ":" + text(member.node)
            }
            return "{" + parts.joined(separator: ",") + "}"
        }
    }
}
