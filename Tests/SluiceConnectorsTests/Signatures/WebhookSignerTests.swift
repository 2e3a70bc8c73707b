import Crypto
import Foundation
import SluiceConnectors
import SluiceCore
import Testing

@Suite struct WebhookSignerTests {
    let now = Timestamp(seconds: 1_674_087_231)
    let body = Array("{\"test\": 2432232314}".utf8)

    @Test func theSpecificationsVector() throws {
        let signer = try WebhookSigner([SigningSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")])
        let header = signer.sign(id: "msg_p5jXN8AQM9LWM0D4loKWxJek", timestamp: Timestamp(seconds: 1_614_265_330), body: body)
        #expect(header == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
    }

    @Test func ed25519IsVerifiedByItsPublicKey() throws {
        // RFC 8032, 7.1, TEST 1.
        let seed = try #require(Data(base64Encoded: "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="))
        let expected = try #require(Data(base64Encoded: "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="))
        let secret = "whsk_" + seed.base64EncodedString()
        let publicKey = try #require(WebhookSigner.publicKey(of: secret))
        #expect(publicKey == "whpk_" + expected.base64EncodedString())
        #expect(WebhookSigner.publicKey(of: "whsk_" + (seed + expected).base64EncodedString()) == publicKey)
        let header = try WebhookSigner([SigningSecret(secret)]).sign(id: "job_1", timestamp: now, body: body)
        let parts = header.split(separator: ",", maxSplits: 1)
        #expect(parts.first == "v1a")
        let signature = try #require(Data(base64Encoded: String(parts[1])))
        let key = try Curve25519.Signing.PublicKey(rawRepresentation: expected)
        #expect(key.isValidSignature(signature, for: Data("job_1.1674087231.".utf8) + Data(body)))
        #expect(!key.isValidSignature(signature, for: Data("job_1.1674087232.".utf8) + Data(body)))
    }

    @Test func eachValidSecretSignsAndTheFirstFirst() throws {
        let (old, new) = ("whsec_" + Data(1...24).base64EncodedString(), "whsec_" + Data(101...132).base64EncodedString())
        func sign(_ secrets: [SigningSecret]) throws -> [String] {
            try WebhookSigner(secrets).sign(id: "job_1", timestamp: now, body: body).split(separator: " ").map(String.init)
        }
        let (a, b) = (try sign([SigningSecret(old)]), try sign([SigningSecret(new)]))
        #expect(try sign([SigningSecret(new), SigningSecret(old, expiresAt: now + .seconds(1))]) == b + a)
        #expect(try sign([SigningSecret(new), SigningSecret(old, expiresAt: now)]) == b)
        // Never unsigned.
        #expect(try sign([SigningSecret(old, expiresAt: now - .days(1))]) == a)
    }

    @Test(
        arguments: [
            "", "whsec_", "whsec_***", "whsk_", "whsk_AAAA", "whsk_" + Data(repeating: 7, count: 64).base64EncodedString(),
            "hunter2-hunter2-hunter2-hunter2", Data(1...32).base64EncodedString(), "whsec_" + Data(1...23).base64EncodedString(),
            "whsec_" + Data(1...65).base64EncodedString(),
        ])
    func refusesWhatCannotSign(_ secret: String) {
        let error = #expect(throws: SluiceError.self) { try WebhookSigner([SigningSecret(secret)]) }
        if secret.count > 6 { #expect(error?.message.contains(secret) == false) }
        #expect(WebhookSigner.publicKey(of: secret) == nil)
    }
}
