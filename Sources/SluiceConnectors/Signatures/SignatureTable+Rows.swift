import SluiceCore

/// How the providers sign, one row each. `SignatureTests` checks every row against vectors, every one-byte change of them,
/// and docs/SIGNATURES.md.
enum SignatureTable {
    static let rows = senders + bodies + stamped + urls + asymmetric + tokens

    /// Any sender that keeps to a convention.
    private static let senders: [SchemeRow] = [
        SchemeRow(
            "standard-webhooks", "Standard Webhooks", secret: "whsec_ and the key in base64, or the key's text as it is",
            source: "Standard Webhooks specification, Signature scheme",
            .standardWebhooks("webhook", .init("v1,", .hmacSHA256), key: .standardWebhooks),
            .standardWebhooks("svix", .init("v1,", .hmacSHA256), key: .standardWebhooks)),
        SchemeRow(
            "svix", "Svix (Clerk, Resend and others)", secret: "whsec_ and the key in base64",
            source: "Svix, Verifying payloads manually",
            .standardWebhooks("svix", .init("v1,", .hmacSHA256), key: .standardWebhooks),
            .standardWebhooks("webhook", .init("v1,", .hmacSHA256), key: .standardWebhooks)),
        SchemeRow(
            "standard-webhooks-ed25519", "Standard Webhooks, asymmetric", secret: "the public key: whpk_ and 32 bytes in base64",
            source: "Standard Webhooks specification, Signature scheme",
            .standardWebhooks("webhook", .init("v1a,", .ed25519), key: .publicKey),
            .standardWebhooks("svix", .init("v1a,", .ed25519), key: .publicKey)),
        SchemeRow(
            "hmac-sha1", "Any sender", secret: "the secret's text", source: "adnanh/webhook, payload-hmac-sha1",
            .anySender("sha1=", .hmacSHA1)),
        SchemeRow(
            "hmac-sha256", "Any sender", secret: "the secret's text", source: "adnanh/webhook, payload-hmac-sha256",
            .anySender("sha256=", .hmacSHA256)),
        SchemeRow(
            "hmac-sha512", "Any sender", secret: "the secret's text", source: "adnanh/webhook, payload-hmac-sha512",
            .anySender("sha512=", .hmacSHA512)),
        SchemeRow(
            "websub", "WebSub", secret: "hub.secret of the subscription", source: "W3C WebSub, 8 Authenticated content distribution",
            .hmacOfAnyMethod("X-Hub-Signature", [.hmacSHA256, .hmacSHA1, .hmacSHA384, .hmacSHA512])),
    ]

