import Crypto
import SluiceConnectors
import SluiceCore
import Synchronization
import Testing

@testable import SluiceLua

/// `sign(request, connection)`: requests of described polls, signed by the connector's own code.
@Suite struct SignTests {
    private func load(_ sign: String, incremental: String = "lookup = { as = 'a', path = '/me', at = 'id' }") throws -> LuaConnector {
        let source = """
            local function sign(request, connection) \(sign) end
            return { name = "s", sign = sign, connection = { fields = { { name = "secret", secret = true } } },
            triggers = { t = { incremental = {
              base_url = "https://api.test", path = "/x", method = "POST", records = "items", query = { b = "x y" },
              body = { json = { n = 1 } }, dedup = { id = "id" }, \(incremental) } } } }
            """
        // Where the count of instructions ends it, the time must not come first.
        var limits = LuaLimits()
        limits.callMillisecondsMax = 600_000
        limits.pollMillisecondsMax = 600_000
        return try LuaConnector.load(source: Array(source.utf8), name: "s", path: "s/connector.lua", limits: limits)
    }

    private func poll(_ connector: LuaConnector) async throws -> [HTTPRequestPlan] {
        let sent = Mutex<[HTTPRequestPlan]>([])
        let http = FakeHTTP { plan in
            sent.withLock { $0.append(plan) }
            return reply(plan.url.hasSuffix("/me") ? #"{"id":7}"# : #"{"items":[]}"#)
        }
        _ = try await connector.poll(pollRequest(connection: #"{"secret":"s3cret-one"}"#, type: "t"), http: http)
        return sent.withLock { $0 }
    }

    @Test func everyRequestIsSigned() async throws {
        let connector = try load(
            """
            local text = request.timestamp .. request.method .. request.host .. request.path .. "?" .. request.query .. request.body
            return { ["x-sign"] = hmac_sha256_hex(connection.secret, text), ["X-Time"] = request.timestamp, Accept = request.headers.Accept .. "+x" }
            """)
        let sent = try await poll(connector)
        #expect(sent.count == 2)
        let texts = ["1700000000GETapi.test/me?", #"1700000000POSTapi.test/x?b=x%20y{"n":1}"#]
        for (plan, text) in zip(sent, texts) {
            let code = HMAC<SHA256>.authenticationCode(for: Array(text.utf8), using: SymmetricKey(data: Array("s3cret-one".utf8)))
            #expect(plan.headers.first("X-Sign") == LuaText.hex(code), "\(text)")
            #expect(plan.headers.first("X-Time") == "1700000000")
            #expect(plan.headers.filter { $0.name == "Accept" }.map(\.value) == ["application/json+x"])
        }
    }

    @Test func nothingReturnedChangesNothing() async throws {
        #expect(try await poll(try load("return nil")).allSatisfy { $0.headers.first("X-Sign") == nil })
    }

    @Test(arguments: [
        ("error('no ' .. connection.secret)", "connector.lua:1: no [secret]"), ("return 7", "must return headers"),
        ("return { ['a b'] = 'x' }", "returned a header 'a b' that cannot be sent"),
        ("return { a = 'x\\ny' }", "returned a header 'a' that cannot be sent"), ("return get('https://api.test')", "cannot send requests"),
        ("while true do end", "instructions"),
    ]) func faultsAreNamedWithoutSecrets(_ body: String, _ expected: String) async throws {
        let connector = try load(body)
        let message = await message { _ = try await poll(connector) }
        #expect(message?.contains(expected) == true, "\(message ?? "no error")")
        #expect(message?.contains("s3cret") == false)
    }

    @Test func itIsForDescribedPolls() async {
        let source = "return { name = 's', sign = function() end, triggers = { t = { \(DefinitionTests.minimal) } } }"
        let message = await message { _ = try LuaConnector.load(source: Array(source.utf8), name: "s", path: "s/connector.lua") }
        #expect(message?.contains("sign is for triggers with incremental") == true)
    }
}
