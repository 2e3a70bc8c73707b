import SluiceConnectors
import SluiceCore
import Testing

@testable import SluiceGateway

/// The listener on a real socket.
@Suite(.timeLimit(.minutes(10)))
struct ListenerTests {
    static let body = #"{"id":"evt_1","type":"order"}"#

    /// P1: while the append has not returned, not one byte of an answer leaves.
    @Test func P1_noByteOfA2xxLeavesBeforeTheAppendReturned() async throws {
        let bench = Bench()
        try await bench.serving { port in
            bench.inbox.hold()
            let sender = try await RawClient(port: port)
            try await sender.send(bench.httpRequest(Self.body))
            try await eventually("the append") { bench.inbox.heldCount == 1 }
            // Whole round trips on other connections, on every event loop: had an answer been written, it would be here.
            for _ in 0..<20 {
                let other = try await RawClient(port: port)
                #expect(try await other.answer(to: bench.httpRequest("x", path: "/hooks/unknown")).status == 404)
                await other.close()
            }
            #expect(sender.received.isEmpty)
            #expect(bench.inbox.entries.isEmpty)
            bench.inbox.release()
            let answer = try await sender.answer()
            #expect(answer.status == 200 && answer.body == #"{"ok":true}"#)
            #expect(answer.headers["sluice-inbox"] == "1")
            #expect(bench.inbox.entries.count == 1)
            await sender.close()
        }
    }