    /// The body alone, under a secret.
    private static let bodies: [SchemeRow] = [
        SchemeRow(
            "github", "GitHub", secret: "the secret that was typed in at the webhook's settings",
            source: "GitHub, Validating webhook deliveries", .hmac("X-Hub-Signature-256", "sha256=")),
        SchemeRow(
            "atlassian", "Atlassian (Jira, Bitbucket)", secret: "the webhook's secret", source: "Atlassian, Jira webhooks: secure webhooks",
            .hmacOfAnyMethod("X-Hub-Signature", [.hmacSHA256])),
        SchemeRow(
            "meta", "Meta (Facebook, Instagram, WhatsApp)", secret: "the app secret", source: "Meta, Webhooks: getting started",
            .hmac("X-Hub-Signature-256", "sha256=")),
        SchemeRow(
            "intercom", "Intercom", secret: "the app's client secret", source: "Intercom, Webhooks: signed notifications",
            .hmac("X-Hub-Signature", "sha1=", .hmacSHA1)),
        SchemeRow(
            "shopify", "Shopify", secret: "the app's client secret", source: "Shopify, Verify webhooks; frain-dev/convoy",
            .hmac("X-Shopify-Hmac-SHA256", "", .hmacSHA256, .base64)),
        SchemeRow(
            "woocommerce", "WooCommerce", secret: "the webhook's secret", source: "WooCommerce, class-wc-webhook.php",
            .hmac("X-WC-Webhook-Signature", "", .hmacSHA256, .base64)),
        SchemeRow(
            "hookdeck", "Hookdeck", secret: "the project's signing secret", source: "Hookdeck, Verify webhook signature",
            .hmac("x-hookdeck-signature", "", .hmacSHA256, .base64)),
        SchemeRow(
            "line", "LINE", secret: "the channel secret", source: "line-bot-sdk-python, webhook.py",
            .hmac("x-line-signature", "", .hmacSHA256, .base64)),
        SchemeRow(
            "docusign", "DocuSign Connect", secret: "an HMAC key of Connect", source: "DocuSign, HMAC security",
            SignatureDescription(
                headers: (1...10).map { "X-DocuSign-Signature-\($0)" }, forms: [.init("", .hmacSHA256)], encoding: .base64,
                content: "{body}")),
        SchemeRow(
            "xero", "Xero", secret: "the webhook signing key", source: "Xero, Webhooks: configuring your server",
            .hmac("x-xero-signature", "", .hmacSHA256, .base64)),
        SchemeRow(
            "x", "X (Twitter)", secret: "the app's consumer secret", source: "X, Account Activity API: securing webhooks",
            .hmac("X-Twitter-Webhooks-Signature", "sha256=", .hmacSHA256, .base64)),
        SchemeRow(
            "dropbox", "Dropbox", secret: "the app secret", source: "Dropbox, Webhooks reference", .hmac("X-Dropbox-Signature")),
        SchemeRow(
            "vercel", "Vercel", secret: "the webhook's secret", source: "Vercel, Webhooks API: securing webhooks",
            .hmac("x-vercel-signature", "", .hmacSHA1)),
        SchemeRow(
            "asana", "Asana", secret: "the X-Hook-Secret of the handshake", source: "Asana, Webhooks: security", .hmac("X-Hook-Signature")),
        SchemeRow(
            "linear", "Linear", secret: "the webhook's signing secret", source: "Linear, Webhooks: securing webhooks; linear/linear 1268",
            .hmac("Linear-Signature", at: .body(["webhookTimestamp"], .milliseconds, within: 60))),
        SchemeRow(
            "pagerduty", "PagerDuty", secret: "the subscription's signing secret", source: "PagerDuty, Verifying signatures",
            .hmac("X-PagerDuty-Signature", "v1=", list: ",")),
        SchemeRow(
            "typeform", "Typeform", secret: "the webhook's secret", source: "Typeform, Secure your webhooks",
            .hmac("Typeform-Signature", "sha256=", .hmacSHA256, .base64)),
        SchemeRow(
            "adyen-platform", "Adyen (platform, management)", secret: "the HMAC key in hex", source: "Adyen, Verify HMAC signatures",
            .hmac("HmacSignature", "", .hmacSHA256, .base64, key: .hex)),
    ]

