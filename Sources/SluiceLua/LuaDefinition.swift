import SluiceConnectors
import SluiceCore

/// What a connector's file defines, read from the JSON of its table and checked.
struct LuaDefinition: Sendable {
    struct Trigger: Sendable {
        var type: TriggerTypeDefinition
        var webhookKey: LuaFunction?
        var poll: LuaFunction?
        var dedup: LuaFunction?
        /// What `incremental = { … }` describes.
        var incremental: Incremental?
        /// What `simulate = { … }` says for `sluice connector simulate`.
        var simulation: SimulatedFeed?
        var webhookSubscribe: LuaFunction?
        var webhookRefresh: LuaFunction?
        var webhookCheck: LuaFunction?
        var webhookUnsubscribe: LuaFunction?
        /// What `subscription = { … }` describes.
        var subscription: SubscriptionRules?
        var notification: LuaFunction?
        var longPoll: LongPoll?
        var cursorAt: LuaFunction?
        var recordTime: LuaFunction?
        var versionSpan: Span?
    }

    /// A value that is read through a reference.
    @dynamicMemberLookup final class Kept<Value: Sendable>: Sendable {
        private let value: Value
        init(_ value: Value) { self.value = value }
        subscript<Member>(dynamicMember member: KeyPath<Value, Member>) -> Member { value[keyPath: member] }
    }

    /// What `long_poll` is: rules beside an `incremental`, or a function.
    enum LongPoll: Sendable {
        case rule(LongPollRule)
        case function(LuaFunction)
    }

    var name: String
    var title: String
    var version: String
    var connectionFields: [Field]
    var access: ConnectionAccess
    /// `connection.test`, where it is a function.
    var test: LuaFunction?
    var webhook: WebhookDescription?
    var webhookKeys: LuaFunction?
    var help: LuaFunction?
    /// Signs the requests of polls that are described as data.
    var sign: LuaFunction?
    /// Each behind one reference, since whoever waits for an answer holds it meanwhile.
    var triggers: [Kept<Trigger>]
    var callbacks: [Callback]
    var isExperimental: Bool

    /// `path` is what messages begin with.
    init(json: [UInt8], path: String) throws(SluiceError) {
        let document: JSONDocument
        do throws(JSONError) {
            document = try JSONDocument(json, depthMax: 80)
        } catch {
            throw SluiceError(.connector, "\(path): the connector's table cannot be read: it \(error)")
        }
        let table = try LuaTable(
            document.root, path: path, at: "",
            known: [
                "name", "title", "version", "connection", "webhook", "webhook_keys", "help", "triggers", "callbacks", "experimental",
                "sign",
            ])
        name = try table.requiredText("name")
        guard LuaDefinition.isKebabCase(name) else { throw table.error("name", "must be kebab-case, for example \"my-service\"") }
        title = try table.text("title") ?? name
        version = try table.text("version") ?? "0.0.0"
        let connection = try table.table("connection", known: ["fields"] + LuaDefinition.accessKeys)
        connectionFields = try connection.map { table throws(SluiceError) in try LuaDefinition.fields(table, "fields") } ?? []
        isExperimental = try table.flag("experimental")
        webhook = try LuaDefinition.webhook(table, connectionFields)
        access = try connection.map { table throws(SluiceError) in try LuaDefinition.access(table) } ?? ConnectionAccess()
        if let connection, LuaDefinition.isFunction(connection, "test") { test = try connection.function("test") }
        webhookKeys = try table.function("webhook_keys")
        help = try table.function("help")
        sign = try table.function("sign")
        if webhookKeys != nil, webhook == nil {
            throw table.error("webhook_keys", "needs webhook = { scheme = \"...\" }, which says how webhooks are verified")
        }
        callbacks = try LuaDefinition.callbacks(table, connectionFields)
        let members = table["triggers"]?.members ?? []
        guard !members.isEmpty || table["triggers"] == nil && !callbacks.isEmpty else {
            throw table.error(
                "triggers", "is missing; write triggers = { new_event = { poll = function(connection, input, closure) ... end } }")
        }
        self.triggers = []
        for (name, view) in members {
            self.triggers.append(Kept(try LuaDefinition.trigger(name, view, path, connectionFields, takesWebhooks: webhookKeys != nil)))
        }
        if sign != nil, !self.triggers.contains(where: { $0.incremental != nil }), !callbacks.contains(where: { $0.rules != nil }) {
            throw table.error("sign", "is for triggers with incremental = { ... }; in poll, give get and post the headers themselves")
        }
        if webhook == nil, let trigger = self.triggers.first(where: { $0.type.kind == .webhook }) {
            throw table.error("webhook", "is missing; triggers.\(trigger.type.name) takes webhooks: write webhook = { scheme = \"...\" }")
        }
        if webhook == nil, let dynamic = self.triggers.first(where: { $0.type.subscription != nil }) {
            throw table.error(
                "webhook",
                "is missing; triggers.\(dynamic.type.name) subscribes to webhooks: write webhook = { scheme = \"...\" }, which says how they are verified"
            )
        }
        access.addBaseURLs(of: self.triggers.compactMap(\.incremental))
        access.addBaseURLs(of: callbacks.compactMap(\.rules))
        if let problem = access.problem(fields: connectionFields) { throw SluiceError(.connector, "\(path): \(problem)") }
    }

