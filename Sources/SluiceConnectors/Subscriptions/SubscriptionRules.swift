import SluiceCore

/// Dynamic webhooks as data: how subscriptions are made, kept and removed where the provider has an API for them.
///
/// ```
/// { "base_url": "https://api.github.com", "auth": {"bearer": "{connection.token}"},
///   "create": {"path": "/repos/{input.owner}/{input.repo}/hooks",
///              "body": {"config": {"url": "{webhook.url}", "secret": "{webhook.secret}"}, "events": ["push"]}},
///   "id": "id",
///   "list": {"path": "/repos/{input.owner}/{input.repo}/hooks", "url": "config.url", "active": {"path": "active", "is": "true"}},
///   "delete": {"path": "/repos/{input.owner}/{input.repo}/hooks/{output.id}"} }
/// ```
/// `expires_at` or `expires_in`: where the answer says when it ends; `lifetime_seconds`: how long it is asked for
/// (`{webhook.expires_at}`), or lasts where the answer says nothing. `secret`: where the answer holds what webhooks are signed
/// with. `output`: further values to keep, by name. `refresh`: how it is made to last longer.
public struct SubscriptionRules: Sendable {
    struct Call: Sendable {
        var method: String
        var path: SubscriptionTemplate
        var query: [(name: String, value: SubscriptionTemplate)]
        /// JSON whose strings are templates.
        var body: [UInt8]?
        var isForm = false
    }

    struct Listing: Sendable {
        var call: Call
        var items: JSONPath
        var id: JSONPath
        var url: JSONPath
        /// The provider has disabled those for which this does not hold.
        var active: (path: JSONPath, value: String)?
        /// Whether one that lacks the field is disabled.
        var needsActive = true
        /// What must stand at which place; otherwise it drifted.
        var expected: [(path: JSONPath, value: SubscriptionTemplate)]
        var expiresAt: JSONPath?
        /// Where the URL of the next page stands. Link headers are followed in any case.
        var next: JSONPath?
    }

    enum Authentication: Sendable {
        case none
        case basic(user: SubscriptionTemplate, password: SubscriptionTemplate)
        case bearer(SubscriptionTemplate)
    }

    static let pagesMax = 50

    let baseURL: SubscriptionTemplate
    let authentication: Authentication
    let headers: [(name: String, value: SubscriptionTemplate)]
    let create: Call
    let refresh: Call?
    let list: Listing?
    let delete: Call
    let id: JSONPath
    let expiresAt: JSONPath?
    let expiresIn: JSONPath?
    let lifetime: Span?
    let secret: JSONPath?
    let kept: [(name: String, path: JSONPath)]
    public let traits: SubscriptionTraits