    /// A moment is signed with the body.
    private static let stamped: [SchemeRow] = [
        SchemeRow(
            "stripe", "Stripe", secret: "the endpoint's signing secret as Stripe shows it, beginning with whsec_",
            source: "Stripe, Verify webhook signatures manually; stripe-python",
            .hmac("Stripe-Signature", "v1=", of: "{timestamp}.{body}", list: ",", at: .item("t=", .seconds, within: 300))),
        SchemeRow(
            "calendly", "Calendly", secret: "the subscription's signing_key", source: "Calendly, Webhook signatures",
            .hmac("Calendly-Webhook-Signature", "v1=", of: "{timestamp}.{body}", list: ",", at: .item("t=", .seconds, within: 180))),
        SchemeRow(
            "elevenlabs", "ElevenLabs", secret: "the webhook's secret", source: "ElevenLabs, Webhooks; elevenlabs-python",
            .hmac("ElevenLabs-Signature", "v0=", of: "{timestamp}.{body}", list: ",", at: .item("t=", .seconds, within: 1800))),
        SchemeRow(
            "paddle", "Paddle Billing", secret: "the destination's secret, beginning with pdl_ntfset_",
            source: "Paddle, Signature verification; paddle-python-sdk",
            .hmac("Paddle-Signature", "h1=", of: "{timestamp}:{body}", list: ";", at: .item("ts=", .seconds, within: 5))),
        SchemeRow(
            "slack", "Slack", secret: "the app's signing secret", source: "Slack, Verifying requests from Slack",
            .hmac("X-Slack-Signature", "v0=", of: "v0:{timestamp}:{body}", at: .header("X-Slack-Request-Timestamp", .seconds, within: 300))),
        SchemeRow(
            "zoom", "Zoom", secret: "the app's secret token", source: "Zoom, Using webhooks: verify webhook events",
            .hmac("x-zm-signature", "v0=", of: "v0:{timestamp}:{body}", at: .header("x-zm-request-timestamp", .seconds, within: 300))),
        SchemeRow(
            "zendesk", "Zendesk", secret: "the webhook's signing secret, as shown", source: "Zendesk, Verifying webhooks",
            .hmac(
                "X-Zendesk-Webhook-Signature", "", .hmacSHA256, .base64, of: "{timestamp}{body}",
                at: .header("X-Zendesk-Webhook-Signature-Timestamp", .rfc3339, within: 300))),
        SchemeRow(
            "webflow", "Webflow", secret: "the app's client secret or the webhook's secret key", source: "Webflow, Working with webhooks",
            .hmac("x-webflow-signature", of: "{timestamp}:{body}", at: .header("x-webflow-timestamp", .milliseconds, within: 300))),
        SchemeRow(
            "box", "Box", secret: "the primary or the secondary key", source: "Box, Signature verification; box-python-sdk",
            SignatureDescription(
                headers: ["BOX-SIGNATURE-PRIMARY", "BOX-SIGNATURE-SECONDARY"], forms: [.init("", .hmacSHA256)], encoding: .base64,
                content: "{body}{timestamp}", timestamp: .header("BOX-DELIVERY-TIMESTAMP", .rfc3339, within: 600),
                required: [HTTPField("BOX-SIGNATURE-VERSION", "1"), HTTPField("BOX-SIGNATURE-ALGORITHM", "HmacSHA256")])),
        SchemeRow(
            "scalr", "Scalr", secret: "the webhook's secret", source: "Scalr, Webhooks; adnanh/webhook",
            .hmac("X-Signature", "", .hmacSHA1, of: "{body}{timestamp}", at: .header("Date", .date, within: 300))),
    ]

    /// The URL or the method is signed too.
    private static let urls: [SchemeRow] = [
        SchemeRow(
            "square", "Square", secret: "the subscription's signature key", source: "Square, Verify and validate; square-python-sdk",
            .hmac("x-square-hmacsha256-signature", "", .hmacSHA256, .base64, of: "{url}{body}")),
        SchemeRow(
            "trello", "Trello", secret: "the app's secret", source: "Trello, Webhook signatures",
            .hmac("X-Trello-Webhook", "", .hmacSHA1, .base64, of: "{body}{url}")),
        SchemeRow(
            "hubspot-v1", "HubSpot, version 1", secret: "the app's client secret",
            source: "HubSpot, Validating requests; hubspot-api-nodejs",
            .hmac("X-HubSpot-Signature", "", .sha256, of: "{secret}{body}", required: [HTTPField("X-HubSpot-Signature-Version", "v1")])),
        SchemeRow(
            "hubspot-v2", "HubSpot, version 2", secret: "the app's client secret",
            source: "HubSpot, Validating requests; hubspot-api-nodejs",
            .hmac(
                "X-HubSpot-Signature", "", .sha256, of: "{secret}{method}{url}{body}",
                required: [HTTPField("X-HubSpot-Signature-Version", "v2")])),
        SchemeRow(
            "hubspot-v3", "HubSpot, version 3", secret: "the app's client secret",
            source: "HubSpot, Validating requests; hubspot-api-nodejs",
            {
                var description = SignatureDescription.hmac(
                    "X-HubSpot-Signature-v3", "", .hmacSHA256, .base64, of: "{method}{url}{body}{timestamp}",
                    at: .header("X-HubSpot-Request-Timestamp", .milliseconds, within: 300))
                description.decodesURL = true
                return description
            }()),
    ]

