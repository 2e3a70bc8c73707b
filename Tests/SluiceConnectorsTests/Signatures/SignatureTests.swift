import Crypto
import SluiceCore
import Testing

@testable import SluiceConnectors

/// One request that a provider or its library signed, and the moment at which it was fresh.
struct SignatureVector: Sendable, CustomTestStringConvertible {
    var scheme: String
    var secret: String
    var headers: [HTTPField]
    var body: String
    var nowSeconds: Int64
    /// The header that holds the signature, and which part of it every byte of matters.
    var signatureHeader: String
    var signaturePrefix: String
    var timestampHeader: String?
    var headerName: String?

    var testDescription: String { "\(scheme) \(signatureHeader)" }
    var request: WebhookRequest {
        WebhookRequest(method: "POST", path: "/in/x", query: "", headers: headers, body: Array(body.utf8))
    }

    func verdict(
        _ request: WebhookRequest? = nil, secrets: [String]? = nil, laterSeconds: Int64 = 0
    ) -> Verdict {
        SignatureScheme.named(scheme)!.verify(
            request ?? self.request, secrets: secrets ?? [secret], now: Timestamp(seconds: nowSeconds + laterSeconds),
            options: SchemeOptions(headerName: headerName))
    }

    /// The request with another value in a header.
    func with(_ name: String, _ value: String) -> WebhookRequest {
        var copy = request
        copy.headers = copy.headers.map { $0.name == name ? HTTPField(name, value) : $0 }
        return copy
    }

