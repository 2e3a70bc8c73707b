import Foundation
import SluiceConnectors
import SluiceCore
import Testing

@testable import SluiceLua

/// What fuzzing begins with (Fuzzing/), and what it found.
@Suite struct FuzzSeedTests {
    private static func lines(_ name: String) throws -> [String] {
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        let text = try String(contentsOf: root.appending(path: "Fuzzing/\(name)"), encoding: .utf8)
        return text.split(separator: "\n").map(String.init)
    }

    private static var limits: LuaLimits {
        var limits = LuaLimits()
        (limits.pollInstructionsMax, limits.callInstructionsMax) = (100_000, 100_000)
        (limits.pollMillisecondsMax, limits.callMillisecondsMax) = (60_000, 60_000)
        limits.memoryBytesMax = 8 << 20
        return limits
    }

    private static let answer = #"{"items":[{"id":1,"n":18446744073709551616},{"id":"x"}],"n":7}"#

    /// Whatever the code does, a poll ends with a page or an error, and the next call finds the state as it was.
    @Test func P10_hostileCodeEndsAndLeavesTheStateSound() async throws {
        let snippets = try FuzzSeedTests.lines("snippets.txt")
        #expect(snippets.count > 30)
        for snippet in snippets {
            let lua = try connector(
                poll: "do \(snippet)\nend return { events = {} }",
                top: "local function keys(request) return { (('a,b'):gsub(',', '')) } end",
                limits: FuzzSeedTests.limits)
            for _ in 0..<2 {
                let failure = await message { _ = try await lua.poll(pollRequest(), http: FakeHTTP(json: FuzzSeedTests.answer)) }
                #expect(failure?.isEmpty != true, "\(snippet)")
            }
            #expect(try lua.webhookKeys(webhook()) == ["ab"], "\(snippet)")
        }
    }

    /// Any position may be asked for: beside the array is nil, as with Lua's own tables.
    @Test func positionsAtTheEdgesOfIntegersAreNil() async throws {
        let lua = try connector(
            poll: """
                local r = get("https://p.test/")
                local found = {}
                for _, list in ipairs({ r.json.items, r.headers }) do
                  for _, position in ipairs({ math.mininteger, math.maxinteger, -1, 0, 3, 1 << 32 }) do found[#found + 1] = list[position] end
                end
                return { events = { { found = #found, first = r.json.items[1].id } } }
                """)
        let page = try await lua.poll(pollRequest(), http: FakeHTTP(json: FuzzSeedTests.answer))
        #expect(page.records.map { text($0.bytes) } == [#"{"first":1,"found":0}"#])
    }

    /// Answers at the edges of JSON reach the job as they came.
    @Test func awkwardAnswersKeepTheirBytes() async throws {
        for answer in try FuzzSeedTests.lines("answers.txt") {
            let lua = try connector(
                poll: """
                    local json = get("https://p.test/").json
                    if type(json) ~= "userdata" or not tostring(json):find("^[%[{]") then return { events = {} } end
                    assert(tostring(json_decode(tostring(json))) == tostring(json))
                    return { events = { json } }
                    """)
            let page = try await lua.poll(pollRequest(), http: FakeHTTP(json: answer))
            let root = try JSONDocument(Array(answer.utf8)).root
            #expect(page.records.map { Array($0.bytes) } == (root.kind == .object || root.kind == .array ? [Array(root.bytes)] : []))
        }
    }
}
