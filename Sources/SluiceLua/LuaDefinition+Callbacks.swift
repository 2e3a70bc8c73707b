import SluiceConnectors
import SluiceCore

extension LuaDefinition {
    struct Callback: Sendable {
        var type: CallbackTypeDefinition
        var status: LuaFunction?
        var rules: CallbackRules?
    }

    private static let callbackKeys = ["title", "input_fields", "status", "pauses"]

    /// `callbacks = { payment = { … } }`.
    static func callbacks(_ table: LuaTable, _ connectionFields: [Field]) throws(SluiceError) -> [Callback] {
        guard let view = table["callbacks"] else { return [] }
        guard let members = view.members, !members.isEmpty else {
            throw table.error("callbacks", "must name what is waited for, as in callbacks = { payment = { status = ... } }")
        }
        var result: [Callback] = []
        for (name, view) in members {
            let table = try LuaTable(view, path: table.path, at: "callbacks.\(name)", known: callbackKeys)
            guard isSnakeCase(name) else { throw table.error(nil, "must be named in snake_case, for example payment") }
            result.append(try callback(name, table, connectionFields))
        }
        return result
    }

    private static func callback(
        _ name: String, _ table: LuaTable, _ connectionFields: [Field]
    ) throws(SluiceError) -> Callback {
        let inputFields = try fields(table, "input_fields")
        let isFunction = table["status"].map { $0["$function"] != nil } ?? true
        let function = isFunction ? try table.function("status") : nil
        var rules: CallbackRules?
        if !isFunction, let data = try table.data("status") {
            do {
                rules = try placed(PlaceWitness.Declared(connection: connectionFields, input: inputFields)) {
                    try CallbackRules(json: try JSONDocument(data, depthMax: 80))
                }
            } catch let error as SluiceError {
                throw table.error(nil, error.message)
            } catch {
                throw table.error("status", "\(error)")
            }
        }
        let type = CallbackTypeDefinition(
            name: name, title: try table.text("title"), inputFields: inputFields,
            asks: function != nil || rules != nil, pauses: try pauses(table) ?? CallbackPolicy.pausesStandard)
        return Callback(type: type, status: function, rules: rules)
    }

    private static func pauses(_ table: LuaTable) throws(SluiceError) -> [Span]? {
        guard let view = table["pauses"] else { return nil }
        let seconds = (view.elements ?? []).map(\.double)
        let isFit = seconds.allSatisfy { $0.map { $0 >= 1 && $0 <= 86_400 } ?? false }
        guard !seconds.isEmpty, seconds.count <= CallbackPolicy.pausesMax, isFit else {
            throw table.error("pauses", "must be a list of 1 to \(CallbackPolicy.pausesMax) numbers of seconds, each from 1 to 86400")
        }
        return seconds.compactMap { $0.map { Span(milliseconds: Int64($0 * 1000)) } }
    }
}
