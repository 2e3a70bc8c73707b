import SluiceConnectors
import SluiceCore

extension LuaDefinition {
    /// `simulate`: the keys of `incremental`, and values for fields.
    static func simulation(_ table: LuaTable) throws(SluiceError) -> SimulatedFeed? {
        guard let data = try table.data("simulate") else { return nil }
        let root: JSONView
        do throws(JSONError) {
            root = try JSONDocument(data, depthMax: 80).root
        } catch {
            throw table.error("simulate", "cannot be read: it \(error)")
        }
        var feed = SimulatedFeed(connection: root["connection"], input: root["input"])
        if let word = root["dialect"] {
            guard let dialect = word.string.flatMap(SimulatedFeed.Dialect.init) else {
                let known = SimulatedFeed.Dialect.allCases.map { "\"\($0.rawValue)\"" }.joined(separator: ", ")
                throw table.error("simulate", "knows the dialects \(known) only")
            }
            feed.dialect = dialect
        }
        guard root.members?.contains(where: { $0.key != "connection" && $0.key != "input" }) != false else { return feed }
        if table["incremental"] != nil {
            throw table.error("simulate", "takes connection and input only: the list is described by incremental already")
        }
        do throws(SluiceError) {
            feed.rules = try Incremental.standIn(json: root)
        } catch {
            throw table.error("simulate", error.message)
        }
        return feed
    }
}
