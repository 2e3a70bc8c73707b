import AsyncHTTPClient
import NIOCore
import NIOHTTP1
import SluiceCore
import Synchronization
import Testing

@testable import SluiceTesting

/// The stand-in provider over real HTTP.
struct ProviderHTTPTests {
    struct Answer {
        var status: Int
        var headers: HTTPHeaders
        var body: [UInt8]
        var root: JSONView? { try? JSONDocument(body).root }
    }

    static func call(
        _ url: String, method: HTTPMethod = .GET, user: String? = "stand_in_key", seconds: Int64 = 10
    ) async throws -> Answer {
        var request = HTTPClientRequest(url: url)
        request.method = method
        if let user { request.headers.add(name: "Authorization", value: ProviderAPI.basicAuth(user: user)) }
        let response = try await HTTPClient.shared.execute(request, timeout: .seconds(seconds))
        let body = try await response.body.collect(upTo: 64 << 20)
        return Answer(status: Int(response.status.code), headers: response.headers, body: Array(body.readableBytesView))
    }

    static let noLag = ProviderWorld.Settings(updateShare: 0, lagShare: 0)

    @Test func pagesThroughAListByOffset() async throws {
        try await StandInProvider.with(.init(world: ProviderHTTPTests.noLag)) { provider in
            let changes = provider.makeChanges(250, resource: "subscription")
            let list = "\(provider.baseURL)/api/v2/subscriptions?sort_by%5Basc%5D=updated_at&updated_at%5Bafter%5D=0&limit=100"
            var records: [[UInt8]] = []
            var offset: String?
            var pages = 0
            repeat {
                let answer = try await ProviderHTTPTests.call(list + (offset.map { "&offset=" + QueryText.encode($0) } ?? ""))
                #expect(answer.status == 200)
                #expect(answer.headers.first(name: "Date")?.hasSuffix("GMT") == true)
                let elements = try #require(answer.root?["list"]?.elements)
                records += elements.compactMap { $0["subscription"].map { Array($0.bytes) } }
                offset = answer.root?["next_offset"]?.string
                pages += 1
            } while offset != nil && pages < 10
            #expect(pages == 3)
            #expect(records == changes.map(\.record), "byte for byte, in the order of the changes")
            #expect(provider.reads.map(\.hasOffset) == [false, true, true])
        }
    }

    @Test func afterIsExclusiveAndBracketsMayStandPlain() async throws {
        try await StandInProvider.with(.init(world: ProviderHTTPTests.noLag)) { provider in
            let change = try #require(provider.makeChanges(2, resource: "customer").last)
            let list = "\(provider.baseURL)/api/v2/customers?updated_at[after]="
            let before = try await ProviderHTTPTests.call(list + String(change.updatedAtSeconds - 1))
            #expect(before.root?["list"]?.elements?.count == 2)
            let at = try await ProviderHTTPTests.call(list + String(change.updatedAtSeconds))
            #expect(at.root?["list"]?.elements?.count == 0, "what shares the cursor's second is lost to who goes on from it")
            #expect(at.root?["next_offset"] == nil)
        }
    }

    @Test(arguments: ["limit=0", "limit=101", "offset=abc", "updated_at[after]=yesterday", "colour=red", "include_deleted=1"])
    func refusesParameters(query: String) async throws {
        try await StandInProvider.with { provider in
            let answer = try await ProviderHTTPTests.call("\(provider.baseURL)/api/v2/invoices?\(query)")
            #expect(answer.status == 400)
            #expect(answer.root?["api_error_code"]?.string == "param_wrong_value")
            #expect(provider.reads.isEmpty)
        }
    }

    @Test func wantsTheKey() async throws {
        try await StandInProvider.with { provider in
            let list = "\(provider.baseURL)/api/v2/invoices"
            var statuses: [Int] = []
            for user in [nil, "other", "stand_in_key"] { statuses.append(try await ProviderHTTPTests.call(list, user: user).status) }
            statuses.append(try await ProviderHTTPTests.call("\(provider.baseURL)/api/v2/horses").status)
            #expect(statuses == [401, 401, 200, 404])
        }
    }

    @Test func faultsComeInTheOrderGiven() async throws {
        let faults: [ProviderFault?] = [
            .serverError, .tooManyRequests(retryAfterSeconds: 7), .html, .unauthorized, nil, .truncated, .offsetExpired,
        ]
        try await StandInProvider.with(.init(world: ProviderHTTPTests.noLag, faults: .init(next: faults))) { provider in
            provider.makeChanges(20, resource: "invoice")
            let list = "\(provider.baseURL)/api/v2/invoices?limit=5"
            #expect(try await ProviderHTTPTests.call(list).status == 500)
            let limited = try await ProviderHTTPTests.call(list)
            #expect(limited.status == 429 && limited.headers.first(name: "Retry-After") == "7")
            let html = try await ProviderHTTPTests.call(list)
            #expect(html.status == 200 && html.root == nil)
            #expect(try await ProviderHTTPTests.call(list).status == 401)
            let good = try await ProviderHTTPTests.call(list)
            let offset = try #require(good.root?["next_offset"]?.string)
            let half = try await ProviderHTTPTests.call(list)
            #expect(half.status == 200 && half.root == nil)
            let next = list + "&offset=" + QueryText.encode(offset)
            #expect(try await ProviderHTTPTests.call(next).status == 400)
            #expect(try await ProviderHTTPTests.call(next).status == 200)
            #expect(provider.counts.apiFaults.values.reduce(0, +) == 6)
        }
    }

