import SluiceCore
import SluiceTesting
import Testing

@testable import SluiceGateway

/// P10: what the listener does with requests that are too large, too slow, cut off or no HTTP at all. None is stored.
@Suite(.timeLimit(.minutes(10)))
struct ListenerLimitTests {
    static let post = "POST \(Bench.path) HTTP/1.1\r\nHost: h\r\n"

    /// Sends, expects the answer and that the server then closes, and that nothing was stored.
    func expectRefusal(
        _ bench: Bench, status: Int, reason: String, _ send: @Sendable @escaping (RawClient) async throws -> Void
    ) async throws {
        try await bench.serving { port in
            let client = try await RawClient(port: port)
            try await send(client)
            let answer = try await client.answer()
            #expect(answer.status == status)
            #expect(answer.body.contains(#""code":"\#(reason)""#))
            try await eventually("the server to close") { client.isClosedByServer }
            await client.close()
            #expect(bench.gateway.counters.refused[GatewayRefusal(status: status, reason: reason)] == 1)
        }
        #expect(bench.inbox.entries.isEmpty)
    }

    @Test func P10_aBodyThatSaysItIsTooLargeIsRefusedBeforeItComes() async throws {
        let bench = Bench { $0.bodyBytesMax = 1000 }
        try await expectRefusal(bench, status: 413, reason: "body_too_large") {
            try await $0.send(Self.post + "Content-Length: 1001\r\n\r\n")
        }
    }

    @Test func P10_aBodyThatGrowsTooLargeIsRefusedWhileItComes() async throws {
        let bench = Bench { $0.bodyBytesMax = 1000 }
        try await expectRefusal(bench, status: 413, reason: "body_too_large") { client in
            try await client.send(Self.post + "Transfer-Encoding: chunked\r\n\r\n")
            // It may be refused, and the connection closed, before the last of it has left.
            for _ in 0..<11 { try? await client.send("64\r\n\(String(repeating: "x", count: 100))\r\n") }
        }
    }

    @Test func P10_aBodyOfExactlyTheLimitIsTaken() async throws {
        let bench = Bench { $0.bodyBytesMax = 1000 }
        let body = "\"" + String(repeating: "x", count: 998) + "\""
        try await bench.serving { port in
            let client = try await RawClient(port: port)
            #expect(try await client.answer(to: bench.httpRequest(body)).status == 200)
            await client.close()
        }
        #expect(bench.inbox.entries.first?.body.count == 1000)
    }

    @Test func P10_bodiesTogetherAreBounded() async throws {
        let bench = Bench { $0.bodiesInFlightBytesMax = 1000 }
        try await bench.serving { port in
            let first = try await RawClient(port: port)
            try await first.send(Self.post + "Content-Length: 900\r\n\r\n" + String(repeating: "x", count: 800))
            let second = try await RawClient(port: port)
            try await eventually("the bound") {
                let other = try await RawClient(port: port)
                let answer = try await other.answer(to: bench.httpRequest(String(repeating: "y", count: 300)))
                await other.close()
                return answer.status == 503 && answer.headers["retry-after"] == "1"
            }
            #expect(bench.refusals.connections.contains(nil))
            // What the first one held is free again once it is gone.
            await first.close()
            try await eventually("room") {
                let other = try await RawClient(port: port)
                let answer = try await other.answer(to: bench.httpRequest(String(repeating: "z", count: 900)))
                await other.close()
                return answer.status == 200
            }
            await second.close()
        }
    }

