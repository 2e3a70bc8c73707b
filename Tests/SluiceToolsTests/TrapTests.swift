import Foundation
import SluiceConnectors
import SluiceLua
import SluiceServer
import SluiceSimulation
import Testing

/// `sluice connector simulate`: what is right passes every trap, and each mistake is named.
@Suite struct TrapTests {
    static func reports(_ path: String, seeds: UInt64 = 5) async throws -> [ConnectorSimulation.Report] {
        await ConnectorSimulation.run(try ConnectorFile.load(path), seeds: seeds)
    }

    static func failed(_ report: ConnectorSimulation.Report) -> Set<ConnectorTrap> {
        Set(report.rows.filter { $0.result.isFailure }.map(\.trap))
    }

    /// Show b: the whole catalogue passes every trap.
    @Test func b_everyConnectorOfTheCataloguePassesEveryTrap() async throws {
        let files = try ConnectorFile.all(in: [Repository.path("connectors")])
        let page = try String(contentsOfFile: Repository.path("docs/CATALOGUE.md"), encoding: .utf8)
        let named = page.split(separator: "\n").filter { $0.hasPrefix("| ") && !$0.hasPrefix("| connector ") }
            .compactMap { $0.dropFirst(2).split(separator: " ").first.map(String.init) }
        let found = files.compactMap { $0.split(separator: "/").dropLast().last.map(String.init) }
        #expect(found.sorted() == named.sorted(), "each connector of docs/CATALOGUE.md is run, and no other")
        for file in files {
            for report in try await TrapTests.reports(file) {
                if report.readsNoList { continue }
                if let reason = report.notSimulated {
                    // What no stand-in can be made of runs against the real program.
                    #expect(try TableTests.programs()[report.connector] != nil, "\(file), \(report.trigger): \(reason)")
                    continue
                }
                #expect(TrapTests.failed(report).isEmpty, "\(ConnectorSimulation.text([report], seeds: 5))")
                #expect(report.passed >= 3, "\(file), \(report.trigger)")
            }
        }
    }

