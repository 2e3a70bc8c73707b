import SluiceCore
import SluiceTesting
import Synchronization
import Testing

@testable import SluiceConnectors
@testable import SluicePolling

/// By which clock the times of tokens go: the machine's for others, one that nobody sets for how long they are used.
@Suite struct TokenClockTests {
    /// Set right by 40 days since the start.
    private static let ahead = Span.days(40)

    private struct Scene: Sendable {
        let time = ManualTime()
        let wall = ManualTime()
        let keeper: TokenKeeper
        let sent = Sent()

        final class Sent: Sendable {
            let bodies = Mutex<[String]>([])
        }

        init(_ use: TokenGrant.JWTUse) throws {
            wall.advance(by: TokenClockTests.ahead)
            let (time, wall, sent) = (self.time, self.wall, self.sent)
            let assertion = JWTAssertion(algorithm: .hs256, key: "secret", claims: [], lifetime: .minutes(20))
            let grant = TokenGrant(.jwt(assertion, use), tokenURL: "https://auth.test/token")
            keeper = TokenKeeper(
                TokenKeeper.Parts(
                    connection: ConnectionID(rawValue: 1), name: "shop",
                    request: TokenRequest(grant: grant, values: try JSONDocument(Array("{}".utf8)), secrets: []), credentials: nil,
                    send: { plan in
                        sent.bodies.withLock { $0.append(String(decoding: plan.body, as: UTF8.self)) }
                        let expiry = (wall.now() + .hours(1)).seconds
                        return HTTPReply(status: 200, headers: [], body: Array(#"{"access_token":"t1","expires_at":\#(expiry)}"#.utf8))
                    }, fence: { nil }, time: time, wallTime: wall, random: { 0 }, node: "n", begin: { _ in true }, after: { _, _ in {} }))
        }

        func advance(by span: Span) {
            for clock in [time, wall] { clock.advance(by: span) }
        }
    }

    private static func claims(_ jwt: some StringProtocol) throws -> JSONView {
        let part = try #require(jwt.split(separator: ".").dropFirst().first)
        let text = part.utf8.map { $0 == UInt8(ascii: "-") ? UInt8(ascii: "+") : $0 == UInt8(ascii: "_") ? UInt8(ascii: "/") : $0 }
        return try JSONDocument(try #require(Base64.decode(text))).root
    }

    @Test func aSelfMadeTokenSaysTheMachinesTime() async throws {
        let scene = try Scene(.accessToken)
        let issued = scene.wall.now() - .seconds(30)
        await scene.keeper.refresh()
        let token = try await scene.keeper.token()
        let claims = try Self.claims(token.value)
        #expect(claims["iat"]?.int64 == issued.seconds && claims["exp"]?.int64 == (issued + .minutes(20)).seconds)
        #expect(token.obtainedAt == scene.time.now())
        #expect(token.expiresAt == scene.time.now() + .minutes(20) - .seconds(30), "its life is counted by our clock")
        scene.advance(by: .minutes(18))
        #expect(try await scene.keeper.token() == token)
        scene.advance(by: .minutes(2))
        await scene.keeper.refresh()
        #expect(try await scene.keeper.token().expiresAt == scene.time.now() + .minutes(20) - .seconds(30))
    }

    @Test func anAssertionAndItsAnswerAreOfTheMachinesTime() async throws {
        let scene = try Scene(.grant)
        await scene.keeper.refresh()
        let body = try #require(scene.sent.bodies.withLock { $0.first })
        let assertion = try #require(body.split(separator: "&").first { $0.hasPrefix("assertion=") }).dropFirst("assertion=".count)
        #expect(try Self.claims(assertion)["iat"]?.int64 == (scene.wall.now() - .seconds(30)).seconds)
        let token = try await scene.keeper.token()
        #expect(token.obtainedAt == scene.time.now() && token.expiresAt == scene.time.now() + .hours(1), "\(token)")
        // A clock that is set right meanwhile makes it no older.
        scene.wall.advance(by: .days(1))
        scene.time.advance(by: .minutes(50))
        #expect(try await scene.keeper.token().value == "t1")
    }
}