    /// Throws an error that names the key and what mends it; a key that means nothing is refused.
    public init(json: JSONDocument) throws(SluiceError) {
        var keyed: [(key: String, template: SubscriptionTemplate)] = []
        var reader = try RuleReader(json.root, at: "subscription")
        func template(_ text: String, _ key: String, _ reader: RuleReader) throws(SluiceError) -> SubscriptionTemplate {
            do throws(SluiceError) {
                let template = try SubscriptionTemplate(text)
                keyed.append(("\(reader.place).\(key)", template))
                return template
            } catch {
                throw reader.fault(key, "is malformed: \(error.message)")
            }
        }
        func named(_ key: String, _ reader: inout RuleReader) throws(SluiceError) -> [(name: String, value: SubscriptionTemplate)] {
            guard let view = reader.value(key) else { return [] }
            if view.elements?.isEmpty == true { return [] }
            guard let members = view.members else { throw reader.fault(key, "must be a table of names and texts") }
            var result: [(name: String, value: SubscriptionTemplate)] = []
            for (name, value) in members {
                guard let text = value.text ?? value.bool.map({ $0 ? "true" : "false" }) else {
                    throw reader.fault("\(key).\(name)", "must be text")
                }
                result.append((name, try template(text, "\(key).\(name)", reader)))
            }
            return result
        }
        func call(_ reader: inout RuleReader, method: String) throws(SluiceError) -> Call {
            var call = Call(
                method: try reader.choice("method", ["GET", "POST", "PUT", "PATCH", "DELETE"]) ?? method,
                path: try template(try reader.text("path"), "path", reader), query: try named("query", &reader))
            for key in ["body", "form"] {
                guard let view = reader.value(key) else { continue }
                guard call.body == nil else { throw reader.fault(key, "cannot stand beside body: keep one") }
                do throws(SluiceError) {
                    for template in try SubscriptionBody.templates(view) { keyed.append(("\(reader.place).\(key)", template)) }
                } catch {
                    throw reader.fault(key, "is malformed: \(error.message)")
                }
                guard key == "body" || view.members != nil else { throw reader.fault(key, "must be a table of names and values") }
                call.body = Array(view.bytes)
                call.isForm = key == "form"
            }
            return call
        }
        baseURL = try template(try reader.text("base_url"), "base_url", reader)
        headers = try named("headers", &reader)
        var authentication = Authentication.none
        if var auth = try reader.optionalNested("auth") {
            if var basic = try auth.optionalNested("basic") {
                authentication = .basic(
                    user: try template(try basic.text("user"), "user", basic),
                    password: try template(try basic.optionalText("password") ?? "", "password", basic))
                try basic.finish()
            }
            if let token = try auth.optionalText("bearer") { authentication = .bearer(try template(token, "bearer", auth)) }
            try auth.finishWithOne()
        }
        self.authentication = authentication
        var part = try reader.nested("create")
        create = try call(&part, method: "POST")
        try part.finish()
        if var part = try reader.optionalNested("refresh") {
            refresh = try call(&part, method: "PATCH")
            try part.finish()
        } else {
            refresh = nil
        }
        part = try reader.nested("delete")
        delete = try call(&part, method: "DELETE")
        try part.finish()
        if var part = try reader.optionalNested("list") {
            let listCall = try call(&part, method: "GET")
            var active: (path: JSONPath, value: String)?
            var needsActive = true
            if var rule = try part.optionalNested("active") {
                active = (try rule.path("path"), try rule.text("is"))
                needsActive = try rule.flag("optional") != true
                try rule.finish()
            }
            let expected = try named("expect", &part)
            list = Listing(
                call: listCall, items: try part.optionalPath("items") ?? JSONPath([]), id: try part.optionalPath("id") ?? JSONPath(["id"]),
                url: try part.path("url"), active: active, needsActive: needsActive,
                expected: expected.map { (JSONPath($0.name.split(separator: ".").map(String.init)), $0.value) },
                expiresAt: try part.optionalPath("expires_at"), next: try part.optionalPath("next"))
            try part.finish()
        } else {
            list = nil
        }
        id = try reader.optionalPath("id") ?? JSONPath(["id"])
        expiresAt = try reader.optionalPath("expires_at")
        expiresIn = try reader.optionalPath("expires_in")
        lifetime = try reader.integer("lifetime_seconds", 1...3_200_000_000).map { .seconds($0) }
        secret = try reader.optionalPath("secret")
        var kept: [(name: String, path: JSONPath)] = []
        if let view = reader.value("output") {
            for (name, value) in view.members ?? [] {
                guard let text = value.string else { throw reader.fault("output.\(name)", "must be keys with points between them") }
                kept.append((name, JSONPath(text.split(separator: ".").map(String.init))))
            }
        }
        self.kept = kept
        let isIdempotent = try reader.flag("idempotent") ?? false
        try reader.finish()
        let templates = keyed.map(\.template)
        for (key, template) in keyed {
            PlaceWitness.note(template, key)
            try SubscriptionRules.check(template, key, lasts: lifetime != nil, kept: kept.map(\.name))
        }
        traits = SubscriptionTraits(
            abilities: SubscriptionAbilities(canRefresh: refresh != nil, canCheck: list != nil, isIdempotent: isIdempotent),
            inputFields: Set(templates.flatMap { $0.fields(of: "input") }).sorted(),
            hasOwnSecret: secret != nil,
            usesOfferedSecret: secret == nil && templates.contains { $0.fields(of: "webhook").contains("secret") })
    }

    /// Refuses a place of the webhook, or of what is kept of a subscription, that never has a value.
    private static func check(_ template: SubscriptionTemplate, _ key: String, lasts: Bool, kept: [String]) throws(SluiceError) {
        for name in template.fields(of: "webhook") where !["url", "secret"].contains(name) {
            if ["expires_at", "expires_at_unix"].contains(name) {
                if lasts { continue }
                throw SluiceError(.connector, "\(key) names {webhook.\(name)}: add lifetime_seconds, which says how long it is to last")
            }
            throw SluiceError(
                .connector,
                "\(key) names {webhook.\(name)}, and there are {webhook.url}, {webhook.secret}, {webhook.expires_at} and "
                    + "{webhook.expires_at_unix}: correct it")
        }
        for name in template.fields(of: "output") where name != "id" && !kept.contains(name) {
            throw SluiceError(
                .connector,
                "\(key) names {output.\(name)}, which is not kept: correct it, or add output = { \(name) = \"…\" }, where the "
                    + "answer to create holds it")
        }
    }
}
