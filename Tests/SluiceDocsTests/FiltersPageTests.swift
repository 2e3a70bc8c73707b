import Foundation
import SluiceCore
import SluiceLua
import Testing

/// What docs/FILTERS.md says of its example is what happens.
@Suite struct FiltersPageTests {
    private static func page() throws -> String {
        try String(contentsOf: DocsTests.root.appending(path: "docs/FILTERS.md"), encoding: .utf8)
    }

    /// The blocks of a language, in their order.
    private static func blocks(_ language: String) throws -> [String] {
        try page().matches(of: try Regex("```\(language)\n(.*?)\n```").dotMatchesNewlines()).map { String($0.output[1].substring ?? "") }
    }

    @Test func theTableOfFiltersIsTrue() throws {
        let record = try #require(try FiltersPageTests.blocks("json").first)
        let rows = try FiltersPageTests.page().matches(of: #/(?m)^\| `(.+)` \| (pass|skip|error) \|$/#).map {
            (filter: String($0.1), result: String($0.2))
        }
        #expect(rows.count >= 10 && Set(rows.map(\.result)).count == 3)
        let job = FilteredJob(
            id: { "job_u_x" }, trigger: "invoices", position: 1, cause: "webhook", createdAt: Timestamp(seconds: 1), isDerived: false,
            isDeletion: false)
        for row in rows {
            let filter = try LuaFilter(row.filter)
            let result: String
            do {
                result = try filter.passes(Array(record.utf8), job) ? "pass" : "skip"
            } catch {
                result = "error"
            }
            #expect(result == row.result, "\(row.filter)")
        }
    }

    @Test func theProjectionGivesWhatIsShown() throws {
        let blocks = try FiltersPageTests.blocks("json")
        let (record, wanted) = (try #require(blocks.first), try #require(blocks.last))
        let list = try #require(try FiltersPageTests.page().firstMatch(of: #/For the record above, `fields: \[(.+)\]` gives/#)).1
        let paths = try list.split(separator: ", ").map { try #require(JSONPath(text: String($0))) }
        let projected = try JSONProjection(paths).project(Array(record.utf8)[...])
        #expect(projected.map { String(decoding: $0, as: UTF8.self) } == wanted)
    }

    /// Every limit on the page is the one that holds.
    @Test func theLimitsAreTrue() throws {
        let page = try FiltersPageTests.page()
        #expect(LuaFilter.sourceBytesMax == 8 << 10 && page.contains("| a filter's text | 8 KiB |"))
        #expect(LuaFilter.limits.callInstructionsMax == 200_000 && LuaFilter.limits.memoryBytesMax == 32 << 20)
        #expect(LuaFilter.limits.callMillisecondsMax == 1000 && page.contains("200,000 instructions, 32 MB, 1 s by the clock"))
        #expect(JSONProjection.pathsMax == 200 && JSONProjection.depthMax == 16 && JSONProjection.keyBytesMax == 256)
        #expect(page.contains("| 200; 16; 256 bytes |"))
    }
}
