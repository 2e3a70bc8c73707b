import SluiceCore

/// The schemes that are code: what they sign stands in the body, in a form or in a token.
enum StructuredSchemes {
    static let all: [SignatureScheme] = [
        scheme(
            "aws-sns", signsBody: true, secret: "the certificate at the body's SigningCertURL (PEM)",
            SchemeSummary(
                provider: "Amazon SNS", headers: ["x-amz-sns-message-type"], algorithm: "rsa-pkcs1v15-sha1, rsa-pkcs1v15-sha256",
                content: SNSSignature.template, encoding: "base64 in the body's Signature", toleranceSeconds: SNSSignature.toleranceSeconds,
                parameters: [SNSSignature.topicParameter],
                source: "AWS, Verifying the signatures of Amazon SNS messages"),
            SNSSignature()),
        scheme(
            "adyen", signsBody: false, secret: "the HMAC key in hex",
            SchemeSummary(
                provider: "Adyen (payments)", algorithm: "hmac-sha256", content: AdyenSignature.template,
                encoding: "base64 in each item's additionalData.hmacSignature",
                source: "Adyen, Verify HMAC signatures; adyen-python-api-library"),
            AdyenSignature()),
        scheme(
            "twilio", signsBody: true, signsURL: true, secret: "the account's auth token",
            SchemeSummary(
                provider: "Twilio", headers: [TwilioSignature.header], algorithm: "hmac-sha1", content: TwilioSignature.template,
                encoding: "base64", source: "Twilio, Webhooks security; twilio-python"),
            TwilioSignature()),
        scheme(
            "mailgun", signsBody: false, secret: "the webhook signing key",
            SchemeSummary(
                provider: "Mailgun", algorithm: "hmac-sha256", content: MailgunSignature.template,
                encoding: "hex in the body's signature.signature", source: "Mailgun, Securing webhooks"),
            MailgunSignature()),
        scheme(
            "microsoft-graph", signsBody: false, secret: "the clientState of the subscription",
            SchemeSummary(
                provider: "Microsoft Graph", algorithm: "shared secret", encoding: "text in each item's clientState",
                source: "Microsoft Graph, Change notifications through webhooks"),
            ClientStateSignature()),
        scheme(
            "fusionauth", signsBody: true, secret: "the key that signs: its text, public key (PEM) or key set (JSON)",
            token(
                "FusionAuth", "X-FusionAuth-Signature-JWT", "HS256…512, RS256…512, ES256, EdDSA", "FusionAuth, Signing webhooks", fusionAuth
            ),
            fusionAuth),
        scheme(
            "plaid", signsBody: true, secret: "the key from /webhook_verification_key/get (JSON)",
            token("Plaid", "Plaid-Verification", "ES256", "Plaid, Webhook verification", plaid), plaid),
        scheme(
            "google-pubsub", signsBody: false, signsURL: true,
            secret: "Google's key set (JSON), from https://www.googleapis.com/oauth2/v3/certs",
            token("Google Pub/Sub push", "Authorization", "RS256", "Google Cloud, Authentication for push subscriptions", pubSub), pubSub),
        scheme(
            "monday", signsBody: false, secret: "the app's signing secret",
            token("monday.com", "Authorization", "HS256", "monday.com, Authorization header", monday), monday),
    ]

    private static let fusionAuth = TokenSignature(
        header: "X-FusionAuth-Signature-JWT", algorithms: ["HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "EdDSA"],
        bodyClaim: .base64("request_body_sha256"))
    private static let plaid = TokenSignature(
        header: "Plaid-Verification", algorithms: ["ES256"], allowsSecrets: false, bodyClaim: .hex("request_body_sha256"), ageSeconds: 300)
    private static let pubSub = TokenSignature(
        header: "Authorization", isBearer: true, algorithms: ["RS256"], allowsSecrets: false,
        issuers: ["https://accounts.google.com", "accounts.google.com"], checksAudience: true, checksEmail: true, needsExpiry: true)
    private static let monday = TokenSignature(header: "Authorization", algorithms: ["HS256"], needsExpiry: true)

    private static func scheme(
        _ name: String, signsBody: Bool, signsURL: Bool = false, secret: String, _ summary: SchemeSummary, _ recipe: some SignatureRecipe
    ) -> SignatureScheme {
        SignatureScheme(
            name: name, signsBody: signsBody, signsURL: signsURL, isExperimental: false, secretHint: secret, summary: summary,
            recipe: recipe)
    }

    private static func token(
        _ provider: String, _ header: String, _ algorithm: String, _ source: String, _ recipe: TokenSignature
    ) -> SchemeSummary {
        SchemeSummary(
            provider: provider, headers: [header], algorithm: "JWT " + algorithm, content: recipe.template, encoding: "JWT",
            toleranceSeconds: recipe.ageSeconds, parameters: recipe.checksAudience ? ["audience", "email"] : [], source: source)
    }
}
