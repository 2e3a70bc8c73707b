import SluiceCore

/// A request as handshakes look at it: its query decoded, its body read as JSON once, both only if they are small.
public struct HandshakeRequest: Sendable {
    /// A longer body is a webhook: it is not even looked at.
    public static let bodyBytesMax = 16 * 1024
    /// A longer query is no handshake's.
    static let queryBytesMax = 8 * 1024

    let method: String
    let headers: [HTTPField]
    let bodyText: ArraySlice<UInt8>
    let root: JSONView?
    private let query: [(name: String, value: String)]

    /// Reads what these handshakes look at.
    public init(_ request: WebhookRequest, for handshakes: [Handshake]) {
        method = request.method
        headers = request.headers
        query = HandshakeRequest.parsed(request.query)
        let body = request.body
        let readsBody = handshakes.contains { $0.readsBody }
        bodyText = readsBody && body.count <= HandshakeRequest.bodyBytesMax ? body[...] : []
        let first = bodyText.first { $0 > 0x20 }
        root = first == UInt8(ascii: "{") || first == UInt8(ascii: "[") ? (try? JSONDocument(body, depthMax: 16))?.root : nil
    }

    /// The text at a place. Nil where there is none, or where it stands twice, so that two readings are impossible.
    func text(_ place: Place) -> String? {
        switch place {
        case .query(let name):
            let found = query.filter { $0.name == name }
            return found.count == 1 ? found[0].value : nil
        case .header(let name):
            let found = headers.filter { ASCII.equalIgnoringCase($0.name, name) }
            return found.count == 1 ? found[0].value : nil
        case .body(let path): return value(path)?.text
        }
    }

    func value(_ path: [String]) -> JSONView? {
        var view = root
        for key in path {
            if let index = Int(key), let elements = view?.elements {
                guard elements.indices.contains(index) else { return nil }
                view = elements[index]
            } else {
                view = view?[key]
            }
        }
        return view
    }

    /// `a=b&c=d`, decoded as forms are (a plus is a space). What cannot be decoded is left out.
    private static func parsed(_ query: String) -> [(name: String, value: String)] {
        guard !query.isEmpty, query.utf8.count <= queryBytesMax else { return [] }
        return query.split(separator: "&").compactMap { part in
            let halves = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard let name = decoded(halves[0]), let value = halves.count == 2 ? decoded(halves[1]) : "" else { return nil }
            return (name, value)
        }
    }

    static func decoded(_ text: Substring) -> String? {
        var bytes: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            switch byte {
            case UInt8(ascii: "+"): bytes.append(0x20)
            case UInt8(ascii: "%"):
                guard let high = rest.popFirst().flatMap(digit), let low = rest.popFirst().flatMap(digit) else { return nil }
                bytes.append(high << 4 | low)
            default: bytes.append(byte)
            }
        }
        return String(validating: bytes, as: UTF8.self)
    }

    private static func digit(_ byte: UInt8) -> UInt8? {
        switch byte {
        case 0x30...0x39: byte - 0x30
        case 0x41...0x46: byte - 0x41 + 10
        case 0x61...0x66: byte - 0x61 + 10
        default: nil
        }
    }
}
