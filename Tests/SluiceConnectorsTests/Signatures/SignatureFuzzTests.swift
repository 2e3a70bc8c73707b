import SluiceCore
import Testing

@testable import SluiceConnectors

/// Whatever stands in the headers and the body: a refusal, never a trap and never a yes.
@Suite struct SignatureFuzzTests {
    @Test(arguments: SignatureFixture.all) func P8_malformedRequestsAreRefusals(_ fixture: SignatureFixture) {
        var random = SeededRandom(state: UInt64(fixture.name.utf8.reduce(1) { $0 &* 31 &+ Int($1) }.magnitude))
        for _ in 0..<250 {
            var request = fixture.request
            // A scheme that reads headers gets more of them, too.
            for name in fixture.signatureScheme.summary.headers where Int.random(in: 0..<8, using: &random) == 0 {
                request.headers.append(HTTPField(name, String(UInt64.random(in: 0...UInt64.max, using: &random), radix: 36)))
            }
            for _ in 0...Int.random(in: 0...3, using: &random) { Mutations.disturb(&request, &random) }
            if Int.random(in: 0..<3, using: &random) == 0 { disturbBody(&request, &random) }
            if Int.random(in: 0..<4, using: &random) == 0 {
                request.url = String(decoding: (0..<20).map { _ in UInt8.random(in: 0...255, using: &random) }, as: UTF8.self)
            }
            let now = Timestamp(milliseconds: Int64.random(in: 0...4_000_000_000_000, using: &random))
            let verdict = fixture.verdict(request, secrets: [fixture.wrongSecret], now: Bool.random(using: &random) ? now : fixture.now)
            guard case .refused(let refusal) = verdict else {
                Issue.record("\(fixture.name) took \(request)")
                continue
            }
            #expect(!refusal.message.isEmpty && refusal.message.utf8.count < 600)
            for secret in fixture.secrets where secret.utf8.count > 7 { #expect(!refusal.message.contains(secret)) }
        }
    }

    private func disturbBody(_ request: inout WebhookRequest, _ random: inout SeededRandom) {
        let place = Int.random(in: 0...request.body.count, using: &random)
        switch Int.random(in: 0..<6, using: &random) {
        case 0: request.body = []
        case 1: request.body = Array(request.body[..<place])
        case 2: request.body.insert(contentsOf: Array(#"{"a":["#.utf8), at: place)
        case 3: request.body = (0..<place).map { _ in UInt8.random(in: 0...255, using: &random) }
        case 4: request.body = Array(String(repeating: "[", count: 5000).utf8)
        default: request.body.insert(0xFF, at: place)
        }
    }

    /// Secrets that are no keys are no key, and keys of another kind never match.
    @Test(arguments: SignatureFixture.all) func P8_oddSecretsNeverVerify(_ fixture: SignatureFixture) {
        let texts = [
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----",
            "-----BEGIN ", "{", "{\"keys\":[]}", "{\"keys\":[{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQAB\"}]}", "whsec_", "whpk_", "é",
            " ", ":",
            String(repeating: "A", count: 100_000), "MIIB", "{\"kty\":\"oct\",\"k\":\"\"}",
            "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AA\",\"y\":\"AA\"}",
        ]
        for text in texts { #expect(fixture.verdict(secrets: [text]) != .valid, "\(fixture.name): \(text.prefix(40))") }
        #expect(fixture.verdict(secrets: texts) != .valid)
        for other in SignatureFixture.all where other.secrets != fixture.secrets && !other.secrets.contains(where: fixture.secrets.contains)
        {
            let isSameKey = ["fusionauth RS256", "google-pubsub", "aws-sns 2", "aws-sns 1, no subject", "aws-sns, confirmation"]
            let isSameCurve = ["fusionauth ES256", "plaid"]
            if isSameKey.contains(fixture.name) && isSameKey.contains(other.name) { continue }
            if isSameCurve.contains(fixture.name) && isSameCurve.contains(other.name) { continue }
            #expect(fixture.verdict(secrets: other.secrets) != .valid, "\(fixture.name) under the secret of \(other.name)")
        }
    }

    /// A token may not choose how it is verified (RFC 8725, 3.1).
    @Test func P8_tokensCannotChooseTheirAlgorithm() throws {
        let fixture = try #require(SignatureFixture.all.first { $0.name == "fusionauth RS256" })
        let claims = fixture.request.headers[0].value.split(separator: ".")[1]
        func token(_ header: String, _ sign: (String) -> [UInt8]) -> WebhookRequest {
            let signed = url(Array(header.utf8)) + "." + claims
            return fixture.with(header: 0, Array((signed + "." + url(sign(signed))).utf8))
        }
        // HMAC under the text of the public key.
        let key = Array(fixture.secrets[0].utf8)
        let confused = token(#"{"alg":"HS256"}"#) { MessageCode.code(.hmacSHA256, key: key, [Array($0.utf8)]) }
        #expect(isRefused(fixture.verdict(confused), .mismatch))
        #expect(isRefused(fixture.verdict(token(#"{"alg":"none"}"#) { _ in [0] }), .malformedHeader))
        #expect(isRefused(fixture.verdict(token(#"{"alg":"none"}"#) { _ in [] }), .malformedHeader))
        #expect(isRefused(fixture.verdict(token(#"{"alg":"RS256","crit":["exp"]}"#) { _ in [0] }), .malformedHeader))
    }

    private func url(_ bytes: [UInt8]) -> String {
        Base64.encode(bytes).replacing("+", with: "-").replacing("/", with: "_").replacing("=", with: "")
    }

    @Test(arguments: [
        "https://sns.us-east-1.amazonaws.com/a.pem", "https://sns.cn-north-1.amazonaws.com.cn/a.pem",
        "https://SNS.us-east-1.AMAZONAWS.com/a.pem",
    ]) func addressesOfSNSAreKnown(_ url: String) { #expect(SNSSignature.isAmazon(url)) }

    @Test(arguments: [
        "http://sns.us-east-1.amazonaws.com/a.pem", "https://sns.us-east-1.amazonaws.com.evil.example/a.pem",
        "https://sns.us-east-1.amazonaws.com@evil.example/a.pem", "https://evil.example/sns.us-east-1.amazonaws.com/a.pem",
        "https://s3.us-east-1.amazonaws.com/a.pem", "https://sns.us-east-1.amazonaws.com:8443/a.pem", "https://sns..amazonaws.com/a.pem",
        "https://sns.us-east-1.amazonaws.com", "https://sns.us-east-1.amazonaws.com\\@evil.example/a.pem",
        "https://sns.a.b.amazonaws.com/a.pem",
        "https:///a.pem", "", "https://sns.us-east-1.amazonaws.com/ä",
    ]) func otherAddressesAreNotOfSNS(_ url: String) { #expect(!SNSSignature.isAmazon(url)) }

    @Test func aMissingCertificateIsAskedForAtItsAddress() throws {
        struct Fetched: KeySource {
            var documents: [String: [UInt8]]
            func document(at url: String) -> [UInt8]? { documents[url] }
        }
        let fixture = try #require(SignatureFixture.all.first { $0.name == "aws-sns 2" })
        guard case .refused(let refusal) = fixture.verdict(secrets: []) else {
            Issue.record("verified without a certificate")
            return
        }
        let address = try #require(refusal.keyURL)
        #expect(address == "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-0123456789abcdef.pem")
        let keys = Fetched(documents: [address: Array(fixture.secrets[0].utf8)])
        #expect(fixture.verdict(secrets: [], options: SchemeOptions(keys: keys)) == .valid)
    }

    /// The certificate signs for every account at AWS.
    @Test func aMessageOfAnotherTopicIsRefusedWhereTheTopicIsSet() throws {
        for fixture in SignatureFixture.all where fixture.scheme == "aws-sns" {
            let own = SchemeOptions(parameters: ["topic_arn": "arn:aws:sns:us-east-1:123456789012:T"])
            #expect(fixture.verdict(options: own) == .valid, "\(fixture.name)")
            #expect(fixture.verdict(options: SchemeOptions()) == .valid, "\(fixture.name): no topic is set")
            for other in ["arn:aws:sns:us-east-1:999999999999:T", "arn:aws:sns:us-east-1:123456789012:T2", ""] {
                let options = SchemeOptions(parameters: ["topic_arn": other])
                guard case .refused(let refusal) = fixture.verdict(options: options) else {
                    Issue.record("\(fixture.name): a message of another topic than \(other.debugDescription) is taken")
                    continue
                }
                #expect(refusal.reason == .mismatch && refusal.message.contains("TopicArn"))
                let report = fixture.signatureScheme.report(
                    fixture.request, secrets: fixture.secrets, now: fixture.now, options: options)
                #expect(!report.isValid && report.text.contains("topic_arn"), "\(report.text)")
            }
        }
        #expect(SignatureFixture.all.count { $0.scheme == "aws-sns" } >= 3)
    }

    @Test func rowsAreWellFormed() {
        for row in SignatureTable.rows {
            #expect(row.name.utf8.allSatisfy { $0 &- 0x61 < 26 || $0 &- 0x30 < 10 || $0 == UInt8(ascii: "-") })
            for description in row.alternatives {
                #expect(description.content.isWellFormed, "\(row.name): \(description.content)")
                #expect(!description.forms.isEmpty && !row.alternatives.isEmpty)
                #expect(!description.headers.isEmpty || description.headerDefault != nil)
            }
            #expect(!row.source.isEmpty && !row.secret.isEmpty)
        }
    }
}