    /// Bodies for URLs that there are not are read and dropped: they leave the room to those who have one.
    @Test(arguments: ["/hooks/nonsense", "/hooks/", "/elsewhere", "/callbacks/nonsense"])
    func P10_bodiesForNobodyTakeNoRoom(_ path: String) async throws {
        let bench = Bench { $0.bodiesInFlightBytesMax = 10_000 }
        try await bench.serving { port in
            let stranger = try await RawClient(port: port)
            let head = "POST \(path) HTTP/1.1\r\nHost: h\r\n"
            try await stranger.send(head + "Content-Length: 100000\r\n\r\n" + String(repeating: "x", count: 90_000))
            let chunked = try await RawClient(port: port)
            let part = "2710\r\n\(String(repeating: "y", count: 10_000))\r\n"
            try await chunked.send(head + "Transfer-Encoding: chunked\r\n\r\n" + part + part)
            for _ in 0..<20 {
                let client = try await RawClient(port: port)
                #expect(try await client.answer(to: bench.httpRequest("\"" + String(repeating: "z", count: 9000) + "\"")).status == 200)
                await client.close()
            }
            // What was dropped is counted all the same, and answered as ever.
            try await stranger.send(String(repeating: "x", count: 10_000))
            #expect(try await stranger.answer().status == 404)
            try await chunked.send("0\r\n\r\n")
            #expect(try await chunked.answer().status == 404)
            for client in [stranger, chunked] { await client.close() }
            #expect(!bench.refusals.connections.contains(nil), "nobody is told that webhooks were missed")
        }
        // Twice the same body is one webhook.
        #expect(bench.inbox.entries.allSatisfy { $0.body.count == 9002 } && !bench.inbox.entries.isEmpty)
    }

    /// Whoever asks and asks and never reads is read no further than its answers go, and closed after a while.
    @Test func P10_whoReadsNoAnswersIsReadNoFurther() async throws {
        let bench = Bench { $0.bodyDeadlineSeconds = 60 }
        try await bench.serving { port in
            let deaf = try DeafClient(port: port)
            defer { deaf.close() }
            let requests = Array(String(repeating: "GET /x HTTP/1.1\r\n\r\n", count: 4096).utf8)
            // The buffers of both systems take some MB; what is beyond must stay with the client, for two seconds at least.
            try await offPool {
                let begun = ContinuousClock.now
                while !deaf.isFull, !deaf.isClosed, begun.duration(to: .now) < .seconds(55) { _ = deaf.send(requests) }
            }
            #expect(deaf.isFull, "it was read on and on, with no answer taken")
            // Others are served all the while.
            let other = try await RawClient(port: port)
            #expect(try await other.answer(to: bench.httpRequest("{}")).status == 200)
            await other.close()
            try await offPool { for _ in 0..<60 where !deaf.isClosed { _ = deaf.send(requests) } }
            #expect(deaf.isClosed)
        }
    }

    /// Each answer comes, in its order, to one who reads late.
    @Test func P10_whoReadsLateGetsEachAnswer() async throws {
        let bench = Bench { $0.bodyDeadlineSeconds = 60 }
        try await bench.serving { port in
            let deaf = try DeafClient(port: port)
            defer { deaf.close() }
            let one = Array("GET /x HTTP/1.1\r\nHost: h\r\n\r\n".utf8)
            let many = 30_000
            // As much as goes without reading, then both.
            try await offPool {
                var rest = Array(repeatElement(one, count: many).joined())[...]
                while !rest.isEmpty, !deaf.isClosed {
                    rest = rest.dropFirst(deaf.send(Array(rest.prefix(1 << 16))))
                    if deaf.isFull { for _ in 0..<100 { deaf.readSome() } }
                }
                // Its window is small: some thousand reads, which must not wait for their turn among other tests.
                deaf.read(answers: many, seconds: 60)
            }
            #expect(deaf.answers == many, "each is answered")
        }
    }

    @Test(arguments: ["Content-Length: 100\r\n\r\nonly this", "Transfer-Encoding: chunked\r\n\r\n64\r\nonly this"])
    func P10_aBodyThatIsCutOffStoresNothing(_ rest: String) async throws {
        let bench = Bench()
        try await bench.serving { port in
            for closesFully in [false, true] {
                let client = try await RawClient(port: port)
                try await client.send(Self.post + rest)
                if closesFully { await client.close() } else { try await client.closeOutput() }
                let expected = closesFully ? 2 : 1
                try await eventually("the count") {
                    bench.gateway.counters.refused[GatewayRefusal(status: 400, reason: "truncated")] == expected
                }
                await client.close()
            }
        }
        #expect(bench.inbox.entries.isEmpty)
    }

