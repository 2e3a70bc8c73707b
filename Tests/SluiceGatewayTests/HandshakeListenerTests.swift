import Crypto
import SluiceConnectors
import SluiceCore
import Synchronization
import Testing

@testable import SluiceGateway

/// Handshakes on the real listener.
@Suite(.timeLimit(.minutes(10)))
struct HandshakeListenerTests {
    /// What was asked of it; `learn` fails while `isBroken`.
    final class Acts: HandshakeActing {
        let state = Mutex<(learned: [String], confirmed: [String], isBroken: Bool)>(([], [], false))
        func learn(secret: String, token: String, connection: ConnectionID) async throws {
            try state.withLock { state in
                if state.isBroken { throw SluiceError(.diskFull, "the disk is full") }
                state.learned.append("\(token)=\(secret)")
            }
        }
        func confirm(url: String, connection: ConnectionID) { state.withLock { $0.confirmed.append(url) } }
    }

    static func bench(_ names: [String], acts: Acts? = nil, scheme: SignatureScheme = TestScheme.signed, perSecondMax: Int? = nil) -> Bench
    {
        var bench = Bench(scheme: scheme, requestsPerSecondMax: perSecondMax, handshakes: acts)
        bench.connection.handshakes = names.flatMap(Handshake.named)
        bench.connection.handshakeFields = ["verify_token": "meatyhamhock"]
        bench.gateway.update(GatewayRoutes(connectionsByToken: [Bench.token: bench.connection]))
        return bench
    }

    static func get(_ query: String = "", method: String = "GET", path: String = Bench.path, headers: String = "") -> String {
        "\(method) \(path)\(query.isEmpty ? "" : "?" + query) HTTP/1.1\r\nHost: h\r\n\(headers)\r\n"
    }

    /// Nothing but the answer is left of it.
    static func leavesNothing(_ bench: Bench, handshakes: Int) {
        #expect(bench.inbox.entries.isEmpty)
        #expect(bench.gateway.counters.accepted == 0 && bench.gateway.counters.handshakes == handshakes)
        #expect(bench.gateway.counters.connections[bench.connection.id]?.handshakes == handshakes)
    }

    @Test func aChallengeInTheQueryIsReflectedAsText() async throws {
        let bench = Self.bench(["dropbox"])
        try await bench.serving { port in
            let client = try await RawClient(port: port)
            let answer = try await client.answer(to: Self.get("challenge=a%3Cscript%3E"))
            #expect(answer.status == 200 && answer.body == "a<script>")
            #expect(answer.headers["content-type"] == "text/plain; charset=utf-8")
            #expect(answer.headers["x-content-type-options"] == "nosniff")
            // The next request on the connection is answered as if nothing had been.
            #expect(try await client.answer(to: bench.httpRequest(#"{"type":"order"}"#)).headers["sluice-inbox"] == "1")
            await client.close()
        }
        #expect(bench.inbox.entries.count == 1 && bench.gateway.counters.handshakes == 1 && bench.gateway.counters.accepted == 1)
    }

