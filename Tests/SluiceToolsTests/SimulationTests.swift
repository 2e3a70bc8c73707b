import Foundation
import SluiceConnectors
import SluiceLua
import SluiceSimulation
import Testing

/// What `check` and `simulate` say is so: a poll that fails is not blamed for mistakes, and what is right is not said to be wrong.
@Suite struct SimulationTests {
    /// A trigger whose poll is a lambda over a list of orders.
    private static func lambda(
        _ poll: String, name: String = "updated_order", dedup: String = "record.id .. \"@\" .. record.updated_at",
        simulate: String = "dedup = { id = \"id\", version = \"updated_at\" }", cursor: String = "exclusive = true"
    ) -> String {
        """
        return { name = "test", title = "Test", version = "1",
          connection = { fields = { { name = "site_url", hint = "https://a.test" } } },
          webhook = { scheme = "standard-webhooks" }, webhook_keys = function(request) return { "a" } end,
          triggers = { \(name) = {
            webhook_key = function(input) return "a" end, visibility_lag_seconds = 1,
            poll = function(connection, input, closure) \(poll) end,
            dedup = function(record) return \(dedup) end,
            cursor_at = function(time) return { mark = time } end,
            record_time = function(record) return record.updated_at end, version_seconds = 1,
            simulate = { path = "/orders", records = "orders", default_since_seconds_ago = 3600,
              cursor = { field = "updated_at", parameter = "after", type = "unix_seconds", order = "asc", \(cursor) },
              pagination = { token = { from = "next", parameter = "place" } },
              page_size = { parameter = "per_page", value = 100 }, \(simulate) } } } }
        """
    }

    /// A poll without mistakes; `rest` says how it goes on after a page.
    private static func reading(perPage: Int = 100, rest: String) -> String {
        """
        local function ask(after, page)
          local response = get(connection.site_url .. "/orders", { params = { after = after, per_page = \(perPage), place = page } })
          if response.status ~= 200 then poll_failure(page and "page_state_expired" or "permanent", "status " .. response.status) end
          return response.json, parse_http_date(response.headers.date)
        end
        if not closure then
          local _, now = ask(4102444800)
          closure = { mark = now - 3600 }
        end
        local body, now = ask(closure.mark - 1, closure.page)
        local highest = closure.highest or closure.mark
        for _, order in ipairs(body.orders) do
          if type(order.updated_at) == "number" then highest = math.max(highest, math.min(order.updated_at, now)) end
        end
        \(rest)
        """
    }

    private static let right = """
        if body.next then
          return { events = body.orders, can_poll_more = true,
            next_poll = { mark = closure.mark, highest = highest, page = body.next } }
        end
        return { events = body.orders, can_poll_more = false, next_poll = { mark = highest } }
        """

    private func reports(_ source: String, seeds: UInt64 = 5) async throws -> [ConnectorSimulation.Report] {
        await ConnectorSimulation.run(try LuaConnector.load(source: Array(source.utf8), name: "test", path: "test"), seeds: seeds)
    }

    @Test func aPollThatFailsIsBlamedForThatAlone() async throws {
        let found = try await findings(source: Self.lambda("error('no such helper')")).filter { $0.lint != "definition" }
        #expect(found.map(\.lint) == ["poll-fails"], "\(found.map(\.text))")
        #expect(found.first?.message.contains("no such helper") == true)
    }

    /// A token that is refused makes a poll fail that is right otherwise: that has a name of its own.
    @Test func whatATrapBreaksKeepsItsName() async throws {
        let poll = Self.reading(rest: Self.right).replacingOccurrences(
            of: "page and \"page_state_expired\" or \"permanent\"", with: "\"permanent\"")
        let names = try await findings(source: Self.lambda(poll)).map(\.lint)
        #expect(names.contains("token-expiry-unhandled") && !names.contains("poll-fails"), "\(names)")
    }