    /// The page says of each trap how it shows at a provider.
    @Test func eachTrapIsShownAsItIsInTheWild() throws {
        let page = try String(contentsOfFile: Repository.path("docs/CONNECTORS.md"), encoding: .utf8)
        let section = try #require(page.split(separator: "\n## ").first { $0.hasPrefix("What each trap looks like in the wild") })
        for trap in ConnectorTrap.allCases { #expect(section.contains("`\(trap.rawValue)`"), "the page says nothing of \(trap.rawValue)") }
    }

    /// Show b: a description without its overlap loses records in each trap that the overlap is for.
    @Test func b_aNaiveDescriptionIsNamedTrapByTrap() async throws {
        let reports = try await TrapTests.reports(Repository.naive + "naive-incremental")
        let updated = try #require(reports.first { $0.trigger == "updated_item" })
        let failed = TrapTests.failed(updated)
        #expect(failed.isSuperset(of: [.equalTimestamps, .lateVisibility, .roundedPrecision, .shiftingPages]), "\(failed)")
        for row in updated.rows {
            guard case .failed(let seed, let lost, _, _) = row.result else { continue }
            #expect(seed >= 1 && !lost.isEmpty, "\(row)")
        }
        let text = ConnectorSimulation.text(reports, seeds: 5)
        #expect(text.contains("equal-timestamps") && text.contains("FAILED  seed 1") && text.contains("lost record"))
    }

    /// The same seed does the same.
    @Test func simulationsAreReproducible() async throws {
        let path = Repository.naive + "naive-incremental"
        let (first, second) = (try await TrapTests.reports(path), try await TrapTests.reports(path))
        #expect(ConnectorSimulation.json(first, seeds: 5) == ConnectorSimulation.json(second, seeds: 5))
    }

    @Test func theHandWrittenPollWithoutMistakePasses() async throws {
        let reports = try await TrapTests.reports(Repository.naive + "naive-lambdas", seeds: 10)
        let good = try #require(reports.first { $0.trigger == "updated_without_mistake" })
        #expect(TrapTests.failed(good).isEmpty, "\(ConnectorSimulation.text([good], seeds: 10))")
        #expect(good.observations.isEmpty)
    }

    /// Issue 3, point 2: each of the nine mistakes of hand-written polls is named.
    @Test(arguments: [
        ("updated_start_not_stored", "since-not-stored"), ("updated_token_kept", "page-token-kept"),
        ("updated_by_clock", "clock-as-cursor"), ("updated_by_last_record", "last-record-cursor"), ("new_item", "new-by-updated"),
        ("updated_without_version", "no-version"), ("updated_by_second", "version-too-coarse"),
        ("updated_stops_early", "paging-stops-early"),
        ("updated_never_ends", "paging-never-ends"), ("updated_strictly_after", "strict-after-page-end"),
        ("updated_undeclared", "not-simulated"),
    ]) func b_eachMistakeOfALambdaIsNamed(_ trigger: String, _ lint: String) async throws {
        let all = try await findings(Repository.naive + "naive-lambdas")
        let own = all.filter { $0.subject.hasPrefix("triggers.\(trigger).") }
        let finding = try #require(own.first { $0.lint == lint }, "\(trigger): \(own.map(\.lint))")
        #expect(finding.file.hasSuffix("naive-lambdas/connector.lua") && !finding.loses.isEmpty && !finding.fix.isEmpty)
    }

    private static func byHand(_ trigger: String) -> String {
        """
        return { name = "test", title = "Test", version = "1",
          connection = { fields = { { name = "site_url", hint = "https://api.example.com" } } },
          triggers = { updated_item = {
            poll = function(connection, input, closure)
              closure = closure or {}
              local response = get(connection.site_url .. "/items", { params = { since = closure.since and closure.since - 60 or 0 } })
              local highest = closure.since or 0
              for _, item in ipairs(response.json.items) do
                if math.type(item.updated) == "integer" then
                  highest = math.max(highest, math.min(item.updated, parse_http_date(response.headers.date)))
                end
              end
              return { events = response.json.items, can_poll_more = false, next_poll = { since = highest } }
            end,
            lookback = 60,
            cursor_at = function(time) return { since = time } end,
            \(trigger)
            simulate = { records = "items", default_since_seconds_ago = 3600,
              cursor = { field = "updated", parameter = "since", type = "unix_seconds", order = "asc", lookback_seconds = 60 },
              dedup = { id = "id", version = "updated" } } } } }
        """
    }

    private static let coarse = "record_time = function(record) return record.updated end, version_seconds = 1,"

    /// States that are told apart by their bytes for a minute are no version.
    @Test func b_versionSecondsStandForNoVersion() async throws {
        let idAlone = try await findings(source: Self.byHand("dedup = function(r) return r.id end, " + Self.coarse))
        #expect(idAlone.contains { $0.lint == "no-version" }, "\(idAlone.map(\.text))")
        let whole = try await findings(source: Self.byHand("dedup = function(r) return r.id .. '@' .. r.updated end, " + Self.coarse))
        #expect(whole.isEmpty, "\(whole.map(\.text))")
        let undeclared = try await findings(
            source: Self.byHand("dedup = function(r) return r.id .. '@' .. r.updated end, record_time = function(r) return r.updated end,"))
        #expect(undeclared.map(\.lint) == ["version-too-coarse"] && undeclared[0].fix.hasPrefix("declare version_seconds"))
    }

    /// What is declared is not recommended; a record_time that says nothing is the cause, and is named.
    @Test func b_aRecordTimeThatFailsIsNamedInsteadOfWhatComesOfIt() async throws {
        let all = try await findings(
            source: Self.byHand(
                "dedup = function(r) return r.id .. '@' .. r.updated end, record_time = function(r) return r.at.seconds end, version_seconds = 1,"
            ))
        #expect(all.map(\.lint) == ["record-time-unread"], "\(all.map(\.text))")
        #expect(all.first?.subject == "triggers.updated_item.record_time")
    }

    /// Where nothing gets a key, that is all that is said, with the line at which it failed; and it is an error.
    @Test func b_aDedupThatAlwaysFailsIsTheOnlyFinding() async throws {
        let source = Self.byHand("dedup = function(r)\n return r.missing.id end,\n record_time = function(r) return r.updated end,")
        let all = try await findings(source: source)
        let finding = try #require(all.first)
        #expect(all.count == 1 && finding.lint == "dedup-fails" && finding.severity == .error, "\(all.map(\.text))")
        let line = try #require(source.components(separatedBy: "\n").firstIndex { $0.contains("r.missing.id") }) + 1
        #expect(finding.message.contains("connector.lua:\(line):"), "\(finding.text)")
    }

    /// What can never succeed is an error: exit code 1.
    @Test func b_aPollThatAlwaysFailsIsAnError() async throws {
        let source = Self.byHand("dedup = function(r) return r.id .. '@' .. r.updated end,")
            .replacingOccurrences(of: "response.json.items) do", with: "response.json.nothing) do")
        let all = try await findings(source: source)
        #expect(all.contains { $0.lint == "poll-fails" && $0.severity == .error }, "\(all.map(\.text))")
    }

    /// Show b: for each trap a deliberately naive trigger that it catches.
    static let caught: [ConnectorTrap: String] = [
        .equalTimestamps: "updated_item", .pageEdgeTie: "updated_strictly_after", .pageWideTie: "updated_strictly_after",
        .lateVisibility: "updated_item", .roundedPrecision: "updated_item", .clockSkew: "updated_by_own_clock",
        .futureDated: "updated_future_believed", .noZone: "updated_by_wall_clock", .zoneChange: "updated_by_wall_clock",
        .unordered: "updated_by_last_record", .changedAgain: "updated_without_version", .changedAtOnce: "updated_by_second",
        .shiftingPages: "updated_item",
        .crash: "updated_cursor_moves_early", .expiringToken: "updated_token_refused", .deletedAnchor: "created_after_anchor",
        .retentionGap: "updated_without_gap_alarm", .poisonRecord: "updated_without_nil", .keptStart: "updated_start_not_stored",
        .idleFeed: "updated_by_clock", .laterPartition: "listed_once", .lyingValidator: "believes_304", .idReset: "ids_for_ever",
    ]

    @Test func b_everyTrapCatchesItsNaiveConnector() async throws {
        #expect(Set(TrapTests.caught.keys) == Set(ConnectorTrap.allCases), "each trap has one")
        var reports = try await TrapTests.reports(Repository.naive + "naive-incremental")
        reports += try await TrapTests.reports(Repository.naive + "naive-lambdas")
        reports += await ConnectorSimulation.run(NaiveSwiftConnector())
        for (trap, name) in TrapTests.caught.sorted(by: { $0.key.rawValue < $1.key.rawValue }) {
            let report = try #require(reports.first { $0.trigger == name }, "\(name)")
            let text = ConnectorSimulation.text([report], seeds: 5)
            #expect(TrapTests.failed(report).contains(trap), "\(trap.rawValue) must catch \(name):\n\(text)")
            #expect(text.contains("\(trap.rawValue)") && text.contains(trap.explanation), "it is named")
        }
    }

    /// What is right passes them, where nothing of the catalogue comes across them.
    @Test func b_whatIsDescribedPassesLaterPartitionsAndLyingValidators() async throws {
        let source = """
            return { name = "test", title = "Test", version = "1",
            connection = { fields = { { name = "site_url", hint = "https://api.example.com" } } },
            triggers = {
              parted = { incremental = {
                base_url = "{connection.site_url}", path = "/lists/{partition}/items", records = "items",
                partitions = { list = { path = "/lists", records = "lists" }, id = "name" },
                cursor = { field = "updated_at", parameter = "since", type = "rfc3339", order = "asc", lookback_seconds = 30 },
                default_since_seconds_ago = 3600, pagination = { link = true },
                page_size = { parameter = "limit", value = 100 }, dedup = { id = "id", version = "updated_at" } } },
              asked_first = { incremental = {
                base_url = "{connection.site_url}", path = "/items", records = "items", conditional = true,
                cursor = { field = "updated_at", parameter = "since", type = "rfc3339", order = "asc", lookback_seconds = 30 },
                default_since_seconds_ago = 3600, pagination = { link = true },
                page_size = { parameter = "limit", value = 100 }, dedup = { id = "id", version = "updated_at" } } },
              whole = { incremental = {
                base_url = "{connection.site_url}", path = "/items", records = "items", conditional = true,
                pagination = { token = { from = "next", parameter = "after" } },
                page_size = { parameter = "limit", value = 100 }, dedup = { id = "id", version = "rev" } } } } }
            """
        let connector = try LuaConnector.load(source: Array(source.utf8), name: "test", path: "test")
        let reports = await ConnectorSimulation.run(connector, seeds: 20)
        for report in reports {
            #expect(report.notSimulated == nil && TrapTests.failed(report).isEmpty, "\(ConnectorSimulation.text([report], seeds: 20))")
        }
        func result(_ trigger: String, _ trap: ConnectorTrap) -> ConnectorSimulation.Result? {
            reports.first { $0.trigger == trigger }?.rows.first { $0.trap == trap }?.result
        }
        #expect(result("parted", .laterPartition) == .passed && result("parted", .zoneChange) == .passed)
        #expect(result("asked_first", .lyingValidator) == .passed && result("whole", .lyingValidator) == .passed)
    }
}
