import SluiceCore

@testable import SluiceConnectors

/// The parts of a request that may change without the signature failing, since nothing signs them. Everything that is not listed here
/// must make a vector fail when one byte of it changes.
enum Ignorable {
    enum Body { case nothing, sameContent, sameStates, unsigned }

    static func body(_ scheme: String) -> Body {
        switch scheme {
        // A secret is shown and nothing signed.
        case "basic-auth", "chargebee", "postmark", "header-token", "gitlab", "okta", "azure-event-grid", "cloudevents": .unsigned
        // A token that says nothing of the body.
        case "google-pubsub", "monday": .unsigned
        // Every item's clientState is compared, nothing else.
        case "microsoft-graph": .sameStates
        // Values in the body are signed, not the JSON round them, nor the values that the provider leaves out.
        case "adyen", "aws-sns", "mailgun": .sameContent
        // The form's fields are signed after decoding: %2B and %2b are the same plus sign; a field that is there twice counts once.
        case "twilio": .sameContent
        default: .nothing
        }
    }

    /// What must be so of a changed value that is still taken; nil: no change is.
    static func header(_ fixture: SignatureFixture, _ header: HTTPField) -> (([UInt8]) -> Bool)? {
        let original = Array(header.value.utf8)
        func contains(_ parts: String...) -> ([UInt8]) -> Bool {
            { value in parts.allSatisfy { String(decoding: value, as: UTF8.self).contains($0) } }
        }
        switch (fixture.name, header.name) {
        // Signatures under keys that the connection does not have, as providers send them during a rotation: not looked at.
        case ("paddle 2", _): return contains("ts=1696195954", "h1=d96299976a6eb066f484d7fde011ac56fc32b38fc9940bc419d6e537fdc6ef02")
        case ("pagerduty 1", _): return contains("v1=d24db10361f58211fe2aa73d5c8a984ab58fc55a577913abb001480cb903155b")
        case ("stripe, rotation", _):
            let parts = header.value.split(separator: ",").map(String.init)
            return contains(parts[0], parts[2])
        case ("docusign, rotation", "X-DocuSign-Signature-1"), ("box 1", "box-signature-secondary"): return { _ in true }
        default: break
        }
        switch (fixture.scheme, header.name) {
        // Headers that nobody signs and that are not read.
        case ("box", "box-delivery-id"), ("adyen-platform", "Protocol"), ("azure-event-grid", "aeg-event-type"): return { _ in true }
        // Which certificate was used; it was given by hand, so only the host is judged.
        case ("paypal", "PAYPAL-CERT-URL"):
            return { value in
                let text = String(decoding: value, as: UTF8.self).lowercased()
                return text.hasPrefix("https://") && text.contains("paypal.com/")
            }
        // What stands behind the type of a form, and its case.
        case ("twilio", "Content-Type"): return { _ in true }
        // The name of an authentication scheme has no case (RFC 9110, 11.1).
        case ("basic-auth", _), ("chargebee", _), ("postmark", _): return { equalBehind($0, original, "Basic ") }
        case ("cloudevents", _), ("google-pubsub", _): return { equalBehind($0, original, "Bearer ") }
        // The prefix may be left out and hexadecimal digits stand in either case, for senders that are not known.
        case ("hmac-sha1", _), ("hmac-sha256", _), ("hmac-sha512", _):
            let digits = header.value.split(separator: "=").last.map(String.init) ?? ""
            return { String(decoding: $0, as: UTF8.self).lowercased().contains(digits) }
        default: return nil
        }
    }

    private static func equalBehind(_ value: [UInt8], _ original: [UInt8], _ prefix: String) -> Bool {
        let count = prefix.utf8.count
        return Array(value.dropFirst(count)) == Array(original.dropFirst(count))
            && String(decoding: value.prefix(count), as: UTF8.self).lowercased() == prefix.lowercased()
    }
}
