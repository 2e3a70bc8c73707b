import SluiceConnectors
import SluiceCore
import Testing

@testable import SluiceGateway

/// What is decided before a webhook's signature is looked at.
struct RoutingTests {
    static let body = #"{"type":"order"}"#

    func respond(_ bench: Bench, path: String = Bench.path, method: String = "POST") async -> GatewayAnswer {
        var request = bench.webhook(Self.body)
        request.path = path
        request.method = method
        return await bench.gateway.respond(to: request)
    }

    @Test func addressesAndMethods() async {
        let bench = Bench()
        #expect(await respond(bench).status == 200)
        #expect(await respond(bench, method: "PUT").status == 200)
        for path in ["/", "/hooks", "/hooks/", "/hooks/unknown", "/hooks/secret-token/x", "/baseline/x", "/hooks/secret-toke"] {
            #expect(await respond(bench, path: path) == .unknown)
        }
        // Whether a token is known shows in no method.
        for method in ["GET", "HEAD", "DELETE"] {
            #expect(await respond(bench, method: method) == .wrongMethod)
            #expect(await respond(bench, path: "/hooks/unknown", method: method) == .wrongMethod)
        }
        #expect(bench.inbox.entries.count == 2)
        #expect(bench.gateway.counters.refused[GatewayRefusal(status: 404, reason: "not_found")] == 7)
    }

    @Test func anExpiredAddressIsUnknown() async {
        let bench = Bench()
        let end = bench.time.now() + .seconds(10)
        bench.gateway.update(
            GatewayRoutes(
                connectionsByToken: ["old": bench.connection, "new": bench.connection], expiresAtByToken: ["old": end]))
        #expect(await respond(bench, path: "/hooks/old").status == 200)
        bench.time.advance(by: .seconds(10))
        #expect(await respond(bench, path: "/hooks/old") == .unknown)
        #expect(await respond(bench, path: "/hooks/new").status == 200)
        #expect(await respond(bench) == .unknown)
    }

    /// The address of a subscription: its own secret, its own topic, whatever the body says.
    @Test func aSubscriptionsAddressSignalsItsTriggerOnly() async {
        let bench = Bench()
        var own = bench.connection
        own.subscriptionTopic = TopicID(99)
        own.secrets = ["another-secret"]
        bench.gateway.change(adding: GatewayRoutes(connectionsByToken: ["mine": own]), removing: [])
        for body in [Self.body, "no JSON", #"{"type":"refund"}"#] {
            var request = bench.webhook(body)
            request.path = "/hooks/mine"
            #expect(await bench.gateway.respond(to: request).status == 401, "the connection's secret is not this one's")
            request.headers = [HTTPField("X-Signature", bench.signature(body, secret: "another-secret"))]
            let answer = await bench.gateway.respond(to: request)
            #expect(answer.status == 200 && answer.unmatchedReason == nil)
        }
        #expect(bench.inbox.entries.map(\.topics) == Array(repeating: [TopicID(99)], count: 3))
        #expect(await respond(bench).status == 200, "the others stay as they are")
        bench.gateway.change(adding: GatewayRoutes(connectionsByToken: [:]), removing: ["mine"])
        #expect(await respond(bench, path: "/hooks/mine") == .unknown)
    }

    @Test func P10_aConnectionThatIsTooFastIsAnswered429() async {
        let bench = Bench(requestsPerSecondMax: 3)
        for _ in 1...3 { #expect(await respond(bench).status == 200) }
        let answer = await respond(bench)
        #expect(answer.status == 429 && answer.retryAfterSeconds == 1)
        #expect(bench.refusals.connections == [bench.connection.id])
        bench.time.advance(by: .milliseconds(334))
        #expect(await respond(bench).status == 200)
        #expect(await respond(bench).status == 429)
        #expect(bench.inbox.entries.count == 4)
    }

    @Test func P12_oneConnectionAtItsLimitDoesNotStopAnother() async {
        let bench = Bench(requestsPerSecondMax: 1)
        var other = bench.connection
        other.id = ConnectionID(8)
        bench.gateway.update(GatewayRoutes(connectionsByToken: [Bench.token: bench.connection, "other": other]))
        #expect(await respond(bench).status == 200)
        #expect(await respond(bench).status == 429)
        #expect(await respond(bench, path: "/hooks/other").status == 200)
    }

    /// However much is sent to one, what is left for the others is the difference of the two limits.
    @Test func P12_oneConnectionMayNotUseTheWholeRate() async {
        let bench = Bench {
            $0.requestsPerSecondMax = 4
            $0.requestsPerSecondPerConnectionMax = 2
        }
        var other = bench.connection
        other.id = ConnectionID(8)
        bench.gateway.update(GatewayRoutes(connectionsByToken: [Bench.token: bench.connection, "other": other]))
        var accepted = 0
        for _ in 1...50 {
            let answer = await respond(bench)
            if answer.status == 200 { accepted += 1 }
        }
        #expect(accepted == 2)
        for _ in 1...2 { #expect(await respond(bench, path: "/hooks/other").status == 200) }
        #expect(await respond(bench, path: "/hooks/other").status == 429)
        let limits = GatewayLimits()
        #expect(limits.requestsPerSecondPerConnectionMax * 2 <= limits.requestsPerSecondMax)
    }

    @Test func P10_allConnectionsTogetherHaveALimit() async {
        let bench = Bench { $0.requestsPerSecondMax = 2 }
        for _ in 1...2 { #expect(await respond(bench).status == 200) }
        #expect(await respond(bench).status == 429)
        #expect(bench.refusals.connections == [nil])
    }

    @Test func P10_requestsThatWaitAreBounded() async throws {
        let bench = Bench { $0.requestsInFlightMax = 2 }
        bench.inbox.hold()
        let waiting = [1, 2].map { _ in Task { await respond(bench) } }
        try await eventually("two appends") { bench.inbox.heldCount == 2 }
        let answer = await respond(bench)
        #expect(answer.status == 503 && answer.retryAfterSeconds == 1)
        #expect(bench.refusals.connections == [nil])
        bench.inbox.release()
        for one in waiting { #expect(await one.value.status == 200) }
        #expect(await respond(bench).status == 200)
    }

    @Test func P6_whileShuttingDownSendersAreToldToComeAgain() async {
        let bench = Bench()
        bench.gateway.beginShutdown()
        let answer = await respond(bench)
        #expect(answer.status == 503 && answer.retryAfterSeconds != nil)
        #expect(bench.refusals.connections == [nil])
        #expect(bench.inbox.entries.isEmpty)
    }

    @Test func theBucketRefillsByTheMillisecondAndNeverOverflows() {
        var bucket = TokenBucket(perSecondMax: 10)
        var now = Timestamp(milliseconds: 5)
        var taken = 0
        for _ in 0..<20 where bucket.take(at: now) == nil { taken += 1 }
        #expect(taken == 10)
        now = now + .milliseconds(99)
        #expect(bucket.take(at: now) == 1)
        now = now + .milliseconds(1)
        #expect(bucket.take(at: now) == nil)
        now = now + .days(1000)
        taken = 0
        for _ in 0..<20 where bucket.take(at: now) == nil { taken += 1 }
        #expect(taken == 10)
        #expect(bucket.take(at: now - .seconds(5)) == 1)
    }
}
