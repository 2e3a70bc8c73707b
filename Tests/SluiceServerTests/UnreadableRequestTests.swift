import SluiceCore
import Testing

@testable import SluiceServer

/// Requests that are no HTTP, or end too early, on the real listener: their senders get JSON as well.
@Suite(.timeLimit(.minutes(10))) struct UnreadableRequestTests {
    @Test(arguments: [
        "GET /v1/health HTTP/1.1\r\nHost: localhost\r\nno header\r\n\r\n",
        "GET /v1/health HTTP/1.1\r\nHost: localhost\r\nX-Long: \(String(repeating: "x", count: 100_000))\r\n\r\n",
        "GET /v1/\u{1}health HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /v1/health HTTP/7.1\r\nHost: localhost\r\n\r\n",
        "QUATSCH/ /v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "POST /v1/apply HTTP/1.1\r\nHost: localhost\r\nContent-Length: -3\r\n\r\n{}",
        "POST /v1/apply HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    ]) func isAnsweredInJSON(_ request: String) async throws {
        try await CallerTests.withServer { port, _, _ in
            let client = try RawClient(port: port)
            defer { client.close() }
            client.send(request)
            let answer = try await client.answer()
            #expect(answer.hasPrefix("HTTP/1.1 400 "), "\(answer)")
            #expect(answer.lowercased().contains("content-type: application/json"), "\(answer)")
            let body = try #require(answer.split(separator: "\r\n\r\n").dropFirst().first)
            let value = try JSONDocument(Array(body.utf8)).root
            #expect(value["error"]?["code"]?.string == "invalid", "\(answer)")
            #expect(answer.lowercased().contains("content-length: \(body.utf8.count)\r\n"), "\(answer)")
        }
    }

    @Test func aBodyThatBreaksOffIsNotCalledTooLarge() async throws {
        try await CallerTests.withServer { port, _, _ in
            let client = try RawClient(port: port)
            defer { client.close() }
            client.send("POST /v1/apply HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
            client.end(.halfClosed)
            let answer = try await client.answer()
            #expect(answer.hasPrefix("HTTP/1.1 400 ") && answer.contains("\"code\":\"invalid\""), "\(answer)")
        }
    }

    @Test func aBodyThatIsTooLargeIsCalledSo() async throws {
        try await CallerTests.withServer { port, _, _ in
            let client = try RawClient(port: port)
            defer { client.close() }
            client.send("POST /v1/apply HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n{")
            let answer = try await client.answer(until: "}\n")
            #expect(answer.hasPrefix("HTTP/1.1 413 "), "\(answer)")
        }
    }
}
