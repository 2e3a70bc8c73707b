import SluiceCore

/// A header of an answer that is sent with the cycle's next request, for example a session.
public struct CarriedHeader: Sendable {
    /// In the answer.
    public var header: String
    /// In the next request.
    public var sentAs: String
    public init(_ header: String, as sentAs: String) {
        self.header = header
        self.sentAs = sentAs
    }

    /// A longer value fails the poll: it is kept with the cycle.
    static let bytesMax = 8 * 1024
}

enum HeaderText {
    /// A header's value, or a permanent failure where it holds what no header can. The message never quotes it.
    static func checked(_ text: String, _ name: String) throws(PollFailure) -> String {
        guard text.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7F || $0 == 0x09 }) else {
            throw PollFailure(.permanent, SluiceError(.invalid, "the header \(name) would hold a control character: check its field"))
        }
        return text
    }

    /// The same for every field of a request.
    static func check(_ fields: [HTTPField]) throws(PollFailure) { for field in fields { _ = try checked(field.value, field.name) } }

    /// RFC 9110, 5.6.2; and none of those that the transport writes itself.
    static func isName(_ text: String) -> Bool {
        let isToken =
            !text.isEmpty
            && text.utf8.allSatisfy { byte in
                switch byte {
                case 0x30...0x39, 0x41...0x5A, 0x61...0x7A: true
                default: "!#$%&'*+-.^_`|~".utf8.contains(byte)
                }
            }
        return isToken
            && !["host", "content-length", "transfer-encoding", "connection"].contains { ASCII.equalIgnoringCase($0, text) }
    }
}

extension [HTTPField] {
    /// Replaces every field of that name.
    mutating func set(_ name: String, _ value: String) {
        removeAll { ASCII.equalIgnoringCase($0.name, name) }
        append(HTTPField(name, value))
    }
}

extension WebURL {
    /// Host (with its port), path and query of an absolute URL, as they are sent. An empty path is /.
    static func parts(_ url: String) -> (host: String, path: String, query: String) {
        let noFragment = url.prefix { $0 != "#" }
        guard let scheme = noFragment.firstRange(of: "://") else { return ("", "/", "") }
        let tail = noFragment[scheme.upperBound...]
        let host = tail.prefix { $0 != "/" && $0 != "?" }
        let rest = tail[host.endIndex...]
        let path = rest.prefix { $0 != "?" }
        return (String(host), path.isEmpty ? "/" : String(path), String(rest[path.endIndex...].dropFirst()))
    }

    /// The URL without a parameter of its query, whoever wrote it there.
    static func removing(_ name: String, from url: String) -> String {
        guard let mark = url.firstIndex(of: "?") else { return url }
        let encoded = encode(name)
        let kept = url[url.index(after: mark)...].split(separator: "&", omittingEmptySubsequences: false).filter { pair in
            let key = pair.prefix { $0 != "=" }
            return key != name && key != encoded
        }
        return String(url[..<mark]) + (kept.isEmpty ? "" : "?" + kept.joined(separator: "&"))
    }

    /// The URL with a parameter of this value, once.
    static func setting(_ name: String, _ value: String, in url: String) -> String {
        let bare = removing(name, from: url)
        return bare + (bare.contains("?") ? "&" : "?") + encode(name) + "=" + encode(value)
    }
}
