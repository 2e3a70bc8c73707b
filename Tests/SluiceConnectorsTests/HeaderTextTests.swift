import SluiceCore
import Testing

@testable import SluiceConnectors

/// A field's value that would end a header and begin another is sent by nobody.
@Suite struct HeaderTextTests {
    private static let hostile = #"k\r\nX-Admin: 1"#

    private func expectRefused(_ body: () async throws -> Void) async {
        let failed = await failure(body)
        #expect(failed?.kind == .permanent && failed?.error.message.contains("would hold a control character") == true)
        #expect(failed?.error.message.contains("X-Admin") == false, "it is not quoted")
    }

    @Test func noValueBreaksOutOfItsHeader() async throws {
        let replies = Replies { _, _ in Replies.ok(#"{"items":[]}"#) }
        var reader = try Reader(items(#""headers":{"X-Key":"{connection.key}"}"#), replies)
        reader.connection = "{\"key\":\"\(Self.hostile)\"}"
        let poll = reader
        await expectRefused {
            var reader = poll
            try await reader.cycle()
        }
        let rules = try SubscriptionRulesTests.rules(SubscriptionRulesTests.github)
        var request = try SubscriptionRulesTests.request()
        request.connection = try JSONDocument(Array("{\"token\":\"\(Self.hostile)\"}".utf8))
        let asked = request
        let script = SubscriptionRulesTests.Script([(201, #"{"id":1}"#)])
        await expectRefused { _ = try await rules.subscribe(asked, http: script) }
        let token = try AuthorizationTests.request(
            #""oauth2_client_credentials":{"token_url":"https://a.example.com/t","client_id":"c","client_secret":"d","headers":{"X-Key":"{connection.key}"}}"#,
            "{\"key\":\"\(Self.hostile)\"}")
        await expectRefused { _ = try token.plan(refreshToken: nil, at: AuthorizationTests.now, nonce: "n") }
        #expect(replies.requests.isEmpty && script.asked.isEmpty)
    }

    @Test func aTabIsPartOfAValue() throws {
        #expect(try HeaderText.checked("a\tb ü", "X") == "a\tb ü")
        for byte in ["\u{0}", "\n", "\r", "\u{1F}", "\u{7F}"] {
            #expect(throws: PollFailure.self) { try HeaderText.checked("a\(byte)b", "X") }
        }
    }
}
