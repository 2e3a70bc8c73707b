/// An absolute http or https URL, read strictly and written anew, so that the host which is checked is the host which is
/// connected to: two parsers that disagree on a URL are how address guards are passed by.
public struct WebAddress: Hashable, Sendable {
    public let isSecure: Bool
    /// Lower case, without brackets.
    public let host: String
    public let port: Int
    /// Begins with `/`; with the query, without the fragment.
    public let pathAndQuery: String

    /// Throws `.invalid` saying what is wrong with it. The message never quotes the URL: it may hold a secret.
    public init(_ text: String) throws(SluiceError) {
        guard text.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F && $0 != UInt8(ascii: "\\") }) else {
            throw WebAddress.refusal("holds a space, a backslash or a character that is not ASCII; percent-encode it")
        }
        var rest = Substring(text)
        if rest.count >= 8, ASCII.equalIgnoringCase(String(rest.prefix(8)), "https://") {
            isSecure = true
            rest = rest.dropFirst(8)
        } else if rest.count >= 7, ASCII.equalIgnoringCase(String(rest.prefix(7)), "http://") {
            isSecure = false
            rest = rest.dropFirst(7)
        } else {
            throw WebAddress.refusal("does not begin with http:// or https://")
        }
        let end = rest.firstIndex { "/?#".contains($0) } ?? rest.endIndex
        (host, port) = try WebAddress.authority(rest[..<end], portDefault: isSecure ? 443 : 80)
        let tail = rest[end...].prefix { $0 != "#" }
        pathAndQuery = tail.first == "/" ? String(tail) : "/" + tail
    }

    /// The address of the host if it is written as one and not as a name.
    public var literal: IPAddress? { IPAddress(host) }

    /// The whole URL in its one spelling.
    public var url: String {
        let shown = host.utf8.contains(UInt8(ascii: ":")) ? "[\(host)]" : host
        let portText = port == (isSecure ? 443 : 80) ? "" : ":\(port)"
        return (isSecure ? "https://" : "http://") + shown + portText + pathAndQuery
    }

    private static func authority(_ text: Substring, portDefault: Int) throws(SluiceError) -> (String, Int) {
        guard !text.contains("@") else { throw refusal("holds a user name; send credentials in a header") }
        let hostEnd: Substring.Index
        if text.first == "[" {
            guard let close = text.firstIndex(of: "]"), IPAddress(String(text[text.index(after: text.startIndex)..<close])) != nil
            else { throw refusal("has brackets without an IPv6 address in them") }
            hostEnd = text.index(after: close)
        } else {
            hostEnd = text.firstIndex(of: ":") ?? text.endIndex
        }
        var host = String(decoding: text[..<hostEnd].utf8.map(ASCII.lowercased), as: UTF8.self)
        if host.hasPrefix("[") {
            host = String(host.dropFirst().dropLast())
        } else {
            let isName = host.utf8.allSatisfy { $0 &- 0x61 < 26 || $0 &- 0x30 < 10 || "-._".utf8.contains($0) }
            guard isName, !host.isEmpty, host.utf8.count <= 253 else { throw refusal("has no valid host name") }
        }
        let portText = text[hostEnd...]
        if portText.isEmpty { return (host, portDefault) }
        guard portText.first == ":", portText.dropFirst().utf8.allSatisfy({ $0 &- 0x30 < 10 }), let port = Int(portText.dropFirst()),
            (1...65_535).contains(port)
        else { throw refusal("has a port that is not a number from 1 to 65535") }
        return (host, port)
    }

    private static func refusal(_ what: String) -> SluiceError { SluiceError(.invalid, "The URL \(what).") }
}