    private static let accessKeys = ["base_url", "authorization", "test", "rate_limit"]

    private static func isFunction(_ table: LuaTable, _ key: String) -> Bool { key == "test" && table[key]?["$function"] != nil }

    /// What `connection` says besides its fields.
    private static func access(_ table: LuaTable) throws(SluiceError) -> ConnectionAccess {
        var writer = JSONWriter()
        var data: [(String, [UInt8])] = []
        for key in accessKeys where !isFunction(table, key) { if let json = try table.data(key) { data.append((key, json)) } }
        writer.object { writer in
            for (key, json) in data {
                writer.key(key)
                writer.raw(json)
            }
        }
        do {
            return try ConnectionAccess(json: try JSONDocument(writer.bytes, depthMax: 80))
        } catch let error as SluiceError {
            throw SluiceError(.connector, "\(table.path): \(error.message)")
        } catch {
            throw table.error(nil, "\(error)")
        }
    }

    static func isKebabCase(_ text: String) -> Bool {
        !text.isEmpty && text.utf8.count <= 64 && !text.hasPrefix("-") && !text.hasSuffix("-")
            && text.utf8.allSatisfy { (0x61...0x7A).contains($0) || (0x30...0x39).contains($0) || $0 == UInt8(ascii: "-") }
    }

    static func isSnakeCase(_ text: String) -> Bool {
        !text.isEmpty && text.utf8.count <= 64
            && text.utf8.allSatisfy { (0x61...0x7A).contains($0) || (0x30...0x39).contains($0) || $0 == UInt8(ascii: "_") }
    }

    private static let triggerKeys = [
        "title", "input_fields", "output_fields", "sample_output", "visibility_lag_seconds", "lookback", "retention_seconds",
        "webhook_key", "poll", "dedup", "incremental", "subscription", "subscription_input", "webhook_subscribe", "webhook_refresh",
        "webhook_check", "webhook_unsubscribe", "webhook_notification", "long_poll", "cursor_at", "record_time",
        "version_seconds", "simulate",
    ]

    private static func trigger(
        _ name: String, _ view: JSONView, _ path: String, _ connectionFields: [Field], takesWebhooks: Bool
    ) throws(SluiceError) -> Trigger {
        let table = try LuaTable(view, path: path, at: "triggers.\(name)", known: triggerKeys)
        guard isSnakeCase(name) else { throw table.error(nil, "must be named in snake_case, for example new_event") }
        let (poll, dedup, key) = (try table.function("poll"), try table.function("dedup"), try table.function("webhook_key"))
        if poll != nil, table["incremental"] != nil { throw table.error(nil, "has both poll and incremental; keep one") }
        let inputFields = try fields(table, "input_fields")
        let declared = PlaceWitness.Declared(connection: connectionFields, input: inputFields)
        let incremental = try incremental(table, declared)
        let longPoll = try longPoll(table, incremental, declared)
        var trigger = Trigger(
            type: TriggerTypeDefinition(name: name, title: name, kind: .polling), webhookKey: key, poll: poll, dedup: dedup,
            incremental: incremental, notification: try table.function("webhook_notification"), longPoll: longPoll)
        trigger.simulation = try simulation(table)
        try trigger.readWindow(table)
        let traits = try trigger.readSubscription(table, declared)
        let kind = try kind(
            table, polls: poll != nil || incremental != nil, takesWebhooks: key != nil || trigger.notification != nil || traits != nil,
            isHeld: longPoll != nil)
        if kind == .polling, poll == nil, incremental == nil {
            throw table.error("poll", "is missing; write poll = function(connection, input, closure) ... end, or incremental = { ... }")
        }
        if poll != nil, dedup == nil {
            throw table.error("dedup", "is missing; write dedup = function(record) return record.id .. \"@\" .. record.updated_at end")
        }
        if key != nil, !takesWebhooks {
            throw table.error("webhook_key", "needs webhook_keys = function(request) ... end at the top of the connector")
        }
        trigger.type = TriggerTypeDefinition(
            name: name, title: try table.text("title") ?? name, kind: kind,
            inputFields: inputFields, outputFields: try fields(table, "output_fields"),
            sampleOutput: try table.data("sample_output"),
            visibilityLag: try table.seconds("visibility_lag_seconds") ?? incremental?.visibilityLag ?? .zero,
            lookback: try table.whole("lookback") ?? incremental?.lookback ?? 0,
            retention: try table.seconds("retention_seconds") ?? incremental?.retention, subscription: traits,
            countsByDelivery: kind == .webhook && dedup == nil)
        trigger.type.hasCursorAt = trigger.cursorAt != nil
        trigger.type.hasRecordTime = trigger.recordTime != nil
        trigger.type.versionSpan = trigger.versionSpan
        trigger.type.readsOnce = incremental?.cursor?.kind == .opaque
        return trigger
    }

