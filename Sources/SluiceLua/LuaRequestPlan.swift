import SluiceConnectors
import SluiceCore

/// Makes a request of what a connector gave to `get` or `post`:
/// `{"method":…,"url":…,"options":{"params":…,"headers":…,"json":…|"form":…|"body":…,"any_status":…,"timeout_seconds":…,"stream":…}}`.
enum LuaRequestPlan {
    private static let known = ["any_status", "body", "form", "headers", "json", "params", "stream", "timeout_seconds"]

    static func plan(_ json: [UInt8]) throws(SluiceError) -> HTTPRequestPlan {
        guard let root = try? JSONDocument(json, depthMax: 80).root, let method = root["method"]?.string, let url = root["url"]?.string
        else { throw SluiceError(.connector, "the request cannot be read") }
        let name = method.lowercased()
        try checkURL(url, name)
        var plan = HTTPRequestPlan(method: method, url: url)
        let members = root["options"]?.members ?? []
        if root["options"]?.kind == .array { throw SluiceError(.connector, "\(name): options must have names, as in { params = {...} }") }
        for (key, value) in members { try apply(key, value, to: &plan, name) }
        if members.filter({ ["json", "form", "body"].contains($0.key) }).count > 1 {
            throw SluiceError(.connector, "\(name): give one of json, form and body")
        }
        if plan.isStream, plan.holdSpan == nil {
            throw SluiceError(.connector, "\(name): a stream needs timeout_seconds: how long it may say nothing before it is opened anew")
        }
        return plan
    }

    /// The message never quotes the URL: it may hold a secret.
    private static func checkURL(_ url: String, _ name: String) throws(SluiceError) {
        let isHTTP = url.hasPrefix("https://") || url.hasPrefix("http://")
        guard isHTTP, url.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }), url.utf8.count <= 16_384 else {
            throw SluiceError(
                .connector, "\(name): the URL must begin with https:// or http:// and be encoded; use url_encode for its parts")
        }
    }

    private static func apply(_ key: String, _ value: JSONView, to plan: inout HTTPRequestPlan, _ name: String) throws(SluiceError) {
        switch key {
        case "any_status": plan.acceptsAnyStatus = value.bool == true
        case "stream": plan.isStream = value.bool == true
        case "timeout_seconds":
            let most = Double(LongPollRule.holdMax.milliseconds / 1000)
            guard let seconds = value.double, seconds > 0, seconds <= most else {
                throw SluiceError(.connector, "\(name): timeout_seconds must be a number up to \(Int(most))")
            }
            plan.holdSpan = Span(milliseconds: Int64((seconds * 1000).rounded(.up)))
        case "params":
            let query = try pairs(value, "\(name): params")
            if !query.isEmpty { plan.url += (plan.url.utf8.contains(UInt8(ascii: "?")) ? "&" : "?") + query }
        case "headers": try addHeaders(value, to: &plan, name)
        case "json":
            plan.body = Array(value.bytes)
            setContentType("application/json", &plan)
        case "form":
            plan.body = Array(try pairs(value, "\(name): form").utf8)
            setContentType("application/x-www-form-urlencoded", &plan)
        case "body":
            guard let text = value.string else { throw SluiceError(.connector, "\(name): body must be a string") }
            plan.body = Array(text.utf8)
        default:
            throw SluiceError(.connector, "\(name): unknown option '\(key)'; known are \(known.joined(separator: ", "))")
        }
    }

    private static func setContentType(_ type: String, _ plan: inout HTTPRequestPlan) {
        if plan.headers.first("Content-Type") == nil { plan.headers.append(HTTPField("Content-Type", type)) }
    }

    private static func addHeaders(_ value: JSONView, to plan: inout HTTPRequestPlan, _ name: String) throws(SluiceError) {
        guard let members = value.members else { throw SluiceError(.connector, "\(name): headers must be a table of names and values") }
        for (header, value) in members {
            guard let text = value.text else { throw SluiceError(.connector, "\(name): the header \(header) must be a string") }
            guard isHeader(header, text) else {
                throw SluiceError(.connector, "\(name): a header's name or value holds bytes that a header cannot hold")
            }
            plan.headers.removeAll { ASCII.equalIgnoringCase($0.name, header) }
            plan.headers.append(HTTPField(header, text))
        }
    }

    static func isHeader(_ name: String, _ value: String) -> Bool {
        !name.isEmpty && name.utf8.allSatisfy(isTokenByte) && value.utf8.allSatisfy { $0 >= 0x20 && $0 != 0x7F }
    }

    /// RFC 9110, 5.6.2.
    private static func isTokenByte(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x30...0x39, 0x41...0x5A, 0x61...0x7A: true
        default: "!#$%&'*+-.^_`|~".utf8.contains(byte)
        }
    }

    /// Names in their order in the JSON (sorted), or a list of `{name, value}` in its own order. A list as a value repeats
    /// the name.
    private static func pairs(_ value: JSONView, _ what: String) throws(SluiceError) -> String {
        var result: [String] = []
        func add(_ name: String, _ value: JSONView) throws(SluiceError) {
            guard let text = value.bool.map({ $0 ? "true" : "false" }) ?? value.text else {
                throw SluiceError(.connector, "\(what): the value of '\(name)' must be a string, a number or a boolean")
            }
            result.append(LuaText.urlEncode(name.utf8) + "=" + LuaText.urlEncode(text.utf8))
        }
        if let list = value.elements {
            for element in list {
                guard let pair = element.elements, pair.count == 2, let name = pair[0].text else {
                    throw SluiceError(.connector, "\(what): a list must hold pairs such as {\"name\", \"value\"}")
                }
                try add(name, pair[1])
            }
        } else if let members = value.members {
            for (name, value) in members {
                if let list = value.elements { for element in list { try add(name, element) } } else { try add(name, value) }
            }
        } else {
            throw SluiceError(.connector, "\(what) must be a table")
        }
        return result.joined(separator: "&")
    }
}