    @Test func logAndCountsAreServed() async throws {
        try await StandInProvider.with(.init(rates: .hostile)) { provider in
            _ = try await ProviderHTTPTests.call("\(provider.baseURL)/_change?count=40", method: .POST, user: nil)
            let log = try await ProviderHTTPTests.call("\(provider.baseURL)/_log", user: nil)
            #expect(try ProviderLog.parse(log.body).map(\.record) == provider.changes.map(\.record))
            let rest = try await ProviderHTTPTests.call("\(provider.baseURL)/_log?after=37", user: nil)
            #expect(try ProviderLog.parse(rest.body).map(\.sequence) == [38, 39, 40])
            // Without a URL every webhook ends as unconfigured; once none is due any more the counts stand still.
            try await waitUntil("all webhooks", seconds: 60) { provider.counts.pending == 0 }
            let counts = try await ProviderHTTPTests.call("\(provider.baseURL)/_counts", user: nil)
            #expect(try ProviderCounts(json: counts.body) == provider.counts)
            #expect(provider.counts.statuses[.real]?["unconfigured"] == provider.counts.planned.real)
        }
    }

    @Test func makesChangesByItselfUntilPaused() async throws {
        try await StandInProvider.with(.init(changesPerSecond: 500)) { provider in
            try await waitUntil("changes") { provider.changes.count > 20 }
            _ = try await ProviderHTTPTests.call("\(provider.baseURL)/_pause", method: .POST, user: nil)
            let count = provider.changes.count
            try await Task.sleep(for: .milliseconds(100))
            #expect(provider.changes.count == count)
        }
    }

    @Test func webhooksCarryTheirCredentialsAndEveryStatusIsCounted() async throws {
        // One provider's webhooks go to another one's control page, which answers 404 to a POST: enough to be counted.
        try await StandInProvider.with { receiver in
            let rates = WebhookMischief.Rates(dropped: 0, doubled: 1, late: 0, forged: 0.5, spoofed: 0.2)
            try await StandInProvider.with(.init(rates: rates, webhookTimeoutSeconds: 60)) { provider in
                provider.setWebhookTarget(.init(url: receiver.baseURL + "/_nowhere", user: "hook", password: "secret"))
                provider.makeChanges(100)
                try await waitUntil("all webhooks", seconds: 60) { provider.counts.pending == 0 }
                let counts = provider.counts
                #expect(counts.planned.real == 200 && counts.planned.doubled == 100)
                #expect(counts.statuses[.real] == ["404": 200])
                #expect(counts.statuses[.forged] == ["404": counts.planned.forged])
                #expect(counts.statuses[.spoofed] == ["404": counts.planned.spoofed])
                #expect(counts.forgedAnswered == counts.planned.forged && counts.forgedRefused == 0)
            }
        }
        let target = StandInProvider.WebhookTarget(url: "", user: "hook", password: "secret")
        #expect(WebhookSender.authorization(.right, target) == "Basic aG9vazpzZWNyZXQ=")
        for credentials in [PlannedWebhook.Credentials.wrongUser, .wrongPassword, .missing] {
            #expect(WebhookSender.authorization(credentials, target) != "Basic aG9vazpzZWNyZXQ=")
        }
    }

    @Test func lateWebhooksWaitForTheirTime() async throws {
        let clock = Mutex(SystemTime.now())
        let late = WebhookMischief.Rates(dropped: 0, doubled: 0, late: 1, forged: 0)
        try await StandInProvider.with(.init(rates: late, now: { clock.withLock { $0 } })) { provider in
            provider.makeChanges(20)
            provider.setRates(.none)
            provider.makeChanges(1)
            // The clock stands still: what was made last is due, what was made first is not.
            try await waitUntil("the punctual webhook") { provider.counts.statuses[.real] != nil }
            #expect(provider.counts.pending == 20)
            clock.withLock { $0 = $0 + .seconds(8) }
            try await waitUntil("the late ones") { provider.counts.pending == 0 }
            #expect(provider.counts.planned.late + provider.counts.planned.reordered == 20)
        }
    }

    @Test func unreachableReceiverIsCountedAsFailed() async throws {
        let port = try LocalPort.free()
        try await StandInProvider.with { provider in
            provider.setWebhookTarget(.init(url: "http://127.0.0.1:\(port)/"))
            provider.makeChanges(3)
            try await waitUntil("all webhooks", seconds: 60) { provider.counts.pending == 0 }
            #expect(provider.counts.statuses[.real] == ["failed": 3])
        }
    }

    @Test func endsWithItsBodyEvenWhileItHangs() async throws {
        struct Stop: Error {}
        let base = Mutex("")
        // One that nobody else is given meanwhile: it is asked again once nobody is there.
        let port = try LocalPort.free()
        await #expect(throws: Stop.self) {
            try await StandInProvider.with(.init(port: port, faults: .always(.hang))) { provider in
                base.withLock { $0 = provider.baseURL }
                let answer = try? await ProviderHTTPTests.call("\(provider.baseURL)/api/v2/invoices", seconds: 1)
                if answer == nil { throw Stop() }
            }
        }
        let url = base.withLock { $0 }
        await #expect(throws: (any Error).self) { try await ProviderHTTPTests.call(url + "/_counts", seconds: 2) }
    }
}
