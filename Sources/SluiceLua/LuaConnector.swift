import Crypto
import SluiceConnectors
import SluiceCore

/// A connector written in Lua 5.4: one file that returns a table of data and functions.
///
/// Its functions run in sandboxed states (`LuaState`), each within the limits of `LuaLimits`. Errors are `SluiceError`s
/// of code `connector` whose message begins with file and line.
public final class LuaConnector: Connector {
    public let definition: ConnectorDefinition
    /// Where it was loaded from, for messages.
    public let path: String
    let lua: LuaDefinition
    let limits: LuaLimits
    let pool: LuaStatePool
    let slots: LuaPollSlots
    let heldSlots: LuaPollSlots

    /// A larger file is refused.
    public static let sourceBytesMax = 1024 * 1024

    init(definition: ConnectorDefinition, path: String, lua: LuaDefinition, limits: LuaLimits, pool: LuaStatePool) {
        self.definition = definition
        self.path = path
        self.lua = lua
        self.limits = limits
        self.pool = pool
        slots = LuaPollSlots(count: limits.concurrentPollsMax)
        heldSlots = LuaPollSlots(count: limits.concurrentLongPollsMax)
    }

    /// Reads a connector. Throws `SluiceError` that says what is wrong with the file, where, and what mends it.
    ///
    /// `name` is the name expected (that of its folder), or empty; `path` is where the file lies.
    public static func load(source: [UInt8], name: String, path: String, limits: LuaLimits = LuaLimits()) throws -> LuaConnector {
        guard source.count <= sourceBytesMax else {
            throw SluiceError(.connector, "\(path): the file is larger than \(sourceBytesMax >> 20) MB")
        }
        let state: LuaState
        do {
            state = try LuaState(source: source, limits: limits)
        } catch {
            let located = error.message.hasPrefix(LuaState.chunkName + ":")
            throw SluiceError(error.code, located ? error.message : "\(path): \(error.message)").with("file", path)
        }
        let lua = try LuaDefinition(json: state.definition, path: path)
        guard name.isEmpty || lua.name == name else {
            throw SluiceError(.connector, "\(path): its name is '\(lua.name)', but its folder is named '\(name)'; make them the same")
        }
        let definition = ConnectorDefinition(
            name: lua.name, title: lua.title, version: lua.version, hash: LuaText.hex(SHA256.hash(data: source)), language: "lua",
            connectionFields: lua.connectionFields, webhook: lua.webhook, triggers: lua.triggers.map(\.type),
            isExperimental: lua.isExperimental, access: lua.access, callbacks: lua.callbacks.map(\.type), source: source)
        let pool = LuaStatePool(source: source, limits: limits, first: state)
        return LuaConnector(definition: definition, path: path, lua: lua, limits: limits, pool: pool)
    }

    public func webhookKeys(_ request: WebhookRequest) throws -> [String] {
        guard let function = lua.webhookKeys else { return [] }
        return try named { try pool.with { try $0.strings(function, request, limits) } }
    }

    public func webhookKey(triggerType: String, input: JSONDocument) throws -> String? {
        guard let function = try trigger(triggerType).webhookKey else { return nil }
        return try named { try pool.with { try $0.optionalText(function, input, limits) } }
    }

    public func webhookNotification(
        _ request: WebhookRequest, triggerType: String, input: JSONDocument, output: JSONDocument?
    ) throws -> [Record] {
        guard let function = try trigger(triggerType).notification else { return [request.bodyRecord] }
        return try named { try pool.with { try $0.records(function, request, input, output, limits) } }
    }

    public func help(webhookBaseURL: String) -> String {
        guard let function = lua.help else { return "The connector \(lua.title) does not say how its webhooks are set up." }
        do {
            return try named { try pool.with { try $0.text(function, webhookBaseURL, limits) } }
        } catch {
            return "The connector's help failed: \((error as? SluiceError)?.message ?? String(describing: error))"
        }
    }

    public func incremental(triggerType: String) -> Incremental? { lua.triggers.first { $0.type.name == triggerType }?.incremental }

    public func simulation(triggerType: String) -> SimulatedFeed? {
        guard let trigger = lua.triggers.first(where: { $0.type.name == triggerType }) else { return nil }
        guard case .rule(let rule) = trigger.longPoll else { return trigger.simulation }
        var feed = trigger.simulation ?? SimulatedFeed()
        feed.longPoll = rule
        return feed
    }

    func trigger(_ name: String) throws -> LuaDefinition.Kept<LuaDefinition.Trigger> {
        if let trigger = lua.triggers.first(where: { $0.type.name == name }) { return trigger }
        let known = lua.triggers.map(\.type.name).joined(separator: ", ")
        throw SluiceError(.notFound, "The connector \(lua.name) has no trigger type '\(name)'; it has \(known).")
    }

    /// Adds the connector's name to its errors.
    func named<Result>(_ body: () throws -> Result) throws -> Result {
        do {
            return try body()
        } catch let error as SluiceError {
            throw error.with("connector", lua.name)
        }
    }
}