    /// What kind follows from what is there.
    private static func kind(
        _ table: LuaTable, polls: Bool, takesWebhooks: Bool, isHeld: Bool
    ) throws(SluiceError) -> TriggerKind {
        if isHeld {
            if !polls { throw table.error("long_poll", "needs a poll (or incremental) besides: it connects, and finds what was missed") }
            if takesWebhooks { throw table.error("long_poll", "and webhooks (webhook_key, a subscription) exclude each other: keep one") }
            return .longPolling
        }
        guard polls else { return takesWebhooks ? .webhook : .polling }
        if table["webhook_notification"] != nil {
            throw table.error(
                "webhook_notification",
                "has no effect beside a poll: a webhook only wakes the poll, and its content is not used; remove one")
        }
        return takesWebhooks ? .hybrid : .polling
    }

    private static func longPoll(
        _ table: LuaTable, _ incremental: Incremental?, _ declared: PlaceWitness.Declared
    ) throws(SluiceError) -> LongPoll? {
        guard let view = table["long_poll"] else { return nil }
        if view["$function"] != nil {
            guard incremental == nil else {
                throw table.error("long_poll", "beside incremental must be data: { parameter = ..., seconds = 60 }")
            }
            return try table.function("long_poll").map(LongPoll.function)
        }
        guard let incremental, let data = try table.data("long_poll") else {
            throw table.error(
                "long_poll",
                "as data needs incremental = { ... }; beside poll write long_poll = function(connection, input, closure) ... end")
        }
        let rule: LongPollRule
        do {
            rule = try placed(declared) { try LongPollRule(json: try JSONDocument(data, depthMax: 80)) }
        } catch let error as SluiceError {
            throw table.error("long_poll", error.message)
        } catch {
            throw table.error("long_poll", "\(error)")
        }
        if let problem = rule.problem(with: incremental) { throw table.error("long_poll", problem) }
        return .rule(rule)
    }

    private static func incremental(_ table: LuaTable, _ declared: PlaceWitness.Declared) throws(SluiceError) -> Incremental? {
        guard let data = try table.data("incremental") else { return nil }
        do {
            return try placed(declared) { try Incremental(json: try JSONDocument(data, depthMax: 80)) }
        } catch let error as SluiceError {
            throw table.error("incremental", error.message)
        } catch {
            throw table.error("incremental", "\(error)")
        }
    }