    /// Whoever sends on without waiting is read no further for a while, and then again.
    @Test func P10_manyPipelinedRequestsAreAllAnswered() async throws {
        let bench = Bench()
        try await bench.serving { port in
            let client = try await RawClient(port: port)
            bench.inbox.hold()
            for number in 1...40 { try await client.send(bench.httpRequest(#"{"id":"e\#(number)","type":"order"}"#)) }
            bench.inbox.release()
            for _ in 1...40 { #expect(try await client.answer().status == 200) }
            #expect(bench.inbox.entries.map(\.deliveryID) == (1...40).map { "e\($0)" })
            await client.close()
        }
    }

    /// What a request asked to have reflected cannot end a header's line.
    @Test func headersOfHandshakesAreChecked() {
        let answer = GatewayAnswer(
            handshake: HandshakeAnswer(
                status: 200, headers: [.init("X-Echo", "a\r\nX-Evil: b"), .init("X Bad", "c"), .init("X-Good", "d")], body: []))
        let head = GatewayHTTP.head(answer, isLast: false)
        #expect(head.headers.contains(name: "X-Good"))
        #expect(!head.headers.contains(name: "X-Echo") && !head.headers.contains(name: "X-Evil") && !head.headers.contains(name: "X Bad"))
    }

    @Test func manyRequestsShareAConnection() async throws {
        let bench = Bench()
        try await bench.serving { port in
            let client = try await RawClient(port: port)
            for _ in 1...3 { #expect(try await client.answer(to: bench.httpRequest(#"{"type":"order"}"#)).status == 200) }
            // Pipelined: answered in order.
            let known = bench.httpRequest(#"{"type":"refund"}"#)
            try await client.send(known + bench.httpRequest("x", path: "/hooks/unknown") + known)
            for status in [200, 404, 200] { #expect(try await client.answer().status == status) }
            #expect(bench.inbox.entries.map(\.topics) == Array(repeating: [Bench.orders], count: 3) + [[Bench.refunds], [Bench.refunds]])
            await client.close()
        }
    }

    @Test func theRequestReachesTheInboxAsItCame() async throws {
        let bench = Bench()
        try await bench.serving { port in
            let client = try await RawClient(port: port)
            let body = Self.body
            try await client.send(
                "PUT \(Bench.path)?a=b%20c HTTP/1.1\r\nHost: example.org\r\nX-Signature: \(bench.signature(body))\r\n"
                    + "Transfer-Encoding: chunked\r\n\r\n")
            for byte in body.utf8 { try await client.send("1\r\n\(Character(Unicode.Scalar(byte)))\r\n") }
            try await client.send("0\r\n\r\n")
            #expect(try await client.answer().status == 200)
            let entry = try #require(bench.inbox.entries.first)
            #expect(entry.body == Array(body.utf8) && entry.query == "a=b%20c" && entry.method == "PUT")
            #expect(String(decoding: entry.headers, as: UTF8.self).contains("Host: example.org"))
            #expect(entry.receivedAt == bench.time.now() && entry.deliveryID == "evt_1")
            await client.close()
        }
    }

    @Test func P8_aForgedWebhookIsAnswered401OnTheWire() async throws {
        let bench = Bench()
        try await bench.serving { port in
            let client = try await RawClient(port: port)
            let answer = try await client.answer(to: "POST \(Bench.path) HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}")
            #expect(answer.status == 401 && answer.body.contains(#""code":"unauthorized""#))
            #expect(bench.inbox.entries.isEmpty)
            await client.close()
        }
        // Neither the token nor the body nor a header's value.
        #expect(bench.logs.text.contains("401"))
        for secret in [Bench.token, Bench.secret, "{}"] { #expect(!bench.logs.text.contains(secret)) }
    }

    @Test func wrongMethodsAreToldTheRightOnes() async throws {
        let bench = Bench()
        try await bench.serving { port in
            let client = try await RawClient(port: port)
            let answer = try await client.answer(to: "GET \(Bench.path) HTTP/1.1\r\nHost: h\r\n\r\n")
            #expect(answer.status == 405 && answer.headers["allow"] == "POST, PUT")
            // The answer to HEAD has no body, so what follows its headers is the next answer.
            try await client.send("HEAD \(Bench.path) HTTP/1.1\r\nHost: h\r\n\r\n" + bench.httpRequest(Self.body))
            try await eventually("both answers") { String(decoding: client.received, as: UTF8.self).hasSuffix(#"{"ok":true}"#) }
            let parts = try #require(String(decoding: client.received, as: UTF8.self).splitOnce("\r\n\r\n"))
            #expect(parts.0.hasPrefix("HTTP/1.1 405") && parts.1.hasPrefix("HTTP/1.1 200"))
            await client.close()
        }
    }

    @Test func P6_anInboxThatCannotKeepUpIsSaidWithRetryAfter() async throws {
        let bench = Bench()
        bench.inbox.fail(with: SluiceError(.overloaded, "too much is waiting"))
        try await bench.serving { port in
            let client = try await RawClient(port: port)
            let answer = try await client.answer(to: bench.httpRequest(Self.body))
            #expect(answer.status == 503 && answer.headers["retry-after"] == "1")
            #expect(bench.refusals.connections == [bench.connection.id])
            await client.close()
        }
    }

    @Test func theBaselineExistsOnlyWhereItIsEnabled() async throws {
        for isEnabled in [true, false] {
            let bench = Bench { $0.enablesBaseline = isEnabled }
            try await bench.serving { port in
                let client = try await RawClient(port: port)
                #expect(try await client.answer(to: bench.httpRequest("abc", path: "/baseline/x")).status == (isEnabled ? 200 : 404))
                await client.close()
            }
            #expect(bench.inbox.entries.isEmpty)
        }
    }

    @Test func P1_shutdownFinishesWhatItHasInHand() async throws {
        let bench = Bench()
        bench.inbox.hold()
        let client = try await bench.serving { port in
            let client = try await RawClient(port: port)
            try await client.send(bench.httpRequest(Self.body))
            try await eventually("the append") { bench.inbox.heldCount == 1 }
            Task {
                var probe = bench.webhook("x")
                probe.path = "/hooks/unknown"
                try await eventually("shutdown") { [probe] in await bench.gateway.respond(to: probe).reason == "shutting_down" }
                bench.inbox.release()
            }
            return client
        }
        #expect(try await client.answer().status == 200)
        await client.close()
    }
}
