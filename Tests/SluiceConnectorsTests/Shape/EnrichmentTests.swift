import SluiceCore
import Synchronization
import Testing

@testable import SluiceConnectors

/// Records fetched in full.
@Suite struct EnrichmentTests {
    /// A list of thin records, and their full forms.
    final class Shop: Sendable {
        struct State {
            var versions: [Int: Int] = [:]
            var statuses: [Int: Int] = [:]
            var running = 0
            var runningMax = 0
            var asked: [Int] = []
        }
        let state = Mutex(State())
        init(_ count: Int) { state.withLock { state in for id in 1...max(1, count) { state.versions[id] = 1 } } }

        func change(_ body: @Sendable (inout State) -> Void) { state.withLock { body(&$0) } }
        /// Ids that were asked for since the last call.
        func asked() -> [Int] {
            state.withLock { state in
                defer { state.asked = [] }
                return state.asked.sorted()
            }
        }

        func reply(_ plan: HTTPRequestPlan) async throws -> HTTPReply {
            guard let id = plan.url.split(separator: "/items/").dropFirst().first.flatMap({ Int($0.prefix { $0.isNumber }) }) else {
                return state.withLock { state in
                    let list = state.versions.sorted { $0.key < $1.key }.map {
                        #"{"id":\#($0.key),"at":\#($0.value),"url":"/items/\#($0.key)"}"#
                    }
                    return Replies.ok(#"{"items":[\#(list.joined(separator: ","))]}"#)
                }
            }
            state.withLock { state in
                state.asked.append(id)
                state.running += 1
                state.runningMax = max(state.runningMax, state.running)
            }
            // The later ones answer first.
            try await Task.sleep(for: .milliseconds(max(0, 12 - id)))
            return state.withLock { state in
                state.running -= 1
                let status = state.statuses[id] ?? 200
                if status != 200 { return Replies.ok("{}", status: status) }
                return Replies.ok(#"{"item": {"id":\#(id), "full" : 1.50,"version":\#(state.versions[id] ?? 0)}}"#)
            }
        }
    }

    struct Sender: HTTPSending {
        let shop: Shop
        func send(_ request: HTTPRequestPlan) async throws -> HTTPReply {
            let reply = try await shop.reply(request)
            if reply.status >= 500 { throw PollFailure(.transient, SluiceError(.providerStatus, "status \(reply.status)")) }
            return reply
        }
    }

    private func reader(_ shop: Shop, _ extra: String = "", dedup: String = #"{"id":"id","version":"at"}"#) throws -> Reader {
        let enrich = #""enrich":{"path":"/items/{record.id}","query":{"v":"{record.at}"},"at":"item","concurrency":3\#(extra)}"#
        let json =
            #"{"base_url":"https://api.test","path":"/items","records":"items","dedup":\#(dedup),"cursor":{"field":"at","parameter":"since","type":"unix_seconds"},\#(enrich)}"#
        return try Reader(json, Sender(shop: shop))
    }

    @Test func P3_recordsAreDeliveredInFullAndInOrder() async throws {
        let shop = Shop(10)
        var reader = try reader(shop)
        try await reader.cycle()
        #expect(reader.keys == (1...10).map { "\($0)@1" })
        #expect(reader.records == (1...10).map { #"{"id":\#($0), "full" : 1.50,"version":1}"# })
        #expect(reader.jobs.allSatisfy { !$0.record.isDerived })
        #expect(reader.mark == 1)
        #expect(shop.state.withLock { $0.runningMax } == 3, "at most so many at once as the description says, and as many")
        #expect(shop.asked() == Array(1...10))
    }

    @Test func whatWasFetchedIsNotFetchedAgain() async throws {
        let shop = Shop(4)
        var reader = try reader(shop)
        try await reader.cycle()
        _ = shop.asked()
        shop.change { $0.versions[2] = 5 }
        try await reader.cycle()
        #expect(shop.asked() == [2], "the overlap comes from what is kept")
        #expect(reader.keys.suffix(1) == ["2@5"])
        #expect(reader.records.last == #"{"id":2, "full" : 1.50,"version":5}"#)
        // Another account's records are others, even where its credentials are added on the way.
        reader.connection = #"{"key":"k2"}"#
        try await reader.cycle()
        #expect(shop.asked() == [1, 2, 3, 4])
    }

    @Test func aRecordThatIsGoneIsKeptThin() async throws {
        let shop = Shop(3)
        shop.change { $0.statuses = [2: 404, 3: 410] }
        var reader = try reader(shop)
        try await reader.cycle()
        #expect(reader.keys == ["1@1", "2@1", "3@1"])
        #expect(reader.jobs.map(\.record.isDerived) == [false, true, true])
        #expect(reader.records[1] == #"{"id":2,"at":1,"url":"/items/2"}"#)
        #expect(reader.warnings.contains { $0.hasPrefix("2 records were gone") })
    }

    @Test func P3_aFailureFailsThePageAndKeepsWhatWasFetched() async throws {
        let shop = Shop(9)
        shop.change { $0.statuses = [4: 503] }
        var reader = try reader(shop)
        let failed = await failure { try await reader.cycle() }
        #expect(failed?.kind == .transient)
        #expect(reader.jobs.isEmpty && reader.cursor == nil, "the cursor never passes a record that is not delivered")
        #expect(shop.asked() == Array(1...9))
        shop.change { $0.statuses = [:] }
        try await reader.cycle()
        #expect(shop.asked() == [4])
        #expect(reader.keys == (1...9).map { "\($0)@1" })
    }

    @Test func P10_aRecordThatAlwaysFailsIsSetAside() async throws {
        let shop = Shop(3)
        shop.change { $0.statuses = [2: 500] }
        var reader = try reader(shop)
        var failures = 0
        while failures < 50, await failure({ try await reader.cycle() }) != nil { failures += 1 }
        #expect(failures == Enrichment.triesMax - 1)
        #expect(reader.keys == ["1@1", "3@1"])
        #expect(reader.quarantined.map(\.bytes) == [#"{"id":2,"at":1,"url":"/items/2"}"#])
        #expect(reader.quarantined.first?.reason.contains("10 times in a row") == true)
    }

    @Test func aProviderThatFailsAltogetherIsGivenMoreTime() async throws {
        let shop = Shop(8)
        shop.change { $0.statuses = [1: 500, 2: 500, 3: 500, 4: 500, 5: 500, 6: 500, 7: 500, 8: 500] }
        var reader = try reader(shop)
        for _ in 0..<Enrichment.triesMax + 3 { #expect(await failure { try await reader.cycle() }?.kind == .transient) }
        #expect(reader.quarantined.isEmpty)
        #expect(shop.asked().count < 8 * (Enrichment.triesMax + 3), "a page that fails stops asking")
    }

    @Test func otherStatusesAreOfOneRecordOrOfAll() async throws {
        for (status, kind) in [(401, PollFailure.Kind.unauthorized), (403, .unauthorized), (429, .rateLimited)] {
            let shop = Shop(2)
            shop.change { $0.statuses = [2: status] }
            var reader = try reader(shop)
            #expect(await failure { try await reader.cycle() }?.kind == kind)
        }
        let shop = Shop(2)
        shop.change { $0.statuses = [2: 422] }
        var reader = try reader(shop)
        try await reader.cycle()
        #expect(reader.keys == ["1@1"])
        #expect(reader.quarantined.count == 1)
        #expect(reader.mark == 1)
    }

    @Test func aRecordMayNameItsOwnAddressOnTheSameHost() async throws {
        let json = { (url: String) in
            #"{"base_url":"https://api.test/v1","path":"/items","records":"items","dedup":{"id":"id"},"enrich":{"url":"\#(url)","query":{"x":"1"},"at":"item"}}"#
        }
        var reader = try Reader(json("{record.url}"), Sender(shop: Shop(2)))
        try await reader.cycle()
        #expect(reader.jobs.count == 2 && reader.records[1].contains("full"))
        var away = try Reader(json("https://evil.test/items/{record.id}"), Sender(shop: Shop(2)))
        let failure = await failure { try await away.cycle() }
        #expect(failure?.error.message.contains("another host") == true)
    }

    @Test func P10_theCacheIsBounded() {
        let cache = EnrichmentCache()
        let big = [UInt8](repeating: 1, count: 1 << 20)
        for number in 0..<100 { cache.put(HMACSHA256.sha256([UInt8(number)]), big) }
        let kept = (0..<100).filter { cache.full(HMACSHA256.sha256([UInt8($0)])) != nil }
        #expect(kept.count >= 16 && kept.count <= 32, "\(kept.count)")
        #expect(kept.last == 99)
        for number in 0..<20_000 { _ = cache.failed(HMACSHA256.sha256(Array("\(number)".utf8))) }
        #expect(cache.failed(HMACSHA256.sha256(Array("19999".utf8))) == 2)
        #expect(cache.failed(HMACSHA256.sha256(Array("1".utf8))) == 1)
    }
}
