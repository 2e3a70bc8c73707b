/// The published shapes. Each names the page it follows; Tests/SluiceConnectorsTests/HandshakeTests has an example of each.
extension Handshake {
    /// Every handshake, by name.
    public static let all: [Handshake] = [
        // developers.asana.com, "Establish a webhook": the secret comes in a header and goes back in the same one.
        Handshake(
            "asana", when: [.method(["POST"]), .present(.header("X-Hook-Secret"))], reply: .header("X-Hook-Secret"),
            action: .learnSecret(.header("X-Hook-Secret"))),
        // docs.aws.amazon.com/sns, "Preparing an HTTP/S endpoint": SubscribeURL is asked for once.
        Handshake(
            "aws-sns", needsSignature: true, optionalFields: ["topic_arn"],
            when: [
                .method(["POST"]), .equals(.body(["Type"]), ["SubscriptionConfirmation"]), .present(.body(["SubscribeURL"])),
            ],
            proofs: [.field(.body(["TopicArn"]), field: "topic_arn", isOptional: true)], reply: .status(200),
            action: .confirm(.body(["SubscribeURL"]), host: .simpleNotificationService)),
        // learn.microsoft.com/azure/event-grid, "Endpoint validation with Event Grid schema".
        Handshake(
            "azure-event-grid",
            when: [
                .method(["POST"]), .equals(.header("aeg-event-type"), ["SubscriptionValidation"]),
                .equals(.body(["0", "eventType"]), ["Microsoft.EventGrid.SubscriptionValidationEvent"]),
            ],
            reply: .json([("validationResponse", .echo(.body(["0", "data", "validationCode"])))])),
        // CloudEvents, "HTTP 1.1 Web Hooks for Event Delivery", 4: decided by headers, not by the status.
        Handshake(
            "cloudevents", methods: ["OPTIONS"], when: [.method(["OPTIONS"]), .present(.header("WebHook-Request-Origin"))],
            reply: .permission(origin: "WebHook-Request-Origin", rate: "WebHook-Request-Rate"),
            action: .confirm(.header("WebHook-Request-Callback"), host: .kinOf(header: "WebHook-Request-Origin"))),
        // discord.com/developers, "Interactions: receiving and responding", and "Webhook events". A wrong signature is
        // probed for and must get a 401.
        Handshake(
            "discord", needsSignature: true,
            when: [.method(["POST"]), .equals(.body(["type"]), ["1"]), .absent(.body(["event", "type"]))],
            reply: .json([("type", .number(1))])),
        Handshake(
            "discord", needsSignature: true,
            when: [.method(["POST"]), .equals(.body(["type"]), ["0"]), .absent(.body(["event", "type"]))], reply: .status(204)),
        // dropbox.com/developers, "Webhooks": the verification request.
        Handshake(
            "dropbox", methods: ["GET"], when: [.method(["GET"]), .present(.query("challenge"))], reply: .text(.query("challenge"))),
        // docs.github.com, "Webhook events and payloads": ping is sent once, when a webhook is made.
        Handshake(
            "github", needsSignature: true, when: [.method(["POST"]), .equals(.header("X-GitHub-Event"), ["ping"])], reply: .status(200)),
        // developers.line.biz, "Verify webhook URL": a webhook without events.
        Handshake("line", needsSignature: true, when: [.method(["POST"]), .emptyList(["events"])], reply: .status(200)),
        // developers.facebook.com, "Webhooks: verification requests".
        Handshake(
            "meta", methods: ["GET"], fields: ["verify_token"],
            when: [.method(["GET"]), .equals(.query("hub.mode"), ["subscribe"]), .present(.query("hub.challenge"))],
            proofs: [.secretField(.query("hub.verify_token"), field: "verify_token")], reply: .text(.query("hub.challenge"))),
        // learn.microsoft.com/graph, "Receive change notifications through webhooks": validationToken, decoded, as plain text.
        Handshake(
            "microsoft-graph", when: [.method(["POST"]), .present(.query("validationToken"))], reply: .text(.query("validationToken"))),
        // developer.monday.com, "Webhooks: URL verification".
        Handshake(
            "monday", when: [.method(["POST"]), .onlyMember("challenge")], reply: .json([("challenge", .echo(.body(["challenge"])))])),
        // developer.okta.com, "Event hooks: one-time verification request".
        Handshake(
            "okta", methods: ["GET"], when: [.method(["GET"]), .present(.header("X-Okta-Verification-Challenge"))],
            reply: .json([("verification", .echo(.header("X-Okta-Verification-Challenge")))])),
        // api.slack.com, "url_verification event".
        Handshake(
            "slack", needsSignature: true, when: [.method(["POST"]), .equals(.body(["type"]), ["url_verification"])],
            reply: .text(.body(["challenge"]))),
        // developers.strava.com, "Webhook events API": subscription validation.
        Handshake(
            "strava", methods: ["GET"], fields: ["verify_token"],
            when: [.method(["GET"]), .equals(.query("hub.mode"), ["subscribe"]), .present(.query("hub.challenge"))],
            proofs: [.secretField(.query("hub.verify_token"), field: "verify_token")],
            reply: .json([("hub.challenge", .echo(.query("hub.challenge")))])),
        // developer.atlassian.com/cloud/trello, "Webhooks": HEAD, and 200 is all that counts.
        Handshake("trello", methods: ["HEAD", "GET"], when: [.method(["HEAD", "GET"])], reply: .status(200)),
        // developer.x.com, "Account Activity API: securing webhooks" (challenge-response check).
        Handshake(
            "x", methods: ["GET"], when: [.method(["GET"]), .present(.query("crc_token"))],
            reply: .json([("response_token", .hmacBase64(.query("crc_token"), prefix: "sha256="))])),
        // w3.org/TR/websub, 5.3: the hub verifies the intent of who subscribed. That a subscription ends is never confirmed:
        // anybody can ask the hub for it.
        Handshake(
            "websub", methods: ["GET"], fields: ["topic"],
            when: [.method(["GET"]), .equals(.query("hub.mode"), ["subscribe"]), .present(.query("hub.challenge"))],
            proofs: [.field(.query("hub.topic"), field: "topic", isOptional: false)], reply: .text(.query("hub.challenge"))),
        // woocommerce/woocommerce, WC_Webhook::deliver_ping: an unsigned form of one number.
        Handshake(
            "woocommerce", when: [.method(["POST"]), .absent(.header("X-WC-Webhook-Signature")), .formOfDigits("webhook_id")],
            reply: .status(200)),
        // developer.xero.com, "Configuring your server: intent to receive": 200 to a right signature, 401 to a wrong one,
        // never a body.
        Handshake(
            "xero", needsSignature: true, when: [.method(["POST"]), .emptyList(["events"])], reply: .status(200), wantsEmptyAnswers: true),
        // developers.zoom.us, "Using webhooks: validate your webhook endpoint".
        Handshake(
            "zoom", needsSignature: true, when: [.method(["POST"]), .equals(.body(["event"]), ["endpoint.url_validation"])],
            reply: .json([
                ("plainToken", .echo(.body(["payload", "plainToken"]))), ("encryptedToken", .hmacHex(.body(["payload", "plainToken"]))),
            ])),
    ]
}