    /// The list of partitions may have parameters of any name.
    @Test(arguments: ["per_page = 100", "page_limit = 5, offset_mode = 3", "cursor_kind = 7"])
    func parametersOfTheListThatAreNoPagesArePassedOver(_ query: String) async throws {
        let source = """
            return { name = "test", title = "Test", version = "1",
            connection = { fields = { { name = "site_url", hint = "https://api.example.com" } } },
            triggers = { updated_item = { incremental = {
                base_url = "{connection.site_url}", path = "/lists/{partition}/items", records = "items",
                partitions = { list = { path = "/lists", records = "lists", query = { \(query) },
                  pagination = { page = { parameter = "number", ends_with = "empty_page" } } }, id = "name" },
                cursor = { field = "updated_at", parameter = "since", type = "rfc3339", order = "asc", lookback_seconds = 30 },
                default_since_seconds_ago = 3600, pagination = { link = true },
                page_size = { parameter = "limit", value = 100 }, dedup = { id = "id", version = "updated_at" } } } } }
            """
        let reports = try await reports(source)
        for report in reports { #expect(report.failed == 0 && report.passed > 5, "\(ConnectorSimulation.text([report], seeds: 5))") }
    }

    /// Positions that are URLs, and requests that are XML: every trap that applies is sprung, and nothing is missed.
    @Test(arguments: [
        """
        base_url = "https://a.test", path = "/delta", records = "value", cursor = { type = "opaque", from = "deltaLink", url = true },
        pagination = { next_url = { from = "nextLink" } }, dedup = { id = "id", version = "changed" }
        """,
        """
        base_url = "https://a.test", path = "/soap", format = "xml", records = "orders.order",
        body = { xml = "<get><since>{cursor}</since></get>" }, headers = { SOAPAction = "get" }, default_since_seconds_ago = 3600,
        cursor = { field = "updated_at", type = "rfc3339" }, dedup = { id = "id", version = "updated_at" }
        """,
    ])
    func whatIsAskedForByURLOrInXMLIsSimulated(_ rules: String) async throws {
        let source = """
            return { name = "test", title = "Test", version = "1", connection = { fields = { { name = "key", secret = true } } },
            triggers = { updated_item = { incremental = { \(rules) } } } }
            """
        let report = try #require(try await reports(source, seeds: 10).first)
        #expect(report.notSimulated == nil && report.failed == 0 && report.passed > 5, "\(ConnectorSimulation.text([report], seeds: 10))")
    }

    /// Ids that begin anew count within their epoch, as they do when they are committed.
    @Test func idsThatBeginAnewCountWithinTheirEpoch() async throws {
        let source = """
            return { name = "test", title = "Test", version = "1",
            connection = { fields = { { name = "site_url", hint = "https://a.test" } } },
            triggers = { ring = {
              incremental = { base_url = "{connection.site_url}", path = "/events", query = { timeout = 0 },
                cursor = { field = "id", parameter = "since", type = "integer", exclusive = true, order = "asc" },
                dedup = { id = "id" } },
              long_poll = { parameter = "timeout", seconds = 60, consecutive = true,
                epoch = { path = "/status", token = "started_at" } } } } }
            """
        let report = try #require(try await reports(source, seeds: 20).first)
        let text = ConnectorSimulation.text([report], seeds: 20)
        #expect(report.rows.first { $0.trap == .idReset }?.result == .passed, "\(text)")
        #expect(report.failed == 0, "\(text)")
    }

    @Test func aDedupKeyIsShownAsItIsKept() {
        var page = PollPage(records: [], more: false)
        #expect(page.wholeKey(Array("17".utf8)) == Array("17".utf8))
        page.epoch = "life-2"
        #expect(page.wholeKey(Array("17".utf8)) == Array("life-2/17".utf8))
    }

    /// One record a page is slow, and not endless.
    @Test(arguments: [1, 2]) func smallPagesAreNotEndless(_ size: Int) async throws {
        let source = Self.lambda(Self.reading(perPage: size, rest: Self.right))
        let report = try #require(try await reports(source, seeds: 3).first)
        #expect(!report.observations.contains("paging-never-ends"))
        #expect(report.failed == 0, "\(ConnectorSimulation.text([report], seeds: 3))")
    }

    /// In the form of docs/WORKATO.md: there is more while a page has records, and the last ones come again and again.
    @Test func pagingThatNeverEndsIsNamed() async throws {
        let poll = Self.reading(
            rest: """
                return { events = body.orders, can_poll_more = #body.orders > 0, next_poll = { mark = highest } }
                """)
        let names = try await findings(source: Self.lambda(poll)).map(\.lint)
        #expect(names.contains("paging-never-ends") && !names.contains("poll-fails"), "\(names)")
    }

    /// In the form of docs/WORKATO.md: new orders, filtered by when they changed, known by their ids.
    @Test func newByUpdatedIsNamedWhereTheIDIsTheKey() async throws {
        let source = Self.lambda(
            Self.reading(rest: Self.right), name: "new_order", dedup: "record.id",
            simulate: "dedup = { id = \"id\", created = \"created_at\" }")
        let names = try await findings(source: source).map(\.lint)
        #expect(names.contains("new-by-updated"), "\(names)")
        // The mend of the page: what is older than the trigger is left out.
        let described = """
            return { name = "test", title = "Test", version = "1",
            connection = { fields = { { name = "site_url", hint = "https://a.test" } } },
            triggers = { new_order = { incremental = {
              base_url = "{connection.site_url}", path = "/orders", records = "orders", query = { sort = "updated_at" },
              cursor = { field = "updated_at", parameter = "since", type = "rfc3339", order = "asc", lookback_seconds = 30 },
              default_since_seconds_ago = 3600, pagination = { link = true }, page_size = { parameter = "limit", value = 100 },
              dedup = { id = "id", created = "created_at" } } } } }
            """
        let report = try #require(try await reports(described).first)
        #expect(report.failed == 0 && report.observations.isEmpty, "\(ConnectorSimulation.text([report], seeds: 5))")
        #expect(report.rows.first { $0.trap == .changedAgain }?.result == .passed)
    }
}