    // Published by svix-webhooks and its libraries, by GitHub ("Validating webhook deliveries"); Stripe's from the secret
    // and body of stripe-python's tests; the two shared secrets are plain comparisons.
    static let standardWebhooks = SignatureVector(
        scheme: "standard-webhooks", secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        headers: [
            HTTPField("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"), HTTPField("webhook-timestamp", "1614265330"),
            HTTPField("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
        ],
        body: #"{"test": 2432232314}"#, nowSeconds: 1_614_265_330, signatureHeader: "webhook-signature", signaturePrefix: "",
        timestampHeader: "webhook-timestamp")
    static let svix = SignatureVector(
        scheme: "standard-webhooks", secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        headers: [
            HTTPField("svix-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"), HTTPField("svix-timestamp", "1614265330"),
            HTTPField("svix-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
        ],
        body: #"{"test": 2432232314}"#, nowSeconds: 1_614_265_330, signatureHeader: "svix-signature", signaturePrefix: "",
        timestampHeader: "svix-timestamp")
    static let stripe = SignatureVector(
        scheme: "stripe", secret: "whsec_test_secret",
        headers: [
            HTTPField("Stripe-Signature", "t=12345,v1=07b1ede164afb7b5de91267ffa656f568c65d6e0783ce0ac55ee094643578eda")
        ],
        body: """
            {
              "id": "evt_test_webhook",
              "object": "event",
              "data": { "object": { "id": "rdr_123", "object": "terminal.reader" } }
            }
            """,
        nowSeconds: 12345, signatureHeader: "Stripe-Signature", signaturePrefix: "", timestampHeader: nil)
    static let github = SignatureVector(
        scheme: "github", secret: "It's a Secret to Everybody",
        headers: [HTTPField("X-Hub-Signature-256", "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17")],
        body: "Hello, World!", nowSeconds: 0, signatureHeader: "X-Hub-Signature-256", signaturePrefix: "", timestampHeader: nil)
    static let basicAuth = SignatureVector(
        scheme: "basic-auth", secret: "Aladdin:open sesame:1",
        headers: [HTTPField("Authorization", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZTox")], body: "{}", nowSeconds: 0,
        signatureHeader: "Authorization", signaturePrefix: "Basic ", timestampHeader: nil)
    static let headerToken = SignatureVector(
        scheme: "header-token", secret: "tok-123", headers: [HTTPField("X-Gitlab-Token", "tok-123")], body: "{}", nowSeconds: 0,
        signatureHeader: "X-Gitlab-Token", signaturePrefix: "", timestampHeader: nil, headerName: "X-Gitlab-Token")

    static let signing = [standardWebhooks, svix, stripe, github]
    static let all = signing + [basicAuth, headerToken]
}

@Suite struct SignatureTests {
    @Test(arguments: SignatureVector.all) func P8_publishedVectorsVerify(_ vector: SignatureVector) {
        #expect(vector.verdict() == .valid)
        #expect(vector.verdict(secrets: ["another:secret", vector.secret]) == .valid)
        #expect(isRefused(vector.verdict(secrets: ["another:secret"]), .mismatch))
    }

    @Test(arguments: SignatureVector.signing) func P8_everyChangedByteOfTheBodyIsRefused(_ vector: SignatureVector) {
        var request = vector.request
        for index in request.body.indices {
            for flip: UInt8 in [0x01, 0x20, 0x80] {
                request.body[index] ^= flip
                #expect(isRefused(vector.verdict(request), .mismatch), "byte \(index)")
                request.body[index] ^= flip
            }
        }
        for body in [Array(request.body.dropLast()), request.body + [0x20], []] {
            request.body = body
            #expect(isRefused(vector.verdict(request), .mismatch))
        }
    }

    @Test(arguments: SignatureVector.all) func P8_everyChangedByteOfTheSignatureIsRefused(_ vector: SignatureVector) {
        let original = Array(vector.request.header(vector.signatureHeader)!.utf8)
        for index in vector.signaturePrefix.utf8.count..<original.count {
            for flip: UInt8 in [0x01, 0x02, 0x20] {
                var changed = original
                changed[index] ^= flip
                let verdict = vector.verdict(vector.with(vector.signatureHeader, String(decoding: changed, as: UTF8.self)))
                #expect(verdict != .valid, "byte \(index) flipped by \(flip)")
            }
        }
        #expect(vector.verdict(vector.with(vector.signatureHeader, String(decoding: original.dropLast(), as: UTF8.self))) != .valid)
    }

    @Test(arguments: [SignatureVector.standardWebhooks, .svix]) func P8_everyChangedByteOfTheTimestampIsRefused(_ vector: SignatureVector) {
        let name = vector.timestampHeader!
        let original = Array(vector.request.header(name)!.utf8)
        for index in original.indices {
            for digit in UInt8(ascii: "0")...UInt8(ascii: "9") where digit != original[index] {
                var changed = original
                changed[index] = digit
                #expect(vector.verdict(vector.with(name, String(decoding: changed, as: UTF8.self))) != .valid)
            }
        }
        // Within the tolerance only the signature can tell.
        #expect(isRefused(vector.verdict(vector.with(name, "1614265331")), .mismatch))
    }

    @Test(arguments: [SignatureVector.standardWebhooks, .svix, .stripe]) func P8_toleranceHoldsInBothDirections(_ vector: SignatureVector) {
        #expect(vector.verdict(laterSeconds: 300) == .valid)
        #expect(vector.verdict(laterSeconds: -300) == .valid)
        #expect(isRefused(vector.verdict(laterSeconds: 301), .stale, saying: "301 s"))
        #expect(isRefused(vector.verdict(laterSeconds: -301), .fromTheFuture, saying: "301 s"))
    }

    @Test(arguments: SignatureVector.all) func P8_malformedHeadersAreRefusals(_ vector: SignatureVector) {
        let name = vector.signatureHeader
        var missing = vector.request
        missing.headers.removeAll()
        #expect(isRefused(vector.verdict(missing), .missingHeader))
        var twice = vector.request
        twice.headers.append(twice.headers.first { $0.name == name }!)
        #expect(isRefused(vector.verdict(twice), .malformedHeader, saying: "more than once"))
        #expect(isRefused(vector.verdict(vector.with(name, "")), .malformedHeader, saying: "empty"))
        #expect(isRefused(vector.verdict(vector.with(name, String(repeating: "v1,", count: 34_000))), .malformedHeader))
        let odd = [
            ",", "=", "t=", "t=,v1=", "t=99999999999999999999999999,v1=00", "t=-1,v1=00", "t=1,t=1,v1=00", "v1,", "v1,====", "v1,é",
            "sha256=", "sha256=zz", "Basic", "Basic ", "Basic =", "Basic !!!!", "\u{0}", "v1, v1, v1,",
            "sha256=" + String(repeating: "é", count: 32),
        ]
        for text in odd { #expect(vector.verdict(vector.with(name, text)) != .valid, "\(text)") }
    }

    @Test(arguments: ["", "-5", "1e9", "99999999999999999999999999", "9223372036854775807", " 1614265330", "１６１４２６５３３０"])
    func P8_oddTimestampsAreRefusals(_ text: String) {
        let vector = SignatureVector.standardWebhooks
        #expect(isRefused(vector.verdict(vector.with("webhook-timestamp", text)), .malformedHeader))
    }

    @Test(arguments: SignatureVector.all) func P8_emptySecretsNeverVerify(_ vector: SignatureVector) {
        #expect(isRefused(vector.verdict(secrets: []), .noSecret))
        #expect(isRefused(vector.verdict(secrets: [""]), .noSecret))
        if vector.scheme == "standard-webhooks" {
            #expect(isRefused(vector.verdict(secrets: ["whsec_"]), .noSecret))
            #expect(isRefused(vector.verdict(secrets: ["whsec_not base64!"]), .noSecret))
        }
    }

    @Test func P8_aPointInTheIdIsRefused() {
        let vector = SignatureVector.standardWebhooks
        #expect(isRefused(vector.verdict(vector.with("webhook-id", "a.b")), .malformedHeader, saying: "webhook-id"))
    }

    @Test func refusalsKeepSecretsAndExpectedSignaturesToThemselves() {
        for vector in SignatureVector.all {
            guard case .refused(let refusal) = vector.verdict(secrets: ["my-secret:hidden"]) else {
                Issue.record("\(vector.scheme) took a wrong secret")
                continue
            }
            #expect(!refusal.message.contains("my-secret"))
            #expect(!refusal.message.contains(vector.secret))
        }
    }

    @Test func signerAndSchemeAgreeThroughARotation() throws {
        let old = WebhookSigner.newSymmetricSecret(randomBytes: Array(1...24))
        let new = WebhookSigner.newSymmetricSecret(randomBytes: Array(101...164))
        let now = Timestamp(milliseconds: 1_700_000_000_900)
        let body = Array(#"{"ok":true}"#.utf8)
        let signature = try WebhookSigner([SigningSecret(new), SigningSecret(old)]).sign(id: "job_1", timestamp: now, body: body)
        #expect(signature.split(separator: " ").count == 2)
        let headers = [
            HTTPField("webhook-id", "job_1"), HTTPField("webhook-timestamp", "1700000000"), HTTPField("webhook-signature", signature),
        ]
        let request = WebhookRequest(method: "POST", path: "/", query: "", headers: headers, body: body)
        let scheme = SignatureScheme.named("standard-webhooks")!
        for secret in [old, new] {
            #expect(scheme.verify(request, secrets: [secret], now: now) == .valid)
        }
        #expect(isRefused(scheme.verify(request, secrets: ["other"], now: now), .mismatch))
        let vector = SignatureVector.standardWebhooks
        #expect(
            try WebhookSigner([SigningSecret(vector.secret)]).sign(
                id: "msg_p5jXN8AQM9LWM0D4loKWxJek", timestamp: Timestamp(seconds: vector.nowSeconds), body: Array(vector.body.utf8))
                == vector.headers[2].value)
    }

    @Test func longKeysAreHashedFirst() {
        // RFC 4231, test case 6: a key of 131 bytes.
        let code = HMACSHA256.code(
            key: Array(repeating: 0xAA, count: 131), [], Array("Test Using Larger Than Block-Size Key - Hash Key First".utf8))
        #expect(Hex.text(code) == "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54")
    }

    /// Keys of each length beside the block's, against swift-crypto's own HMAC.
    @Test func keysOfEachLengthAreTaken() {
        for length in 0...130 {
            let key = (0..<length).map { UInt8(truncatingIfNeeded: $0 &* 37 &+ 11) }
            let (first, body) = (Array("1700000000.".utf8), (0..<length * 3).map { UInt8(truncatingIfNeeded: $0) })
            let expected = Array(HMAC<SHA256>.authenticationCode(for: first + body, using: SymmetricKey(data: key)))
            #expect(HMACSHA256.bytes(HMACSHA256.code(key: key, first, body)) == expected)
            #expect(HMACSHA256.bytes(HMACSHA256.code(key: key, [first, body])) == expected)
            #expect(HMACSHA256.bytes(HMACSHA256.Key(key).code(first, body)) == expected)
        }
    }

    /// One text stands for one code: each other byte at each place is refused.
    @Test func codesInHexAreCanonical() {
        let digits = Array("000102030405060708090a0b0c0d0e0ff0e0d0c0b0a090807060504030201000".utf8)
        #expect(Hex.code(digits).map(HMACSHA256.bytes) == Hex.bytes(digits))
        for place in digits.indices {
            for byte in UInt8.min...UInt8.max {
                var text = digits
                text[place] = byte
                let isDigit = (0x30...0x39).contains(byte) || (0x61...0x66).contains(byte)
                #expect((Hex.code(text) != nil) == isDigit && (!isDigit || Hex.code(text).map(HMACSHA256.bytes) == Hex.bytes(text)))
            }
        }
        #expect(Hex.code(digits.dropLast()) == nil && Hex.code(digits + [0x30]) == nil && Hex.code([UInt8]()) == nil)
    }

    @Test func base64IsCanonical() {
        for (plain, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")] {
            #expect(Base64.encode(Array(plain.utf8)) == text)
            #expect(Base64.decode(text.utf8) == Array(plain.utf8))
        }
        #expect(Base64.decode("Zg".utf8) == Array("f".utf8))
        for bad in ["Z", "Zh==", "Zg=", "=", "Zg==Zg==", "Z g=", "Zm9=", "é"] { #expect(Base64.decode(bad.utf8) == nil, "\(bad)") }
    }

    @Test func schemesAreKnownByName() {
        let names = SignatureScheme.all.map(\.name)
        #expect(names.count == 61 && Set(names).count == names.count && names.last == "none")
        for name in ["standard-webhooks", "stripe", "github", "basic-auth", "header-token", "none"] { #expect(names.contains(name)) }
        #expect(SignatureScheme.named("sha1") == nil)
        #expect(SignatureScheme.all.filter { !$0.isSafe }.map(\.name) == ["none"])
    }
}

func isRefused(_ verdict: Verdict, _ reason: Refusal.Reason, saying text: String = "") -> Bool {
    guard case .refused(let refusal) = verdict else { return false }
    return refusal.reason == reason && (text.isEmpty || refusal.message.contains(text))
}
