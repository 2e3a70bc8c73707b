import Foundation
import SluiceConnectors
import SluiceCore
import SluiceLua
import SluiceServer
import Testing

/// `sluice connector check`: what is wrong, where, what it loses, and what mends it.
@Suite struct LintTests {
    private func line(of text: String, in file: String) throws -> Int {
        let lines = try String(contentsOfFile: file, encoding: .utf8).components(separatedBy: "\n")
        return try #require(lines.firstIndex { $0.contains(text) }) + 1
    }

    @Test func eachLintOfADescriptionNamesItsLine() async throws {
        let file = Repository.naive + "naive-incremental/connector.lua"
        let all = try await findings(file)
        for (lint, text) in [
            ("exclusive-without-overlap", "overlap = 0"), ("no-signature-check", "scheme = \"none\""),
            ("unordered-as-ordered", "order = \"asc\","), ("shifting-pages", "counts records"),
        ] {
            let finding = try #require(all.first { $0.lint == lint }, "\(lint): \(all.map(\.lint))")
            #expect(try finding.line == line(of: text, in: file), "\(lint)")
            #expect(finding.severity == .warning && !finding.loses.isEmpty && !finding.fix.isEmpty)
            #expect(finding.text.hasPrefix("\(finding.file):"))
        }
        let own = all.filter { $0.subject.hasPrefix("triggers.new_item") }.map(\.lint)
        #expect(Set(own).isSuperset(of: ["new-by-updated", "no-lookback"]), "\(own)")
    }

    /// A trigger whose poll is data, with other keys in its cursor and beside it.
    private func described(_ cursor: String, _ beside: String = "query = { sort = \"at\" }", trigger: String = "") -> String {
        """
        return { name = "test", title = "Test", version = "1", connection = { fields = {} },
          webhook = { scheme = "github" }, webhook_keys = function(request) return { "a" } end,
          triggers = { updated_item = { webhook_key = function(input) return "a" end, \(trigger)
            incremental = { base_url = "https://a.test", path = "/x", records = "list", dedup = { id = "id", version = "at" },
              default_since_seconds_ago = 3600,
              cursor = { field = "at", parameter = "since", type = "unix_seconds", \(cursor) },
              \(beside) } } } }
        """
    }

