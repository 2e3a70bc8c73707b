import SluiceConnectors
import SluiceCore

/// Takes secrets out of what is printed and recorded: known values wherever they stand, and what by its name is a credential.
public struct SecretScrubber: Sendable {
    private static let headers: Set<String> = [
        "authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "api-key", "apikey", "x-auth-token", "x-access-token",
        "x-shopify-access-token", "private-token", "x-csrf-token",
    ]
    /// Parts of names of parameters and members whose values are credentials. A page token is none: replays need it.
    private static let names = [
        "accesstoken", "refreshtoken", "idtoken", "authtoken", "apitoken", "apikey", "secret", "password", "passwd", "signature",
        "assertion",
        "privatekey", "clientkey", "authorization",
    ]
    private static let wholeNames: Set<String> = ["token", "key", "sig", "auth", "code", "pwd", "hmac", "jwt"]

    private var finder = SecretFinder()

    /// The secret values of a connection: those of its secret fields, however they are written.
    public init(connection: JSONView, fields: [Field]) {
        for field in fields where field.isSecret {
            guard let value = connection[field.name] else { continue }
            for text in SecretScrubber.texts(value) { finder.add(text, label: "[\(field.name)]") }
        }
    }

    /// Something else that must not be shown: a token that the provider gave.
    public mutating func add(_ secret: String, label: String) { finder.add(secret, label: "[\(label)]") }

    private static func texts(_ value: JSONView) -> [String] {
        if let members = value.members { return members.flatMap { texts($0.value) } }
        if let elements = value.elements { return elements.flatMap { texts($0) } }
        return value.text.map { [$0] } ?? []
    }

    /// Text without the known values.
    public func text(_ text: String) -> String { String(decoding: finder.replaced(Array(text.utf8)), as: UTF8.self) }

    /// A body without the known values, and without the values of members of JSON, or of parameters of a form, that are credentials
    /// by their names. `headers` say whether it is a form.
    public func body(_ body: [UInt8], headers: [HTTPField] = []) -> [UInt8] {
        let cleaned = finder.replaced(body)
        if headers.first("Content-Type")?.lowercased().hasPrefix("application/x-www-form-urlencoded") == true {
            return Array(SecretScrubber.pairs(String(decoding: cleaned, as: UTF8.self)).utf8)
        }
        guard let root = (try? JSONDocument(cleaned))?.root else { return cleaned }
        return SecretScrubber.hasCredential(root) ? SecretScrubber.without(root) : cleaned
    }

    private static func hasCredential(_ view: JSONView) -> Bool {
        if let members = view.members {
            return members.contains { isCredential($0.key) && $0.value.string != nil || hasCredential($0.value) }
        }
        return view.elements?.contains(where: hasCredential) ?? false
    }

    private static func without(_ view: JSONView) -> [UInt8] {
        var writer = JSONWriter()
        write(view, to: &writer)
        return writer.bytes
    }

    private static func write(_ view: JSONView, to writer: inout JSONWriter) {
        if let members = view.members {
            writer.object { writer in
                for member in members {
                    writer.key(member.key)
                    if isCredential(member.key), member.value.string != nil {
                        writer.value("[\(member.key)]")
                    } else {
                        write(member.value, to: &writer)
                    }
                }
            }
        } else if let elements = view.elements {
            writer.array { writer in for element in elements { write(element, to: &writer) } }
        } else {
            writer.raw(view.bytes)
        }
    }

    public func header(_ field: HTTPField) -> HTTPField {
        let name = field.name.lowercased()
        if SecretScrubber.headers.contains(name) || SecretScrubber.isCredential(name.filter { $0 != "-" && $0 != "x" }) {
            return HTTPField(field.name, "[\(name)]")
        }
        if name == "link" || name == "location" { return HTTPField(field.name, url(field.value)) }
        return HTTPField(field.name, text(field.value))
    }

    /// A URL without credentials in its query and before its host.
    public func url(_ url: String) -> String {
        let cleaned = text(url)
        guard let mark = cleaned.firstIndex(of: "?") else { return SecretScrubber.withoutUser(cleaned) }
        let query = SecretScrubber.pairs(String(cleaned[cleaned.index(after: mark)...]))
        return SecretScrubber.withoutUser(String(cleaned[..<mark])) + "?" + query
    }

    /// `a=b&c=d` without the values that are credentials by their names.
    private static func pairs(_ text: String) -> String {
        text.split(separator: "&", omittingEmptySubsequences: false).map { pair -> String in
            guard let equals = pair.firstIndex(of: "="), isCredential(String(pair[..<equals])) else { return String(pair) }
            return "\(pair[...equals])[\(pair[..<equals])]"
        }.joined(separator: "&")
    }

    private static func withoutUser(_ url: String) -> String {
        let parts = url.split(separator: "/", maxSplits: 3, omittingEmptySubsequences: false)
        guard parts.count >= 3, parts[0].hasSuffix(":"), parts[1].isEmpty, let at = parts[2].lastIndex(of: "@") else { return url }
        let rest = parts.count > 3 ? "/" + parts[3] : ""
        return "\(parts[0])//[user]\(parts[2][at...])\(rest)"
    }

    static func isCredential(_ name: String) -> Bool {
        let plain = name.lowercased().filter { $0.isLetter }
        return wholeNames.contains(plain) || names.contains { plain.contains($0) }
    }
}
