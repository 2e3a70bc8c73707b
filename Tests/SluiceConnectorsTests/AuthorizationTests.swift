import Crypto
import CryptoExtras
import SluiceCore
import Testing

@testable import SluiceConnectors

@Suite struct AuthorizationTests {
    static let now = Timestamp(seconds: 1_767_261_600)

    static func document(_ text: String) throws -> JSONDocument { try JSONDocument(Array(text.utf8)) }

    static func access(_ json: String) throws -> ConnectionAccess { try ConnectionAccess(json: try document(json)) }

    /// A token request of a description, with these values.
    static func request(_ authorization: String, _ values: String) throws -> TokenRequest {
        let access = try access(#"{"base_url":"https://api.example.com","authorization":{\#(authorization)}}"#)
        let grant = try #require(access.authorization?.grant)
        return TokenRequest(grant: grant, values: try document(values), secrets: ["s3cret&value"])
    }

    static func form(_ plan: HTTPRequestPlan) -> [String: String] {
        let pairs = String(decoding: plan.body, as: UTF8.self).split(separator: "&").map {
            $0.split(separator: "=", maxSplits: 1).map(String.init)
        }
        return Dictionary(pairs.map { ($0[0], $0.count > 1 ? $0[1] : "") }) { first, _ in first }
    }

    static func reply(_ status: Int, _ body: String, _ headers: [HTTPField] = []) -> HTTPReply {
        HTTPReply(status: status, headers: headers, body: Array(body.utf8))
    }

    // MARK: Reading

    @Test(arguments: [
        (#"{"authorization":{"bearer":"x","basic":{"user":"u"}}}"#, "exactly one of"),
        (#"{"authorization":{"api_key":{"value":"x"}}}"#, "give one of the two"),
        (#"{"authorization":{"api_key":{"header":"X Key","value":"x"}}}"#, "name of a header"),
        (#"{"authorization":{"oauth":{}}}"#, "means nothing here"),
        (#"{"authorization":{"oauth2_client_credentials":{"client_id":"a"}}}"#, "token_url is missing"),
        (#"{"authorization":{"oauth2_refresh_token":{"token_url":"https://a","refresh_token":"x{connection.t}"}}}"#, "must be one field"),
        (#"{"authorization":{"jwt_bearer":{"key":"k","token_url":"https://a","send_as":"access_token"}}}"#, "means nothing where"),
        (#"{"authorization":{"jwt_bearer":{"key":"k","algorithm":"none"}}}"#, "must be RS256, ES256, HS256"),
        (#"{"rate_limit":{"remaining":"X"}}"#, "go together"),
        (#"{"base_url":7}"#, "must be text"),
        (#"{"test":{"path":"/me","verb":"GET"}}"#, "means nothing here"),
    ])
    func whatIsWrongIsNamed(json: String, expected: String) throws {
        let error = #expect(throws: SluiceError.self) { _ = try Self.access(json) }
        #expect(error?.message.contains(expected) == true, "\(error?.message ?? "")")
    }

    @Test func fieldsOfAnAuthorizationMustBeDeclaredAndSecret() throws {
        let access = try Self.access(
            #"{"base_url":"https://a.example.com","authorization":{"api_key":{"header":"X-Key","value":"{connection.key}"}}}"#)
        #expect(access.problem(fields: [Field("key", isSecret: true)]) == nil)
        #expect(access.problem(fields: [Field("key")])?.contains("secret = true") == true)
        #expect(access.problem(fields: [])?.contains("{connection.key}") == true)
        let nowhere = try Self.access(#"{"authorization":{"bearer":"{connection.key}"}}"#)
        #expect(nowhere.problem(fields: [Field("key", isSecret: true)])?.contains("base_url") == true)
        let ofInput = try Self.access(#"{"base_url":"https://{input.host}"}"#)
        #expect(ofInput.problem(fields: [])?.contains("{input") == true)
    }

    // MARK: Applying

    @Test func credentialsGoToTheSameSchemeHostAndPortOnly() throws {
        let access = try Self.access(
            #"{"base_url":["{connection.site}","https://upload.example.com"],"authorization":{"bearer":"t"}}"#)
        let origins = access.origins(values: try Self.document(#"{"site":"https://API.example.com/v2/"}"#))
        for url in ["https://api.example.com/v1", "https://api.example.com:443", "https://upload.example.com/x?y"] {
            #expect(ConnectionAccess.allows(url, origins: origins), "\(url)")
        }
        for url in [
            "http://api.example.com/v1", "https://api.example.com:8443", "https://api.example.com.evil.net",
            "https://evil.net/api.example.com",
            "https://api.example.com@evil.net/", "ftp://api.example.com", "//api.example.com", "",
        ] {
            #expect(!ConnectionAccess.allows(url, origins: origins), "\(url)")
        }
    }

    @Test func arequestThatShowsWhoAsksStaysAsItIs() throws {
        let bearer = Authorization(.bearer("t"))
        #expect(bearer.isShown(by: HTTPRequestPlan(url: "https://a", headers: [HTTPField("authorization", "Basic x")])))
        #expect(!bearer.isShown(by: HTTPRequestPlan(url: "https://a", headers: [HTTPField("X-Key", "x")])))
        let query = Authorization(.apiKey(.init(place: .query("key"), value: "t")))
        #expect(query.isShown(by: HTTPRequestPlan(url: "https://a?b=1&key=2")))
        #expect(!query.isShown(by: HTTPRequestPlan(url: "https://a?monkey=2")))
        let values = try Self.document("{}")
        #expect(try query.applied(to: HTTPRequestPlan(url: "https://a?b=1"), values: values, accessToken: nil).url == "https://a?b=1&key=t")
        #expect(try query.applied(to: HTTPRequestPlan(url: "https://a"), values: values, accessToken: nil).url == "https://a?key=t")
        let broken = Authorization(.bearer("{connection.t}"))
        #expect(throws: PollFailure.self) {
            _ = try broken.applied(
                to: HTTPRequestPlan(url: "https://a"), values: try Self.document(#"{"t":"a\r\nX-Evil: 1"}"#), accessToken: nil)
        }
    }

    // MARK: Token requests

    /// RFC 6749, 4.4.2 and 2.3.1: the client's name and secret are form-encoded before they are joined.
    @Test func clientCredentialsAsTheStandardHasThem() throws {
        let request = try Self.request(
            #""oauth2_client_credentials":{"token_url":"https://auth.example.com/token","client_id":"{connection.id}","client_secret":"{connection.secret}","scopes":["read","write:all"],"audience":"https://api"}"#,
            #"{"id":"my:id","secret":"s3cret&value"}"#)
        let plan = try request.plan(refreshToken: nil, at: Self.now, nonce: "n")
        #expect(plan.method == "POST" && plan.url == "https://auth.example.com/token" && plan.acceptsAnyStatus)
        #expect(
            Self.form(plan) == [
                "grant_type": "client_credentials", "scope": "read%20write%3Aall", "audience": "https%3A%2F%2Fapi",
            ])
        #expect(plan.headers.first("Authorization") == "Basic " + Base64.encode("my%3Aid:s3cret%26value".utf8))
        #expect(plan.headers.first("Content-Type") == "application/x-www-form-urlencoded")
    }

    /// Zoom's server-to-server apps: another grant type and one more parameter.
    @Test func accountCredentialsAreClientCredentialsWithAnotherName() throws {
        let request = try Self.request(
            #""oauth2_client_credentials":{"token_url":"https://zoom.us/oauth/token","grant_type":"account_credentials","client_id":"c","client_secret":"d","parameters":{"account_id":"{connection.account}"}}"#,
            #"{"account":"A1"}"#)
        let form = Self.form(try request.plan(refreshToken: nil, at: Self.now, nonce: "n"))
        #expect(form == ["grant_type": "account_credentials", "account_id": "A1"])
    }

    @Test func aRefreshTokenIsSentInTheBody() throws {
        let request = try Self.request(
            #""oauth2_refresh_token":{"token_url":"https://a.example.com/t","client_id":"c","client_secret":"{connection.secret}","client_auth":"post","refresh_token":"{connection.token}"}"#,
            #"{"secret":"s3cret&value","token":"seed"}"#)
        #expect(try request.seedToken() == "seed" && request.refreshTokenField == "token")
        let plan = try request.plan(refreshToken: "r/1", at: Self.now, nonce: "n")
        #expect(
            Self.form(plan) == [
                "grant_type": "refresh_token", "refresh_token": "r%2F1", "client_id": "c", "client_secret": "s3cret%26value",
            ])
        #expect(plan.headers.first("Authorization") == nil)
    }

    // MARK: Assertions

    /// The parts of a JWT as JSON, and what was signed.
    static func parts(_ jwt: String) throws -> (header: JSONView, claims: JSONView, content: [UInt8], signature: [UInt8]) {
        let parts = jwt.split(separator: ".", omittingEmptySubsequences: false).map { part in
            Base64.decode(
                Array(part.utf8).map { $0 == UInt8(ascii: "-") ? UInt8(ascii: "+") : $0 == UInt8(ascii: "_") ? UInt8(ascii: "/") : $0 })
        }
        #expect(parts.count == 3)
        let content = jwt[..<(jwt.lastIndex(of: ".") ?? jwt.endIndex)]
        return (
            try JSONDocument(try #require(parts[0])).root, try JSONDocument(try #require(parts[1])).root, Array(content.utf8),
            try #require(parts[2])
        )
    }

    static func quoted(_ text: String) -> String {
        var bytes: [UInt8] = []
        JSONWriter.append(text, to: &bytes)
        return String(decoding: bytes, as: UTF8.self)
    }

    /// As Google's service accounts ask: RFC 7523, 2.1 with RS256. The PEM with real line breaks, and with written ones.
    @Test(arguments: [false, true]) func anAssertionIsSignedWithRSA(isFolded: Bool) throws {
        let key = try _RSA.Signing.PrivateKey(keySize: .bits2048)
        var pem = key.pemRepresentation
        if isFolded { pem = pem.split(separator: "\n", omittingEmptySubsequences: false).joined(separator: "\\n") }
        let request = try Self.request(
            #""jwt_bearer":{"token_url":"https://oauth2.example.com/token","key":"{connection.key}","key_id":"k1","assertion_lifetime_seconds":3600,"claims":{"iss":"{connection.mail}","scope":"read","aud":"https://oauth2.example.com/token","level":3}}"#,
            #"{"mail":"robot@example.com","key":\#(Self.quoted(pem))}"#)
        let form = Self.form(try request.plan(refreshToken: nil, at: Self.now, nonce: "nonce1"))
        #expect(form["grant_type"] == "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer")
        let (header, claims, content, signature) = try Self.parts(try #require(form["assertion"]))
        #expect(header["alg"]?.string == "RS256" && header["kid"]?.string == "k1" && header["typ"]?.string == "JWT")
        #expect(claims["iss"]?.string == "robot@example.com" && claims["level"]?.int64 == 3 && claims["jti"]?.string == "nonce1")
        #expect(claims["iat"]?.int64 == Self.now.seconds - 30 && claims["exp"]?.int64 == Self.now.seconds - 30 + 3600)
        #expect(
            key.publicKey.isValidSignature(
                _RSA.Signing.RSASignature(rawRepresentation: signature), for: content, padding: .insecurePKCS1v1_5))
    }

    /// As GitHub Apps ask: the assertion in the header, an empty body, and an answer with names of its own.
    @Test func anAssertionMayStandInTheHeader() throws {
        let key = try _RSA.Signing.PrivateKey(keySize: .bits2048)
        let request = try Self.request(
            #""jwt_bearer":{"token_url":"https://api.github.com/app/installations/{connection.installation}/access_tokens","send_as":"bearer","key":"{connection.key}","backdate_seconds":60,"claims":{"iss":"{connection.app}"},"answer":{"access_token":"token"}}"#,
            #"{"installation":42,"app":"7","key":\#(Self.quoted(key.pemRepresentation))}"#)
        let plan = try request.plan(refreshToken: nil, at: Self.now, nonce: "n")
        #expect(plan.url == "https://api.github.com/app/installations/42/access_tokens" && plan.body.isEmpty)
        #expect(plan.headers.first("Authorization")?.hasPrefix("Bearer ey") == true)
        let answer = try request.outcome(
            of: Self.reply(201, #"{"token":"ghs_x","expires_at":"2026-01-01T11:00:00Z"}"#), spent: nil, at: Self.now
        ).get()
        #expect(answer.access.value == "ghs_x" && answer.access.expiresAt == Timestamp(seconds: 1_767_265_200))
    }

    @Test func anAssertionMayBeTheAccessToken() throws {
        let key = P256.Signing.PrivateKey()
        let request = try Self.request(
            #""jwt_bearer":{"algorithm":"ES256","key":"{connection.key}","assertion_lifetime_seconds":1200,"claims":{"iss":"x"}}"#,
            #"{"key":\#(Self.quoted(key.pemRepresentation))}"#)
        let token = try #require(try request.selfMade(at: Self.now, nonce: "n"))
        #expect(token.expiresAt == Self.now + .seconds(1170))
        let (header, _, content, signature) = try Self.parts(token.value)
        #expect(header["alg"]?.string == "ES256")
        #expect(key.publicKey.isValidSignature(try P256.Signing.ECDSASignature(rawRepresentation: signature), for: content))
    }

    @Test func aClientAssertionWithASharedSecret() throws {
        let request = try Self.request(
            #""jwt_bearer":{"token_url":"https://a.example.com/t","send_as":"client_assertion","algorithm":"HS256","key":"{connection.key}","client_id":"c","claims":{"sub":"c"}}"#,
            #"{"key":"s3cret&value"}"#)
        let form = Self.form(try request.plan(refreshToken: nil, at: Self.now, nonce: "n"))
        #expect(form["grant_type"] == "client_credentials" && form["client_id"] == "c")
        let (_, _, content, signature) = try Self.parts(try #require(form["client_assertion"]))
        #expect(
            HMAC<SHA256>.isValidAuthenticationCode(
                signature, authenticating: content, using: SymmetricKey(data: Array("s3cret&value".utf8))))
    }

    @Test(arguments: ["no key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", ""])
    func aKeyThatIsNoneIsSaidAndNotQuoted(key: String) throws {
        for algorithm in ["RS256", "ES256"] {
            let request = try Self.request(
                #""jwt_bearer":{"token_url":"https://a.example.com/t","algorithm":"\#(algorithm)","key":"{connection.key}"}"#,
                #"{"key":\#(Self.quoted(key))}"#)
            let failure = try #require(throws: PollFailure.self) { _ = try request.plan(refreshToken: nil, at: Self.now, nonce: "n") }
            #expect(failure.kind == .permanent && (key.isEmpty || !failure.error.message.contains(key)))
        }
    }

    // MARK: Answers

    @Test func whatAnAnswerMeans() throws {
        let request = try Self.request(
            #""oauth2_refresh_token":{"token_url":"https://a.example.com/t","client_id":"c","refresh_token":"{connection.token}","token_lifetime_seconds":900}"#,
            #"{"token":"seed"}"#)
        func outcome(_ status: Int, _ body: String, _ headers: [HTTPField] = []) -> Result<TokenAnswer, TokenFailure> {
            request.outcome(of: Self.reply(status, body, headers), spent: "spent-token", at: Self.now)
        }
        let answer = try outcome(200, #"{"access_token":"a","refresh_token":"r","expires_in":"3600"}"#).get()
        #expect(answer.refreshToken == "r" && answer.access.expiresAt == Self.now + .hours(1), "some write numbers as text")
        let brief = try outcome(200, #"{"access_token":"a"}"#).get()
        #expect(brief.refreshToken == nil && brief.access.expiresAt == Self.now + .minutes(15))

        func kind(_ status: Int, _ body: String, _ headers: [HTTPField] = []) -> TokenFailure.Kind? {
            if case .failure(let failure) = outcome(status, body, headers) { failure.kind } else { nil }
        }
        #expect(kind(400, #"{"error":"invalid_grant"}"#) == .invalidGrant)
        #expect(kind(200, #"{"error":"bad_refresh_token"}"#) == .invalidGrant, "GitHub says it with 200")
        #expect(kind(200, #"{"ok":false,"error":"invalid_refresh_token"}"#) == .invalidGrant, "Slack too")
        #expect(kind(401, #"{"error":"invalid_client"}"#) == .refused)
        #expect(kind(404, "<html>") == .refused)
        #expect(kind(200, "<html>") == .refused)
        #expect(kind(302, "") == .refused)
        for status in [408, 429, 500, 502, 503] { #expect(kind(status, "") == .transient, "\(status)") }
        #expect(kind(400, #"{"error":"temporarily_unavailable"}"#) == .transient)
        #expect(kind(200, "{\"access_token\":\"a\\nb\"}") == .transient, "it would break the header")
        guard case .failure(let limited) = outcome(429, "{}", [HTTPField("Retry-After", "70")]) else { return }
        #expect(limited.retryAfter == .seconds(70))
    }

    @Test func anErrorQuotesNoSecretAndNothingElseOfTheAnswer() throws {
        let request = try Self.request(
            #""oauth2_refresh_token":{"token_url":"https://a.example.com/t","client_id":"c","refresh_token":"{connection.token}"}"#,
            #"{"token":"seed"}"#)
        let body = #"{"error":"invalid_grant","error_description":"s3cret&value and s3cret%26value and spent-token\u0007","trace":"t"}"#
        guard case .failure(let failure) = request.outcome(of: Self.reply(400, body), spent: "spent-token", at: Self.now) else {
            Issue.record("granted")
            return
        }
        let message = failure.error.description
        #expect(message.contains("invalid_grant") && message.contains("[secret] and [secret] and [secret])"), "\(message)")
        #expect(!message.contains("s3cret") && !message.contains("spent-token") && !message.contains("trace"), "\(message)")
        let long = #"{"error":"\#(String(repeating: "x", count: 5000))","error_description":"\#(String(repeating: "y", count: 5000))"}"#
        guard case .failure(let cut) = request.outcome(of: Self.reply(400, long), spent: nil, at: Self.now) else { return }
        #expect(cut.error.message.utf8.count < 600)
    }
}
