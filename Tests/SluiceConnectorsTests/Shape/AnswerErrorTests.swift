import SluiceCore
import Testing

@testable import SluiceConnectors

/// Errors that come with status 200: they are shown, and each calls for what its kind calls for.
@Suite struct AnswerErrorTests {
    private static let rules =
        #""error":{"path":"error","expired":["invalid_cursor"],"unauthorized":["invalid_auth","missing_scope"],"transient":"internal_error"},"#
        + #""pagination":{"token":{"from":"next","parameter":"t"}}"#

    private func failing(_ answer: String, onPage page: Int) async throws -> PollFailure? {
        let http = Replies { _, number in
            Replies.ok(
                number == page
                    ? answer : #"{"items":[{"id":\#(number),"at":5}],"error":\#(number == 1 ? "null" : "\"\""),"next":"n\#(number)"}"#)
        }
        var reader = try Reader(items(Self.rules), http)
        let thrown = await failure { try await reader.cycle() }
        #expect(http.requests.count == page)
        return thrown
    }

    @Test(
        arguments: [
            ("invalid_auth", 1, .unauthorized), ("missing_scope", 2, .unauthorized), ("internal_error", 1, .transient),
            ("invalid_cursor", 3, .pageStateExpired), ("invalid_cursor", 1, .permanent), ("not_in_channel", 1, .permanent),
        ] as [(String, Int, PollFailure.Kind)])
    func anErrorIsShownAndHasItsKind(_ word: String, _ page: Int, _ kind: PollFailure.Kind) async throws {
        let failure = try #require(try await failing(#"{"ok":false,"error":"\#(word)"}"#, onPage: page))
        #expect(failure.kind == kind && failure.error.message.contains(word), "\(failure)")
    }

    /// Also one that is no text, and never more of it than people read.
    @Test func anyErrorIsShown() async throws {
        #expect(try await failing(#"{"error":{"code":7}}"#, onPage: 1)?.error.message.contains("code") == true)
        #expect(try await failing(#"{"error":1301}"#, onPage: 1)?.error.message.contains("1301") == true)
        let long = try #require(try await failing(#"{"error":"\#(String(repeating: "x", count: 5000))"}"#, onPage: 1))
        #expect(long.error.message.count < 400)
    }

    @Test func aMalformedPartIsRefused() {
        #expect(refusal(items(#""error":{"expired":"x"}"#))?.contains("error.path is missing") == true)
        #expect(refusal(items(#""error":{"path":"e","expired":7}"#))?.contains("error.expired") == true)
        #expect(refusal(items(#""error":{"path":"e","expird":"x"}"#))?.contains("expird") == true)
    }
}