    @Test func onlyAConfiguredConnectionAnswersAndOnlyItsOwnHandshakes() async throws {
        let bench = Self.bench(["meta"])
        try await bench.serving { port in
            let client = try await RawClient(port: port)
            let asked = "hub.mode=subscribe&hub.challenge=77&hub.verify_token=meatyhamhock"
            #expect(try await client.answer(to: Self.get(asked)).body == "77")
            // Unknown addresses, other handshakes and no handshake at all look the same.
            for request in [
                Self.get(asked, path: "/hooks/unknown"), Self.get("challenge=a"), Self.get(), Self.get("crc_token=a"),
                Self.get(method: "OPTIONS", headers: "WebHook-Request-Origin: a.example\r\n"),
                Self.get("hub.mode=unsubscribe&hub.challenge=77&hub.verify_token=meatyhamhock"),
            ] {
                let answer = try await client.answer(to: request)
                #expect(answer.status == 405 && answer.headers["allow"] == "POST, PUT" && answer.body.contains("method_not_allowed"))
            }
            let wrong = try await client.answer(to: Self.get("hub.mode=subscribe&hub.challenge=77&hub.verify_token=x"))
            #expect(wrong.status == 403 && wrong.body.contains("handshake_refused") && !wrong.body.contains("77"))
            let long = try await client.answer(
                to: Self.get("hub.mode=subscribe&hub.verify_token=meatyhamhock&hub.challenge=" + String(repeating: "a", count: 2000)))
            #expect(long.status == 400 && !long.body.contains("aaaa"))
            // 30 KB: more than a query may have.
            let huge = try await client.answer(
                to: Self.get("hub.mode=subscribe&hub.verify_token=meatyhamhock&hub.challenge=" + String(repeating: "a", count: 30_000)))
            #expect(huge.status == 405 && !huge.body.contains("aaaa"))
            await client.close()
        }
        Self.leavesNothing(bench, handshakes: 1)
        for secret in [Bench.token, "meatyhamhock"] { #expect(!bench.logs.text.contains(secret)) }
    }

    @Test func HEADAndOPTIONSAreAnswered() async throws {
        let bench = Self.bench(["trello", "cloudevents"])
        try await bench.serving { port in
            let client = try await RawClient(port: port)
            #expect(try await client.answer(to: Self.get(method: "HEAD")).status == 200)
            let options = try await client.answer(
                to: Self.get(method: "OPTIONS", headers: "WebHook-Request-Origin: a.example\r\nWebHook-Request-Rate: 120\r\n"))
            #expect(options.status == 200 && options.headers["webhook-allowed-origin"] == "a.example")
            #expect(options.headers["webhook-allowed-rate"] == "120" && options.headers["allow"] == "POST, PUT")
            for method in ["DELETE", "PATCH", "TRACE"] { #expect(try await client.answer(to: Self.get(method: method)).status == 405) }
            await client.close()
        }
        Self.leavesNothing(bench, handshakes: 2)
    }

    /// What the provider signs is answered only when the signature holds; a forged one is a refused webhook like any other.
    @Test func P8_aSignedHandshakeIsVerifiedFirst() async throws {
        let bench = Self.bench(["slack"])
        let body = #"{"token":"t","challenge":"3eZbrw1a","type":"url_verification"}"#
        try await bench.serving { port in
            let client = try await RawClient(port: port)
            let answer = try await client.answer(to: bench.httpRequest(body))
            #expect(answer.status == 200 && answer.body == "3eZbrw1a" && answer.headers["sluice-inbox"] == nil)
            let forged = "POST \(Bench.path) HTTP/1.1\r\nHost: h\r\nX-Signature: \(bench.signature(body, secret: "other"))\r\n"
            let refused = try await client.answer(to: forged + "Content-Length: \(body.utf8.count)\r\n\r\n\(body)")
            #expect(refused.status == 401 && !refused.body.contains("3eZbrw1a"))
            let bare = try await client.answer(
                to: "POST \(Bench.path) HTTP/1.1\r\nHost: h\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)")
            #expect(bare.status == 401)
            // An unknown address echoes nothing, however well it is signed.
            let unknown = try await client.answer(to: bench.httpRequest(body, path: "/hooks/unknown"))
            #expect(unknown.status == 404 && !unknown.body.contains("3eZbrw1a"))
            await client.close()
        }
        Self.leavesNothing(bench, handshakes: 1)
        #expect(bench.gateway.counters.connections[bench.connection.id]?.unverified == 2)
    }

    @Test func duringARotationTheSecretThatSignedAnswers() async throws {
        var bench = Self.bench(["zoom"])
        bench.connection.secrets = ["newer", Bench.secret]
        bench.gateway.update(GatewayRoutes(connectionsByToken: [Bench.token: bench.connection]))
        let body = #"{"event":"endpoint.url_validation","payload":{"plainToken":"abc"}}"#
        let answer = await bench.gateway.respond(to: bench.webhook(body))
        let code = HMAC<SHA256>.authenticationCode(for: Array("abc".utf8), using: SymmetricKey(data: Array(Bench.secret.utf8)))
        let hex = code.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
        #expect(String(decoding: answer.body, as: UTF8.self) == #"{"plainToken":"abc","encryptedToken":"\#(hex)"}"#)
    }

    @Test func theWebhooksOfTheSameConnectionAreKept() async {
        let bench = Self.bench(["slack", "monday", "woocommerce", "xero"])
        for body in [#"{"type":"order"}"#, #"{"type":"order","challenge":"x"}"#, #"{"type":"refund","events":[{}]}"#] {
            #expect(await bench.gateway.respond(to: bench.webhook(body)).status == 200)
        }
        #expect(bench.inbox.entries.count == 3 && bench.gateway.counters.handshakes == 0)
    }

    /// Xero fails an address whose answers have a body.
    @Test func XeroGetsNoByteOfABody() async throws {
        let bench = Self.bench(["xero"])
        try await bench.serving { port in
            let client = try await RawClient(port: port)
            let intent = #"{"events":[],"lastEventSequence":0,"firstEventSequence":0,"entropy":"S0m3r4Nd0mt3xt"}"#
            for (body, secret, status) in [(intent, Bench.secret, 200), (intent, "other", 401), (#"{"type":"order"}"#, Bench.secret, 200)] {
                let answer = try await client.answer(
                    to: "POST \(Bench.path) HTTP/1.1\r\nHost: h\r\nX-Signature: \(bench.signature(body, secret: secret))\r\n"
                        + "Content-Length: \(body.utf8.count)\r\n\r\n\(body)")
                #expect(answer.status == status && answer.body.isEmpty && answer.headers["content-length"] == "0")
            }
            await client.close()
        }
        #expect(bench.inbox.entries.count == 1)
    }

    @Test func aStatusWithoutContentHasNoLength() async throws {
        let bench = Self.bench(["discord"])
        try await bench.serving { port in
            let client = try await RawClient(port: port)
            let answer = try await client.answer(to: bench.httpRequest(#"{"type":0,"application_id":"1"}"#))
            #expect(answer.status == 204 && answer.headers["content-length"] == nil && answer.body.isEmpty)
            #expect(try await client.answer(to: bench.httpRequest(#"{"type":1,"id":"1"}"#)).body == #"{"type":1}"#)
            await client.close()
        }
        Self.leavesNothing(bench, handshakes: 2)
    }

    @Test func P10_handshakesAreWithinTheConnectionsRate() async throws {
        let bench = Self.bench(["dropbox"], perSecondMax: 2)
        let asked = WebhookRequest(method: "GET", path: Bench.path, query: "challenge=a", headers: [], body: [])
        for _ in 1...2 { #expect(await bench.gateway.respond(to: asked).status == 200) }
        let answer = await bench.gateway.respond(to: asked)
        #expect(answer.status == 429 && answer.retryAfterSeconds == 1)
        // It was no webhook: nothing was missed that polls would have to make up for.
        #expect(bench.refusals.connections.isEmpty)
        // Where there is no handshake, a GET takes nothing from the connection's rate.
        let plain = Bench(requestsPerSecondMax: 1)
        for _ in 1...5 { #expect(await plain.gateway.respond(to: asked) == .wrongMethod) }
        #expect(await plain.gateway.respond(to: plain.webhook(#"{"type":"order"}"#)).status == 200)
    }

    // MARK: - With an action

    @Test func aSecretIsKeptBeforeTheHandshakeIsAnswered() async throws {
        let acts = Acts()
        var bench = Self.bench(["asana"], acts: acts)
        bench.connection.secrets = []
        bench.connection.mayLearnSecret = true
        bench.gateway.update(GatewayRoutes(connectionsByToken: [Bench.token: bench.connection]))
        let request = WebhookRequest(
            method: "POST", path: Bench.path, query: "", headers: [HTTPField("X-Hook-Secret", "b537207f")], body: [])
        acts.state.withLock { $0.isBroken = true }
        let failed = await bench.gateway.respond(to: request)
        #expect(failed.status == 503 && failed.retryAfterSeconds == 5)
        acts.state.withLock { $0.isBroken = false }
        try await bench.serving { [bench] port in
            let client = try await RawClient(port: port)
            let answer = try await client.answer(
                to: "POST \(Bench.path) HTTP/1.1\r\nHost: h\r\nX-Hook-Secret: b537207f\r\nContent-Length: 0\r\n\r\n")
            #expect(answer.status == 200 && answer.headers["x-hook-secret"] == "b537207f" && answer.body.isEmpty)
            #expect(acts.state.withLock { $0.learned } == ["\(Bench.token)=b537207f"])
            // Now it has one: an intruder's is refused.
            var known = bench.connection
            known.secrets = ["b537207f"]
            known.mayLearnSecret = false
            bench.gateway.update(GatewayRoutes(connectionsByToken: [Bench.token: known]))
            let intruder = try await client.answer(
                to: "POST \(Bench.path) HTTP/1.1\r\nHost: h\r\nX-Hook-Secret: mine\r\nContent-Length: 0\r\n\r\n")
            #expect(intruder.status == 409 && acts.state.withLock { $0.learned.count } == 1)
            await client.close()
        }
        #expect(bench.inbox.entries.isEmpty)
        #expect(!bench.logs.text.contains("b537207f"))
    }

    @Test func aConfirmationIsAskedForOnlyWhenTheSignatureHolds() async {
        let acts = Acts()
        let bench = Self.bench(["aws-sns"], acts: acts)
        let url = "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=1"
        let body = #"{"Type":"SubscriptionConfirmation","TopicArn":"arn:x","SubscribeURL":"\#(url)"}"#
        var forged = bench.webhook(body)
        forged.headers = [HTTPField("X-Signature", bench.signature(body, secret: "other"))]
        #expect(await bench.gateway.respond(to: forged).status == 401)
        #expect(acts.state.withLock { $0.confirmed.isEmpty })
        #expect(await bench.gateway.respond(to: bench.webhook(body)).status == 200)
        #expect(acts.state.withLock { $0.confirmed } == [url])
        let elsewhere = bench.webhook(body.replacing("amazonaws.com", with: "evil.example"))
        #expect(await bench.gateway.respond(to: elsewhere).status == 400)
        #expect(acts.state.withLock { $0.confirmed } == [url])
        #expect(bench.inbox.entries.isEmpty)
    }
}