    @Test func P10_slowHeadersAreEnded() async throws {
        let bench = Bench { $0.headerDeadlineSeconds = 0.3 }
        try await expectRefusal(bench, status: 408, reason: "headers_too_slow") { try await $0.send(Self.post + "X-Slow: ") }
    }

    @Test func P10_slowHeadersOfALaterRequestAreEnded() async throws {
        let bench = Bench { $0.headerDeadlineSeconds = 10 }
        try await bench.serving { port in
            let client = try await RawClient(port: port)
            #expect(try await client.answer(to: bench.httpRequest("{}")).status == 200)
            try await client.send(Self.post)
            #expect(try await client.answer().status == 408)
            await client.close()
        }
        #expect(bench.inbox.entries.count == 1)
    }

    @Test func P10_aConnectionThatSaysNothingIsEnded() async throws {
        let bench = Bench { $0.headerDeadlineSeconds = 0.2 }
        try await expectRefusal(bench, status: 408, reason: "headers_too_slow") { _ in }
    }

    @Test func P10_aSlowBodyIsEnded() async throws {
        let bench = Bench { $0.bodyDeadlineSeconds = 0.3 }
        try await expectRefusal(bench, status: 408, reason: "body_too_slow") {
            try await $0.send(Self.post + "Content-Length: 10\r\n\r\nabc")
        }
    }

    @Test func P10_anIdleConnectionIsClosed() async throws {
        let bench = Bench { $0.idleDeadlineSeconds = 0.2 }
        try await bench.serving { port in
            let client = try await RawClient(port: port)
            #expect(try await client.answer(to: bench.httpRequest("{}")).status == 200)
            try await eventually("the server to close") { client.isClosedByServer }
            #expect(client.received.isEmpty)
            await client.close()
        }
    }

    @Test(arguments: [
        String(repeating: "A: b\r\n", count: 101), "A: \(String(repeating: "x", count: 40_000))\r\n",
        (1...90).map { "A\($0): \(String(repeating: "x", count: 500))\r\n" }.joined(),
    ])
    func P10_tooManyOrTooLargeHeadersAreRefused(_ headers: String) async throws {
        try await expectRefusal(Bench(), status: 431, reason: "headers_too_large") { try await $0.send(Self.post + headers + "\r\n") }
    }

    @Test func whatIsNoHTTPIsRefused() async throws {
        try await expectRefusal(Bench(), status: 400, reason: "malformed") { try await $0.send("hello, is this a webhook?\r\n\r\n") }
    }

    @Test func aClientThatAsksFirstIsInvitedToSend() async throws {
        let bench = Bench()
        try await bench.serving { port in
            let client = try await RawClient(port: port)
            let body = "{}"
            let head = try #require(bench.httpRequest(body).splitOnce("\r\n\r\n")).0
            try await client.send("\(head)\r\nExpect: 100-continue\r\n\r\n")
            let invitation = try await client.answer()
            #expect(invitation.status == 100, "\(invitation)")
            #expect(try await client.answer(to: body).status == 200)
            await client.close()
        }
    }

    @Test func aClientThatWantsTheConnectionClosedGetsItClosed() async throws {
        let bench = Bench()
        try await bench.serving { port in
            for version in ["HTTP/1.1\r\nConnection: close", "HTTP/1.0"] {
                let client = try await RawClient(port: port)
                let request = bench.httpRequest("{}").splitOnce(" HTTP/1.1")!
                #expect(try await client.answer(to: request.0 + " " + version + request.1).status == 200)
                try await eventually("the server to close") { client.isClosedByServer }
                await client.close()
            }
        }
    }
}