    /// The provider signs with a key of which only the public half is known.
    private static let asymmetric: [SchemeRow] = [
        SchemeRow(
            "discord", "Discord", secret: "the application's public key in hex",
            source: "Discord, Interactions: security and authorization",
            SignatureDescription(
                headers: ["X-Signature-Ed25519"], forms: [.init("", .ed25519)], encoding: .hex, content: "{timestamp}{body}",
                key: .publicKey, timestamp: .header("X-Signature-Timestamp", .seconds, within: 300))),
        SchemeRow(
            "sendgrid", "Twilio SendGrid", secret: "the verification key as SendGrid shows it (base64)",
            source: "SendGrid, Event Webhook security features; sendgrid-python",
            SignatureDescription(
                headers: ["X-Twilio-Email-Event-Webhook-Signature"], forms: [.init("", .ecdsaP256)], encoding: .base64,
                content: "{timestamp}{body}", key: .publicKey,
                timestamp: .header("X-Twilio-Email-Event-Webhook-Timestamp", .seconds, within: nil))),
        SchemeRow(
            "paypal", "PayPal", secret: "the certificate at the request's PAYPAL-CERT-URL (PEM)",
            source: "PayPal, Integrate webhooks: verify the message yourself",
            SignatureDescription(
                headers: ["PAYPAL-TRANSMISSION-SIG"], forms: [.init("", .rsaSHA256)], encoding: .base64,
                content: "{header:PAYPAL-TRANSMISSION-ID}|{timestamp}|{parameter:webhook_id}|{crc32}", key: .publicKey,
                timestamp: .header("PAYPAL-TRANSMISSION-TIME", .rfc3339, within: nil),
                required: [HTTPField("PAYPAL-AUTH-ALGO", "SHA256withRSA")], keyHost: HTTPField("PAYPAL-CERT-URL", "paypal.com"))),
    ]

    /// Nothing is signed: a secret is shown, which proves who sent, not what.
    private static let tokens: [SchemeRow] = [
        SchemeRow("basic-auth", "Any sender", secret: "user:password, as set at the provider", source: "RFC 7617", .basic),
        SchemeRow("chargebee", "Chargebee", secret: "user:password, as set at the webhook", source: "Chargebee, Webhook settings", .basic),
        SchemeRow(
            "postmark", "Postmark", secret: "user:password, as set in the webhook's URL", source: "Postmark, Webhooks overview", .basic),
        SchemeRow(
            "header-token", "Any sender", secret: "the token, as set at the provider", source: "none",
            .token("X-Webhook-Token", isDefault: true)),
        SchemeRow("gitlab", "GitLab", secret: "the webhook's secret token", source: "GitLab, Webhooks", .token("X-Gitlab-Token")),
        SchemeRow(
            "okta", "Okta event hooks", secret: "the authentication secret of the hook", source: "Okta, Event hooks",
            .token("Authorization", isDefault: true)),
        SchemeRow(
            "azure-event-grid", "Azure Event Grid", secret: "the key, as set as a delivery property",
            source: "Azure Event Grid, Custom delivery properties", isExperimental: true, .token("aeg-sas-key", isDefault: true)),
        SchemeRow(
            "cloudevents", "CloudEvents HTTP webhooks", secret: "the bearer token",
            source: "CloudEvents, HTTP 1.1 Web Hooks for Event Delivery, 3",
            .token("Authorization", "Bearer ", queryParameter: "access_token")),
    ]
}
