import SluiceConnectors
import SluiceCore
import SluiceLua
import Testing

@testable import SluicePolling

/// Of records that count once for ever each change comes again.
@Suite struct KeptLongerTests {
    @Test(arguments: [("created = \"made\"", Int64(365 * 86_400)), ("version = \"n\"", 0)])
    func P4_theKeysOfNewRecordsAreKeptForAYear(dedup: String, longer: Int64) throws {
        let source = """
            return { name = "feed", title = "Feed", version = "1",
            connection = { fields = { { name = "url" } } },
            triggers = { item = { incremental = { base_url = "{connection.url}", records = "items",
              cursor = { field = "n", parameter = "from", type = "unix_seconds" }, dedup = { id = "id", \(dedup) } } } } }
            """
        let connector = try LuaConnector.load(source: Array(source.utf8), name: "feed", path: "feed/connector.lua")
        let record = Record(bytes: Array("{\"id\":\"a\",\"n\":1700000000,\"made\":1699999999}".utf8)[...])
        for mark in [Int64(1_700_000_000), Int64.max] {
            let page = PollPage(records: [record], marks: [mark], more: false)
            let keyed = try PageKeys.keyed(page, triggerType: "item", connector).0
            #expect(keyed.map(\.mark) == [mark == .max ? .max : mark + longer])
        }
    }
}
