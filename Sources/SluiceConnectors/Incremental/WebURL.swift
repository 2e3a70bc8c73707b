import SluiceCore

/// The little of RFC 3986 that requests and next links need, on absolute http and https URLs.
struct WebURL {
    private let text: String

    init(_ text: String) { self.text = text }

    /// Percent-encodes everything but unreserved characters (RFC 3986, 2.3).
    static func encode(_ text: String) -> String {
        let hex = Array("0123456789ABCDEF".utf8)
        var output: [UInt8] = []
        for byte in text.utf8 {
            switch byte {
            case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "~"):
                output.append(byte)
            default: output += [UInt8(ascii: "%"), hex[Int(byte >> 4)], hex[Int(byte & 15)]]
            }
        }
        return String(decoding: output, as: UTF8.self)
    }

    /// Whether a text can be what URLs begin with: scheme, host, perhaps a port and a path.
    static func isBase(_ text: String) -> Bool {
        guard let parts = split(text), !parts.authority.isEmpty, !parts.authority.contains("@") else { return false }
        return text.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F && $0 != UInt8(ascii: "?") && $0 != UInt8(ascii: "#") && $0 != 0x5C }
    }

    /// Scheme and host in lowercase, with the port that holds: what must stay the same from page to page.
    static func origin(_ text: String) -> String? {
        guard let (scheme, authority, _) = split(text) else { return nil }
        let host = authority.lowercased()
        if host.isEmpty || host.contains("@") { return nil }
        let hasPort = host.hasSuffix("]") ? false : host.split(separator: "]").last?.contains(":") ?? false
        return scheme + "://" + (hasPort ? host : host + (scheme == "https" ? ":443" : ":80"))
    }

    private static func split(_ text: String) -> (scheme: String, authority: Substring, rest: Substring)? {
        for scheme in ["https", "http"] {
            let head = String(text.prefix(scheme.count + 3))
            guard ASCII.equalIgnoringCase(head, scheme + "://") else { continue }
            let tail = text.dropFirst(scheme.count + 3)
            let end = tail.firstIndex { $0 == "/" || $0 == "?" || $0 == "#" } ?? tail.endIndex
            return (scheme, tail[..<end], tail[end...])
        }
        return nil
    }

    /// A reference as an absolute URL (RFC 3986, 5.2; dot segments are left to the server).
    func resolve(_ reference: String) -> String {
        guard let (scheme, authority, rest) = WebURL.split(text) else { return reference }
        let link = String(reference.prefix { $0 != "#" })
        if WebURL.split(link) != nil || link.prefix(while: { $0 != "/" && $0 != "?" }).contains(":") { return link }
        if link.hasPrefix("//") { return "\(scheme):\(link)" }
        let path = rest.prefix { $0 != "?" && $0 != "#" }
        let root = "\(scheme)://\(authority)"
        if link.hasPrefix("/") { return root + link }
        if link.hasPrefix("?") { return root + path + link }
        let folder = path.lastIndex(of: "/").map { path[...$0] } ?? "/"
        return root + folder + link
    }

    /// A reference as an absolute URL with the same scheme, host and port. Throws otherwise: the credentials of this
    /// connection are for no other host. `what`: what the reference is.
    func sameOrigin(_ reference: String, _ what: String = "next page") throws(PollFailure) -> String {
        let link = resolve(reference)
        guard link.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F && $0 != 0x5C }), let origin = WebURL.origin(link),
            origin == WebURL.origin(text)
        else {
            throw PollFailure(
                .permanent,
                SluiceError(
                    .providerAnswer,
                    "the provider's \(what) lies on another host (\(WebURL.origin(link) ?? "not http")), and credentials are not sent there"
                ))
        }
        return link
    }
}

/// Link headers (RFC 8288).
enum LinkHeader {
    /// The target of the first link whose relation is `next`; nil if there is none.
    static func next(in headers: [HTTPField]) -> String? {
        for field in headers where ASCII.equalIgnoringCase(field.name, "Link") {
            var scan = field.value[...]
            while let open = scan.firstIndex(of: "<"), let close = scan[open...].firstIndex(of: ">") {
                let target = scan[scan.index(after: open)..<close]
                let (parameters, rest) = parameters(of: scan[scan.index(after: close)...])
                if isNext(parameters) { return String(target) }
                scan = rest
            }
        }
        return nil
    }

    /// Splits what follows a target at the comma that ends it, minding quotes.
    private static func parameters(of text: Substring) -> ([Substring], rest: Substring) {
        var isQuoted = false
        var parameters: [Substring] = []
        var start = text.startIndex
        var index = text.startIndex
        while index < text.endIndex {
            let character = text[index]
            if character == "\"" { isQuoted.toggle() }
            if !isQuoted, character == ";" || character == "," {
                parameters.append(text[start..<index])
                start = text.index(after: index)
                if character == "," { return (parameters, text[start...]) }
            }
            index = text.index(after: index)
        }
        parameters.append(text[start...])
        return (parameters, "")
    }

    private static func isNext(_ parameters: [Substring]) -> Bool {
        parameters.contains { parameter in
            let halves = parameter.split(separator: "=", maxSplits: 1).map { $0.filter { $0 != "\"" } }
            guard halves.count == 2, ASCII.equalIgnoringCase(halves[0].filter { $0 != " " }, "rel") else { return false }
            return halves[1].split(separator: " ").contains { ASCII.equalIgnoringCase(String($0), "next") }
        }
    }
}
