import Foundation
import SluiceCore
import Testing

@testable import SluiceConnectors

/// One signed request of Fixtures/signatures.json. `source` says who published it, or that it is ours.
struct SignatureFixture: Sendable, CustomTestStringConvertible {
    var name: String
    var scheme: String
    var source: String
    var secrets: [String]
    var request: WebhookRequest
    var now: Timestamp
    var options: SchemeOptions

    var testDescription: String { name }
    var signatureScheme: SignatureScheme { SignatureScheme.named(scheme)! }

    func verdict(
        _ request: WebhookRequest? = nil, secrets: [String]? = nil, now: Timestamp? = nil, options: SchemeOptions? = nil
    ) -> Verdict {
        signatureScheme.verify(
            request ?? self.request, secrets: secrets ?? self.secrets, now: now ?? self.now, options: options ?? self.options)
    }

    func attempt(_ request: WebhookRequest? = nil) -> SignatureAttempt {
        SignatureAttempt(request: request ?? self.request, secrets: secrets, now: now, options: options)
    }

    /// The request with other bytes as the value of a header.
    func with(header index: Int, _ value: [UInt8]) -> WebhookRequest {
        var copy = request
        copy.headers[index].value = String(decoding: value, as: UTF8.self)
        return copy
    }

    static let all: [SignatureFixture] = {
        let file = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().appending(
            path: "Fixtures/signatures.json")
        guard let data = try? Data(contentsOf: file), let root = (try? JSONDocument(Array(data)))?.root else { return [] }
        return (root.elements ?? []).map(SignatureFixture.init)
    }()

    private init(_ json: JSONView) {
        func text(_ key: String) -> String? { json[key]?.string }
        name = text("name") ?? ""
        scheme = text("scheme") ?? ""
        source = text("source") ?? ""
        secrets = json["secrets"]?.elements?.compactMap(\.string) ?? []
        let headers = (json["headers"]?.elements ?? []).compactMap { pair -> HTTPField? in
            guard let name = pair.elements?.first?.string, let value = pair.elements?.last?.string else { return nil }
            return HTTPField(name, value)
        }
        request = WebhookRequest(
            method: text("method") ?? "POST", path: "/hooks/x", query: "", headers: headers, body: Array((text("body") ?? "").utf8),
            url: text("url"))
        now = Timestamp(seconds: json["now"]?.int64 ?? 0)
        let parameters = (json["parameters"]?.members ?? []).map { ($0.key, $0.value.string ?? "") }
        options = SchemeOptions(headerName: text("header"), parameters: Dictionary(uniqueKeysWithValues: parameters))
    }

    /// A secret of the right form that is another one.
    var wrongSecret: String {
        func other(_ name: String) -> String { SignatureFixture.all.first { $0.name == name }?.secrets.first ?? "" }
        switch scheme {
        case "discord": return other("standard-webhooks-ed25519 1")
        case "standard-webhooks-ed25519": return other("discord 1")
        case "sendgrid": return other("fusionauth ES256")
        case "paypal": return other("fusionauth RS256")
        case "aws-sns": return other("paypal 1")
        case "plaid": return other("google-pubsub")
        case "google-pubsub": return other("paypal 1")
        case "fusionauth": return name == "fusionauth RS256" ? other("fusionauth EdDSA") : other("fusionauth RS256")
        case "basic-auth", "chargebee", "postmark": return "another:secret"
        default: return String(repeating: "0f", count: 32)
        }
    }
}

/// Numbers that are the same in every run (SplitMix64).
struct SeededRandom: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ value >> 30) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ value >> 27) &* 0x94D0_49BB_1331_11EB
        return value ^ value >> 31
    }
}
