import SluiceCore

/// Amazon SNS: the signature stands in the body, over some of its values, and the certificate at an address of AWS.
/// Source: AWS, "Verifying the signatures of Amazon SNS messages"; the order of the values is that page's.
///
/// The certificate is the connection's secret (PEM), or comes from `SchemeOptions.keys` under the message's SigningCertURL,
/// which must be one of AWS. It proves that AWS sent the message, whoever's topic it is of: `topic_arn` says whose.
struct SNSSignature: SignatureRecipe {
    static let toleranceSeconds: Int64 = 3600
    private static let typeHeader = "x-amz-sns-message-type"
    static let topicParameter = "topic_arn"

    func check(_ attempt: SignatureAttempt) throws(RefusalError) {
        let message = try message(attempt)
        if let header = attempt.request.header(Self.typeHeader), header != message.type {
            throw RefusalError(.malformedHeader, "\(Self.typeHeader) is another than the body's Type")
        }
        guard let moment = message.moment else {
            throw RefusalError(.malformedBody, "the body's Timestamp must be a time like 2026-01-31T09:05:00.000Z")
        }
        let tolerance = attempt.options.tolerance ?? .seconds(Self.toleranceSeconds)
        try SignedRequest.checkAge(moment, place: "the body's Timestamp", now: attempt.now, tolerance: tolerance)
        let keys = try keys(message, attempt)
        let pieces = message.parts.map { $0.bytes ?? [] }
        let matches = keys.contains { key in
            message.version == "1" ? key.verifiesSHA1(message.signature, pieces) : key.verifies(message.signature, .rsaSHA256, pieces)
        }
        if !matches {
            throw RefusalError(.mismatch, "the body's Signature is not that of its \(message.names) under a certificate of this connection")
        }
        // AWS signs for everybody: whoever has an account can have a message of a topic of their own signed.
        if let wanted = attempt.options.parameters[Self.topicParameter], message.topic != wanted {
            throw RefusalError(.mismatch, "the body's TopicArn is of another topic than the parameter `\(Self.topicParameter)`")
        }
    }

    private struct Message {
        var type: String
        var topic: String
        var version: String
        var certificateURL: String
        var signature: [UInt8]
        var moment: Timestamp?
        var parts: [SignedContent.Part]
        var names: String
    }

    private func message(_ attempt: SignatureAttempt) throws(RefusalError) -> Message {
        guard let root = (try? JSONDocument(attempt.request.body))?.root, root.kind == .object else {
            throw RefusalError(.malformedBody, "the body must be the JSON of an SNS message")
        }
        func text(_ name: String) throws(RefusalError) -> String {
            guard let value = root[name]?.string else { throw RefusalError(.malformedBody, "the body lacks \(name)") }
            return value
        }
        let type = try text("Type")
        var names: [String]
        switch type {
        case "Notification": names = ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"]
        case "SubscriptionConfirmation", "UnsubscribeConfirmation":
            names = ["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
        default: throw RefusalError(.malformedBody, "the body's Type is none that SNS signs")
        }
        // A message without a subject has no such value, or null.
        if root["Subject"]?.string == nil { names.removeAll { $0 == "Subject" } }
        let version = try text("SignatureVersion")
        guard version == "1" || version == "2" else {
            throw RefusalError(.malformedBody, "the body's SignatureVersion must be 1 or 2")
        }
        guard let signature = Base64.decode(Array(try text("Signature").utf8)), !signature.isEmpty else {
            throw RefusalError(.malformedBody, "the body's Signature must be base64")
        }
        let url = try text("SigningCertURL")
        guard Self.isAmazon(url), url.hasSuffix(".pem") else {
            throw RefusalError(.malformedBody, "the body's SigningCertURL must be an https URL of SNS at AWS that ends in .pem")
        }
        var parts: [SignedContent.Part] = []
        for name in names { parts.append(.init(name: name, bytes: Array("\(name)\n\(try text(name))\n".utf8))) }
        return Message(
            type: type, topic: try text("TopicArn"), version: version, certificateURL: url, signature: signature,
            moment: SignatureTimestamp.body(["Timestamp"], .rfc3339, within: nil).read(try text("Timestamp")), parts: parts,
            names: names.joined(separator: ", "))
    }

    private func keys(_ message: Message, _ attempt: SignatureAttempt) throws(RefusalError) -> [PublicKey] {
        var keys = attempt.secrets.compactMap { PublicKey($0) }
        if let bytes = attempt.options.keys?.document(at: message.certificateURL),
            let key = PublicKey(String(decoding: bytes, as: UTF8.self))
        {
            keys.append(key)
        }
        if keys.isEmpty {
            var error = RefusalError(
                .noSecret, "the connection has no certificate for this scheme: give that of the body's SigningCertURL (PEM) as its secret")
            error.refusal.keyURL = message.certificateURL
            throw error
        }
        return keys
    }

    /// `https://sns.REGION.amazonaws.com/…` or `.com.cn`.
    static func isAmazon(_ url: String) -> Bool {
        guard let host = KeyURL.host(of: url) else { return false }
        let labels = host.split(separator: ".", omittingEmptySubsequences: false)
        guard labels.count == 4 || labels.count == 5 && labels[4] == "cn", labels[0] == "sns", !labels[1].isEmpty else { return false }
        return labels[2] == "amazonaws" && labels[3] == "com"
    }

    func content(_ attempt: SignatureAttempt) -> SignedContent? {
        (try? message(attempt)).map { SignedContent(template: Self.template, parts: $0.parts) }
    }

    func moment(_ attempt: SignatureAttempt) -> Timestamp? { (try? message(attempt))?.moment }

    static let template =
        "NAME\\nVALUE\\n for Message, MessageId, Subject or SubscribeURL, Timestamp, Token, TopicArn, Type, as far as the type has them"
}