    static func fields(_ table: LuaTable, _ key: String) throws(SluiceError) -> [Field] {
        guard let view = table[key], !(view.members ?? [(key: "", value: view)]).isEmpty else { return [] }
        guard let elements = view.elements else {
            throw table.error(key, "must be a list of fields such as { { name = \"since\", type = \"integer\" } }")
        }
        var result: [Field] = []
        for (index, element) in elements.enumerated() {
            let field = try LuaTable(
                element, path: table.path, at: table.name(key) + "[\(index + 1)]",
                known: ["name", "label", "type", "optional", "secret", "hint", "default"])
            let name = try field.requiredText("name")
            guard isSnakeCase(name) else { throw field.error("name", "must be snake_case, for example api_key") }
            guard !result.contains(where: { $0.name == name }) else { throw field.error("name", "'\(name)' is there twice") }
            let typeName = try field.text("type") ?? "string"
            guard let type = Field.FieldType(rawValue: typeName) else {
                let known = Field.FieldType.allCases.map(\.rawValue).joined(separator: ", ")
                throw field.error("type", "'\(typeName)' is not a type; known are \(known)")
            }
            let defaultJSON = try field.data("default").map { String(decoding: $0, as: UTF8.self) }
            result.append(
                Field(
                    name, label: try field.text("label"), type: type, isOptional: try field.flag("optional"),
                    isSecret: try field.flag("secret"), hint: try field.text("hint"), defaultJSON: defaultJSON))
        }
        return result
    }
}

/// A table of the connector's file as JSON, with messages that say where a fault is.
struct LuaTable {
    let view: JSONView
    let path: String
    let at: String

    init(_ view: JSONView, path: String, at: String, known: [String]) throws(SluiceError) {
        (self.view, self.path, self.at) = (view, path, at)
        for key in known { KeyWitness.note(at, key, .value) }
        guard let members = view.members, view["$function"] == nil else {
            throw error(nil, "must be a table with names, as in { name = ... }")
        }
        for (key, _) in members where !known.contains(key) {
            throw error(nil, "has an unknown key '\(key)'; known are \(known.joined(separator: ", "))")
        }
    }

    subscript(key: String) -> JSONView? { view[key] }

    func name(_ key: String?) -> String { [at, key ?? ""].filter { !$0.isEmpty }.joined(separator: ".") }

    func error(_ key: String?, _ problem: String) -> SluiceError {
        let name = name(key)
        return SluiceError(.connector, "\(path): \(name.isEmpty ? "the connector" : name) \(problem)")
    }

    func text(_ key: String) throws(SluiceError) -> String? {
        KeyWitness.note(at, key, .text)
        guard let value = view[key] else { return nil }
        guard let text = value.string else { throw error(key, "must be a string") }
        return text
    }

    func requiredText(_ key: String) throws(SluiceError) -> String {
        guard let text = try text(key), !text.isEmpty else { throw error(key, "is missing; write \(key) = \"...\"") }
        return text
    }

    func flag(_ key: String) throws(SluiceError) -> Bool {
        KeyWitness.note(at, key, .flag)
        guard let value = view[key] else { return false }
        guard let flag = value.bool else { throw error(key, "must be true or false") }
        return flag
    }

    func whole(_ key: String) throws(SluiceError) -> Int64? {
        KeyWitness.note(at, key, .integer(0...Int64.max))
        guard let value = view[key] else { return nil }
        guard let number = value.int64, number >= 0 else { throw error(key, "must be a whole number, 0 or more") }
        return number
    }

    func seconds(_ key: String) throws(SluiceError) -> Span? {
        KeyWitness.note(at, key, .seconds)
        guard let value = view[key] else { return nil }
        guard let number = value.double, number >= 0, number < 1e10 else { throw error(key, "must be a number of seconds, 0 or more") }
        return Span(milliseconds: Int64((number * 1000).rounded()))
    }

    func function(_ key: String) throws(SluiceError) -> LuaFunction? {
        KeyWitness.note(at, key, .function)
        guard let value = view[key] else { return nil }
        guard let number = value["$function"]?.int64, let line = value["line"]?.int64 else { throw error(key, "must be a function") }
        return LuaFunction(number: Int32(number), line: Int(line), name: name(key))
    }

    func table(_ key: String, known: [String]) throws(SluiceError) -> LuaTable? {
        KeyWitness.note(at, key, .table)
        guard let value = view[key] else { return nil }
        return try LuaTable(value, path: path, at: name(key), known: known)
    }

    /// Any value without functions, as JSON.
    func data(_ key: String) throws(SluiceError) -> [UInt8]? {
        KeyWitness.note(at, key, .data)
        guard let value = view[key] else { return nil }
        guard !LuaTable.holdsFunction(value) else { throw error(key, "must be data; a function has no place in it") }
        return Array(value.bytes)
    }

    private static func holdsFunction(_ view: JSONView) -> Bool {
        if let members = view.members { return members.contains { $0.key == "$function" || holdsFunction($0.value) } }
        return view.elements?.contains(where: holdsFunction) ?? false
    }
}