    private func lints(_ source: String) throws -> [String] {
        let directory = FileManager.default.temporaryDirectory.appendingPathComponent("sluice-lints-\(UUID().uuidString)/test")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory.deletingLastPathComponent()) }
        let file = directory.appendingPathComponent("connector.lua")
        try source.write(to: file, atomically: true, encoding: .utf8)
        return try ConnectorLints(file: file.path).findings.map { $0.severity == .error ? $0.text : $0.lint }
    }

    @Test(
        arguments: [
            ("lookback_seconds = 60, order = \"asc\", overlap = 5", ["lookback-overridden"]),
            ("exclusive = true, lookback_seconds = 60, order = \"asc\", overlap = 0", ["exclusive-without-overlap"]),
            ("order = \"asc\"", ["no-lookback"]), ("lookback_seconds = 60, order = \"asc\"", []),
            ("lookback_seconds = 60, order = \"asc\", visibility_lag_seconds = 0", ["webhook-covered-early"]),
        ]) func eachMistakeInACursorIsNamed(_ cursor: String, _ expected: [String]) throws
    {
        #expect(try lints(described(cursor)) == expected)
    }

    /// What allows nothing is said: a name that no lint has, and an allowance without a reason.
    @Test(arguments: [
        ("-- allow no-lookback: the source is prompt", [String]()), ("-- allow no-lookback", ["no-lookback", "allow-without-reason"]),
        ("-- allow no-lookback:", ["no-lookback", "allow-without-reason"]),
        ("-- allow no-lokback: prompt", ["no-lookback", "allow-unknown"]), ("-- allow lookbacks: none", ["no-lookback", "allow-unknown"]),
        ("-- allow the source some time", ["no-lookback"]),
    ]) func anAllowanceNamesALintAndAReason(_ comment: String, _ expected: [String]) throws {
        let source = described("order = \"asc\"").replacingOccurrences(of: "  cursor = {", with: "  \(comment)\n cursor = {")
        try #require(source.contains(comment))
        #expect(try lints(source) == expected)
    }

    /// Whatever a finding may be called can be allowed, and stands on the page.
    @Test func allNamesOfLintsAreKnown() throws {
        let page = try String(contentsOfFile: Repository.path("docs/CONNECTORS.md"), encoding: .utf8)
        var found: Set<String> = []
        for file in [
            "SluiceServer/Tools/ConnectorLints.swift", "SluiceServer/Tools/ConnectorLints+Window.swift",
            "SluiceServer/Tools/ConnectorLints+Allowances.swift", "SluiceServer/Tools/ConnectorLints+Parameters.swift",
            "SluiceSimulation/Connectors/BehaviouralLints.swift",
        ] {
            let source = try String(contentsOfFile: Repository.path("Sources/" + file), encoding: .utf8)
            for match in source.matches(of: #/(?:warn|note|Lint)\(\s*"([a-z-]+)"|\.warning, "([a-z-]+)"/#) {
                found.insert(String(match.1 ?? match.2 ?? ""))
            }
        }
        #expect(found == LintNames.all, "\(found.symmetricDifference(LintNames.all).sorted())")
        for name in LintNames.all { #expect(page.contains("`\(name)`"), "docs/CONNECTORS.md does not name \(name)") }
    }

    /// The trigger's name says that it is about changes, whatever its cursor is.
    @Test(arguments: [
        ("updated_item", "id = \"id\"", ["no-version"]), ("item", "id = \"id\"", []), ("changed_item", "id = \"at\"", []),
        ("updated_item", "id = \"id\", version = \"rev\"", []),
    ]) func aTriggerOnChangesNeedsAVersion(_ name: String, _ dedup: String, _ expected: [String]) throws {
        let source = described("lookback_seconds = 60, order = \"asc\"").replacingOccurrences(of: "updated_item", with: name)
            .replacingOccurrences(of: "id = \"id\", version = \"at\"", with: dedup)
        #expect(try lints(source) == expected)
    }

    @Test func aLagThatIsSaidBesideTheCursorCounts() throws {
        let cursor = "lookback_seconds = 60, order = \"asc\", visibility_lag_seconds = 0"
        #expect(try lints(described(cursor, trigger: "visibility_lag_seconds = 5,")).isEmpty)
        let lambda = """
            return { name = "test", webhook = { scheme = "github" }, webhook_keys = function(request) return { "a" } end,
              triggers = { new_item = { webhook_key = function(input) return "a" end, lookback = 60,
                poll = function(connection, input, closure) return { events = {}, can_poll_more = false } end,
                dedup = function(record) return record.id .. "@" .. record.at end } } }
            """
        #expect(try lints(lambda) == ["webhook-covered-early"])
        #expect(try lints(lambda.replacingOccurrences(of: "lookback = 60", with: "lookback = 60, visibility_lag_seconds = 5")).isEmpty)
    }

    /// A parameter's name or value, the path or the body may ask for the order.
    @Test(arguments: [
        "query = { q = 'project = 1 ORDER BY updated ASC' }", "query = { filter = '{{\"ordering\":[\"updated\"]}}' }",
        "query = { sort_by = \"at\" }",
        "method = \"POST\", body = { json = { sorts = { { direction = \"ASCENDING\" } } } }",
        "method = \"POST\", body = { form = { order_by = \"at\" } }",
    ]) func theOrderMayBeAskedForAnywhere(_ beside: String) throws {
        #expect(try lints(described("lookback_seconds = 60, order = \"asc\"", beside)).isEmpty)
    }

    @Test func aLintIsAllowedWhereItStands() throws {
        let plain = described("lookback_seconds = 60,\n order = \"asc\"", "query = { q = \"x\" }")
        #expect(try lints(plain) == ["unordered-as-ordered"])
        #expect(try lints(plain.replacingOccurrences(of: "\n order", with: "\n -- allow unordered-as-ordered: by itself\n order")).isEmpty)
        #expect(
            try lints(plain.replacingOccurrences(of: "\n order", with: "\n -- allow no-lookback: other\n order")) == [
                "unordered-as-ordered"
            ])
    }

    /// What comes with Sluice is clean, warnings included: whoever copies a connector copies no mistake.
    @Test func theCatalogueIsClean() async throws {
        let folder = Repository.path("connectors")
        let names = try FileManager.default.contentsOfDirectory(atPath: folder).filter {
            FileManager.default.fileExists(atPath: "\(folder)/\($0)/connector.lua")
        }
        #expect(names.count >= 18)
        for name in names.sorted() {
            let all = try await findings("\(folder)/\(name)", seeds: 1)
            #expect(all.isEmpty, "\(all.map(\.text).joined(separator: "\n"))")
        }
    }

    @Test(arguments: [
        ("incremental = {\n base_url = \"https://x.test\",\n dedup = { id = \"id\" },\n cursor = { field = \"t\" } }", "cursor", 6),
        ("incremental = {\n base_url = \"https://x.test\",\n dedup = { id = \"id\" },\n recrods = \"x\" }", "recrods", 6),
        ("poll = 1,\n dedup = function(r) return r.id end", "poll", 3),
    ]) func aFaultOfTheDefinitionNamesItsLine(_ trigger: String, _ word: String, _ line: Int) async throws {
        let all = try await findings(source: "return { name = \"test\",\n triggers = { a = {\n \(trigger) } } }")
        let finding = try #require(all.first)
        #expect(all.count == 1 && finding.severity == .error && finding.lint == "definition")
        #expect(finding.message.contains(word), "\(finding.message)")
        #expect(finding.line == line, "\(finding.text)")
    }

    /// A required key that is written otherwise is named as it stands there, and each place is said once.
    @Test(arguments: [
        (
            "dedup = { id = \"id\" }, records = \"list\", cursor = { feild = \"t\", type = \"integer\" }", "cursor.field",
            "`feild` stands there"
        ),
        (
            "dedup = { id = \"id\" }, records = \"list\", cursor = { field = \"t\", Type = \"integer\" }", "cursor.type",
            "`Type` stands there"
        ),
        ("dedup = { di = \"id\" }, records = \"list\"", "dedup.id", "`di` stands there"),
        ("dedup = { id = \"id\" }, records = \"list\", cursor = { field = \"t\", order = \"asc\" }", "cursor.type", "is missing: add it"),
    ]) func aMistypedKeyIsNamedAsItStands(_ keys: String, _ place: String, _ words: String) async throws {
        let source =
            "return { name = \"test\", triggers = { a = { incremental = { base_url = \"https://a.test\", path = \"/x\", \(keys) } } } }"
        let finding = try #require(try await findings(source: source).first)
        #expect(
            finding.message.hasPrefix("triggers.a.incremental.\(place) is missing") && finding.message.contains(words), "\(finding.text)")
    }

    /// A parameter that comes twice means what the source makes of it.
    @Test func aParameterIsSentOnce() throws {
        let fine = "lookback_seconds = 60, order = \"asc\""
        let sorted = "query = { sort = \"at\" }, "
        for (beside, name) in [
            ("pagination = { token = { from = \"next\", parameter = \"since\" } }", "since"),
            ("page_size = { parameter = \"sort\", value = 50 }", "sort"),
            ("pagination = { keyset = { from = \"id\", parameter = \"since\" } }", "since"),
        ] {
            let found = try lints(described(fine, sorted + beside))
            #expect(found.count == 1 && found[0].contains("error: the parameter \(name) is sent twice"), "\(found)")
        }
        #expect(try lints(described(fine, sorted + "pagination = { token = { from = \"next\", parameter = \"after\" } }")).isEmpty)
    }

    @Test func aSyntaxErrorNamesItsLine() async throws {
        let finding = try #require(try await findings(source: "return {\n name = \"test\",\n triggers = = }").first)
        #expect(finding.severity == .error && finding.line == 3, "\(finding.text)")
    }

    /// What a poll that is code says of times is tried.
    @Test(
        arguments: [
            ("", true, "no-cursor-at"), ("cursor_at = function(time) return { mark = time } end,", true, "no-record-time"),
            ("cursor_at = function(time) return { mark = time.seconds } end,", false, "cursor-at-fails"),
            ("cursor_at = function(time) return {} end,", false, "cursor-at-ignores-time"),
            (
                "cursor_at = function(time) return time end, record_time = function(record) return record.nothing end,", false,
                "record-time-unread"
            ),
            ("cursor_at = function(time) return time end, record_time = function(record) return record.at end,", true, nil),
            ("", false, nil),
        ] as [(String, Bool, String?)]) func aLambdaIsAskedForItsTimes(_ functions: String, _ isSimulated: Bool, _ lint: String?)
        async throws
    {
        let simulate =
            isSimulated
            ? """
            simulate = { records = "items", cursor = { field = "at", parameter = "since", type = "unix_seconds", lookback_seconds = 5 },
              dedup = { id = "id", version = "at" } },
            """ : ""
        let source = """
            return { name = "test", triggers = { updated_item = {
              sample_output = { id = "a", at = 1700000000 }, \(functions) \(simulate)
              poll = function(connection, input, closure) return { events = {} } end,
              dedup = function(record) return record.id .. "@" .. record.at end } } }
            """
        let lints: Set = ["no-cursor-at", "no-record-time", "cursor-at-fails", "cursor-at-ignores-time", "record-time-unread"]
        let found = try await findings(source: source).filter { lints.contains($0.lint) }
        if let lint {
            #expect(found.contains { $0.lint == lint && $0.line != nil && !$0.fix.isEmpty }, "\(found.map(\.text))")
        } else {
            #expect(found.isEmpty, "\(found.map(\.text))")
        }
    }

    @Test func theClockOfThisMachineIsNamed() async throws {
        let source = """
            return { name = "test", triggers = { updated_item = {
              poll = function(connection, input, closure)
                return { events = {}, can_poll_more = false, next_poll = os.time() }
              end,
              dedup = function(record) return record.id end } } }
            """
        let all = try await findings(source: source)
        #expect(all.first { $0.lint == "clock-as-cursor" }?.line == 3, "\(all.map(\.text))")
        #expect(all.contains { $0.lint == "no-version" && $0.message.contains("may") })
    }

    @Test func findingsAreThereForPrograms() async throws {
        let file = Repository.naive + "naive-incremental"
        let root = try JSONDocument(ConnectorFinding.json(try await findings(file), files: [file])).root
        let first = try #require(root["findings"]?.elements?.first)
        for key in ["severity", "lint", "file", "line", "message", "loses", "fix"] { #expect(first[key] != nil, "\(key)") }
    }

    @Test func keysAreFoundWhereTheyStand() {
        let source = """
            -- a comment { with = 1 }
            local feed = {
              records = "items", --[[ long
              comment ]]
              cursor = { field = [==[a]==] },
            }
            local function poll(a) if a then return { x = 1 } end for i = 1, 2 do f() end end
            return {
              name = "x",
              ["title"] = 'y\\'}',
              triggers = { one = { poll = poll, simulate = feed, dedup = function(r) while r do r = nil end return r end,
                two = f({ 1, 2 }, function() end),
                three = 3 } },
            }
            """
        let keys = LuaKeyLines(source: Array(source.utf8))
        #expect(keys.line("name") == 9 && keys.line("title") == 10)
        #expect(keys.line("triggers.one.poll") == 11 && keys.line("triggers.one.two") == 12 && keys.line("triggers.one.three") == 13)
        #expect(keys.line("triggers.one.simulate.cursor.field") == 5)
        #expect(keys.line("triggers.one.missing") == 11 && keys.line("nowhere") == nil)
        #expect(keys.function("triggers.one.poll")?.last?.text == "end" && keys.function("triggers.one.dedup") != nil)
    }

    /// The reader of source takes anything.
    @Test func sourceThatIsNoLuaHoldsNobodyUp() {
        for text in [
            "return {", "return { a = }", "return { [", "\"", "[[", "--[==[", "return { a = function( }", "return {{{{", "}}}", "\\",
        ] {
            _ = LuaKeyLines(source: Array(text.utf8))
        }
        var random = SystemRandomNumberGenerator()
        let pieces = [
            "return", "{", "}", "=", "a", "function", "end", "[", "]", "\"", "--", "[[", "]]", ",", "(", ")", "if", "\n", "local",
        ]
        for _ in 0..<2000 {
            let text = (0..<30).map { _ in pieces.randomElement(using: &random) ?? "" }.joined(separator: " ")
            _ = LuaKeyLines(source: Array(text.utf8))
        }
    }
}
