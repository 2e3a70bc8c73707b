import SluiceCore
import Testing

@testable import SluiceConnectors

/// The handshakes of providers, each from its published shape.
@Suite struct HandshakeTests {
    /// An example as a provider's documentation shows it.
    struct Example: Sendable, CustomTestStringConvertible {
        var name: String
        var method = "POST"
        var query = ""
        var headers: [HTTPField] = []
        var body = ""
        var status = 200
        var type: String?
        var answer = ""
        var testDescription: String { "\(name) \(method)" }
    }

    static let secret = "zoom_secret_token"
    static let context = HandshakeContext(
        secrets: [secret], fields: ["verify_token": "meatyhamhock", "topic": "https://example.com/feed"], mayLearnSecret: true)
    static let text = "text/plain; charset=utf-8"
    static let json = "application/json"

    static let examples: [Example] = [
        Example(
            name: "slack",
            body:
                #"{"token":"Jhj5dZrVaK7ZwHHjRyZWjbDl","challenge":"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P","type":"url_verification"}"#,
            type: text, answer: "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"),
        Example(
            name: "zoom",
            body: #"{"payload":{"plainToken":"qgg8vlvZRS6UYooatFL8Aw"},"event_ts":1654503849680,"event":"endpoint.url_validation"}"#,
            type: json,
            answer:
                #"{"plainToken":"qgg8vlvZRS6UYooatFL8Aw","encryptedToken":"bd48235863f4a6323ccc4963c594908b7c97f88b4a6a95278f4f093690b12726"}"#
        ),
        Example(name: "dropbox", method: "GET", query: "challenge=kpG4gmb%2FZ-7_w", type: text, answer: "kpG4gmb/Z-7_w"),
        Example(
            name: "meta", method: "GET", query: "hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=meatyhamhock", type: text,
            answer: "1158201444"),
        Example(
            name: "strava", method: "GET",
            query: "hub.verify_token=meatyhamhock&hub.challenge=15f7d1a91c1f40f8a748fd134752feb3&hub.mode=subscribe",
            type: json, answer: #"{"hub.challenge":"15f7d1a91c1f40f8a748fd134752feb3"}"#),
        Example(
            name: "websub", method: "GET",
            query: "hub.mode=subscribe&hub.topic=https%3A%2F%2Fexample.com%2Ffeed&hub.challenge=9f3b&hub.lease_seconds=864000", type: text,
            answer: "9f3b"),
        Example(
            name: "microsoft-graph", query: "validationToken=Validation%3A+Testing+client+application+reachability+for+subscription",
            type: text,
            answer: "Validation: Testing client application reachability for subscription"),
        Example(
            name: "discord",
            body: #"{"application_id":"1","id":"2","token":"t","type":1,"user":{"id":"3"},"version":1}"#, type: json, answer: #"{"type":1}"#
        ),
        Example(name: "discord", body: #"{"version":1,"application_id":"1234560123453231555","type":0}"#, status: 204),
        Example(
            name: "okta", method: "GET", headers: [HTTPField("x-okta-verification-challenge", "wAmZW5n5xv0L")], type: json,
            answer: #"{"verification":"wAmZW5n5xv0L"}"#),
        Example(
            name: "azure-event-grid", headers: [HTTPField("aeg-event-type", "SubscriptionValidation")],
            body: #"""
                [{"id":"2d1781af-3a4c-4d7c-bd0c-e34b19da4e66","topic":"/subscriptions/x","subject":"","data":{"validationCode":
                "512d38b6-c7b8-40c8-89fe-f46f9e9622b6","validationUrl":"https://rp-eastus2.eventgrid.azure.net:553/validate?id=512d"},
                "eventType":"Microsoft.EventGrid.SubscriptionValidationEvent","eventTime":"2018-01-25T22:12:19.4556811Z","dataVersion":"1"}]
                """#, type: json, answer: #"{"validationResponse":"512d38b6-c7b8-40c8-89fe-f46f9e9622b6"}"#),
        Example(name: "trello", method: "HEAD"),
        Example(
            name: "monday", body: #"{"challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"}"#, type: json,
            answer: #"{"challenge":"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"}"#),
        Example(
            name: "woocommerce", headers: [HTTPField("Content-Type", "application/x-www-form-urlencoded")], body: "webhook_id=17"),
        Example(name: "xero", body: #"{"events":[],"lastEventSequence":0,"firstEventSequence":0,"entropy":"S0m3r4Nd0mt3xt"}"#),
        Example(name: "line", body: #"{"destination":"xxxxxxxxxx","events":[]}"#),
        Example(name: "github", headers: [HTTPField("X-GitHub-Event", "ping")], body: #"{"zen":"Design for failure.","hook_id":1}"#),
    ]

    static func outcome(_ example: Example, _ context: HandshakeContext = context) -> HandshakeOutcome {
        let shapes = Handshake.named(example.name)
        let request = WebhookRequest(
            method: example.method, path: "/hooks/x", query: example.query, headers: example.headers, body: Array(example.body.utf8))
        return Handshake.outcome(
            HandshakeRequest(request, for: shapes), among: shapes, isVerified: shapes.first?.needsSignature ?? false, context)
    }

    @Test(arguments: examples) func eachPublishedShapeIsAnswered(_ example: Example) {
        guard case .answer(let answer, nil) = HandshakeTests.outcome(example) else {
            Issue.record("\(HandshakeTests.outcome(example))")
            return
        }
        #expect(answer.status == example.status)
        #expect(String(decoding: answer.body, as: UTF8.self) == example.answer)
        #expect(answer.headers.first("Content-Type") == example.type)
        // Whatever is reflected, no browser takes for a page.
        #expect(answer.headers.first("X-Content-Type-Options") == (example.type == nil ? nil : "nosniff"))
    }

    /// The vector that X publishes with its libraries.
    @Test func theChallengeResponseCheckOfX() {
        var context = HandshakeContext()
        context.secrets = ["Convoy"]
        let outcome = HandshakeTests.outcome(Example(name: "x", method: "GET", query: "crc_token=uzwcfYtzr9"), context)
        guard case .answer(let answer, nil) = outcome else {
            Issue.record("\(outcome)")
            return
        }
        #expect(
            String(decoding: answer.body, as: UTF8.self) == #"{"response_token":"sha256=HXvxTdsfShG6k2zC9NVANwFquJBdOugRYHax2vNiiOo="}"#)
        context.secrets = []
        guard case .refused(403, _) = HandshakeTests.outcome(Example(name: "x", method: "GET", query: "crc_token=a"), context) else {
            Issue.record("without a secret there is nothing to answer with")
            return
        }
    }

    @Test func eachIsAskedForOnTheRightSideOfTheSignature() {
        let signed = Set(Handshake.all.filter(\.needsSignature).map(\.name))
        #expect(signed == ["aws-sns", "discord", "github", "line", "slack", "xero", "zoom"])
        for example in HandshakeTests.examples {
            let shapes = Handshake.named(example.name)
            let request = WebhookRequest(
                method: example.method, path: "/", query: example.query, headers: example.headers, body: Array(example.body.utf8))
            let isSigned = signed.contains(example.name)
            let wrongSide = Handshake.outcome(
                HandshakeRequest(request, for: shapes), among: shapes, isVerified: !isSigned, HandshakeTests.context)
            #expect(wrongSide == .notAHandshake, "\(example.name)")
        }
    }

    /// Ordinary webhooks of the same providers are none.
    @Test(arguments: [
        Example(name: "slack", body: #"{"type":"event_callback","event":{"type":"message"},"challenge":"x"}"#),
        Example(name: "zoom", body: #"{"event":"meeting.started","payload":{"plainToken":"x"}}"#),
        Example(name: "discord", body: #"{"type":1,"application_id":"1","event":{"type":"APPLICATION_AUTHORIZED"}}"#),
        Example(name: "discord", body: #"{"type":2,"application_id":"1"}"#),
        Example(name: "monday", body: #"{"challenge":"x","event":{}}"#), Example(name: "monday", body: #"["challenge"]"#),
        Example(name: "line", body: #"{"destination":"x","events":[{"type":"message"}]}"#), Example(name: "line", body: "{}"),
        Example(name: "woocommerce", body: "webhook_id=17&a=b"), Example(name: "woocommerce", body: "webhook_id="),
        Example(name: "woocommerce", headers: [HTTPField("X-WC-Webhook-Signature", "x")], body: "webhook_id=17"),
        Example(name: "github", headers: [HTTPField("X-GitHub-Event", "push")], body: "{}"),
        Example(name: "microsoft-graph", body: #"{"value":[]}"#), Example(name: "dropbox", method: "POST", query: "challenge=x"),
        Example(name: "meta", method: "GET", query: "hub.mode=unsubscribe&hub.challenge=1&hub.verify_token=meatyhamhock"),
        Example(name: "azure-event-grid", headers: [HTTPField("aeg-event-type", "Notification")], body: "[]"),
        Example(name: "aws-sns", body: #"{"Type":"Notification","SubscribeURL":"https://sns.us-east-1.amazonaws.com/"}"#),
        Example(name: "okta", headers: [HTTPField("X-Okta-Verification-Challenge", "x")]), Example(name: "trello"),
        Example(name: "cloudevents", method: "OPTIONS"), Example(name: "asana", body: "{}"),
    ]) func ordinaryWebhooksAreNone(_ example: Example) {
        #expect(HandshakeTests.outcome(example) == .notAHandshake)
    }

    // MARK: - Hostile ones

    static func reflecting(_ challenge: String) -> [Example] {
        var body = JSONWriter()
        body.object { $0.member("challenge", challenge) }
        var slack = JSONWriter()
        slack.object {
            $0.member("type", "url_verification")
            $0.member("challenge", challenge)
        }
        let encoded = WebURL.encode(challenge)
        return [
            Example(name: "dropbox", method: "GET", query: "challenge=" + encoded), Example(name: "monday", body: body.string),
            Example(name: "slack", body: slack.string), Example(name: "microsoft-graph", query: "validationToken=" + encoded),
            Example(name: "meta", method: "GET", query: "hub.mode=subscribe&hub.verify_token=meatyhamhock&hub.challenge=" + encoded),
            Example(name: "okta", method: "GET", headers: [HTTPField("X-Okta-Verification-Challenge", challenge)]),
            Example(name: "asana", headers: [HTTPField("X-Hook-Secret", challenge)]),
            Example(name: "x", method: "GET", query: "crc_token=" + encoded),
        ]
    }

    @Test(arguments: [String(repeating: "a", count: 1025), "a\u{1}b", "ü", "", "a\r\nSet-Cookie: x=1", "\u{7F}"])
    func P10_aChallengeThatIsNotShortAndPrintableIsNotReflected(_ challenge: String) {
        for example in HandshakeTests.reflecting(challenge) {
            guard case .refused(400, let reason) = HandshakeTests.outcome(example) else {
                Issue.record("\(example.name) answers \(challenge.prefix(20))")
                continue
            }
            #expect(!reason.contains("Set-Cookie") && !reason.contains("aaa"))
        }
    }

    /// Who knows the address of X must not get the signature of a body, nor of anything that could be one.
    @Test(arguments: [
        #"{"for_user_id":"2244994945"}"#, "{}", "[]", "1 2", "a:b", "v0:1:a", "a.b", "\"a\"", String(repeating: "a", count: 129), "<a>",
        "%", "~",
    ])
    func P8_aChallengeThatCouldBeABodyIsNotSigned(_ challenge: String) {
        var zoom = JSONWriter()
        zoom.object { writer in
            writer.member("event", "endpoint.url_validation")
            writer.key("payload")
            writer.object { $0.member("plainToken", challenge) }
        }
        let x = Example(name: "x", method: "GET", query: "crc_token=" + WebURL.encode(challenge))
        for example in [x, Example(name: "zoom", body: zoom.string)] {
            guard case .refused(400, let reason) = HandshakeTests.outcome(example) else {
                Issue.record("\(example.name) signs \(challenge)")
                continue
            }
            #expect(!reason.contains(challenge), "\(reason)")
        }
    }

    /// What X sends: a UUID, base64 of one, and in base64's other letters.
    @Test(arguments: [
        "9b4507b3-9040-4669-9ca3-6b94edb50553", "OWI0NTA3YjMtOTA0MC00NjY5LTljYTMtNmI5NGVkYjUwNTUz", "a+b/c_d-e==",
        String(repeating: "Z", count: 128),
    ])
    func whatXSendsIsSigned(_ challenge: String) {
        let example = Example(name: "x", method: "GET", query: "crc_token=" + WebURL.encode(challenge))
        guard case .answer = HandshakeTests.outcome(example) else {
            Issue.record("\(challenge) is refused")
            return
        }
    }

    @Test func markupIsReflectedAsTextOnly() {
        let markup = "<script>alert(1)</script>"
        for example in HandshakeTests.reflecting(markup) where !["asana", "x"].contains(example.name) {
            guard case .answer(let answer, nil) = HandshakeTests.outcome(example) else {
                Issue.record("\(example.name)")
                return
            }
            #expect([HandshakeTests.text, HandshakeTests.json].contains(answer.headers.first("Content-Type")), "\(example.name)")
            #expect(answer.headers.first("X-Content-Type-Options") == "nosniff")
            #expect(answer.headers.first("Content-Security-Policy") == "default-src 'none'; sandbox")
        }
    }

    @Test func whoAsksMustKnowTheToken() {
        let asked = "hub.mode=subscribe&hub.challenge=1"
        for (query, context) in [
            (asked, HandshakeTests.context), (asked + "&hub.verify_token=meatyhamhoc", HandshakeTests.context),
            (asked + "&hub.verify_token=", HandshakeTests.context), (asked + "&hub.verify_token=", HandshakeContext()),
            (asked + "&hub.verify_token=meatyhamhock", HandshakeContext()),
            (asked + "&hub.verify_token=meatyhamhock&hub.verify_token=x", HandshakeTests.context),
        ] {
            for name in ["meta", "strava"] {
                guard case .refused(403, let reason) = HandshakeTests.outcome(Example(name: name, method: "GET", query: query), context)
                else {
                    Issue.record("\(name) answers \(query)")
                    continue
                }
                #expect(!reason.contains("meatyhamhock"))
            }
        }
        let topic = "hub.mode=subscribe&hub.challenge=1&hub.topic="
        for (query, context) in [(topic + "https://other", HandshakeTests.context), (topic, HandshakeContext())] {
            guard case .refused(404, _) = HandshakeTests.outcome(Example(name: "websub", method: "GET", query: query), context) else {
                Issue.record("websub answers \(query)")
                return
            }
        }
        // Anybody can ask a hub to end a subscription: that is never confirmed.
        let end = Example(name: "websub", method: "GET", query: "hub.mode=unsubscribe&hub.challenge=1&hub.topic=https://example.com/feed")
        #expect(HandshakeTests.outcome(end) == .notAHandshake)
    }

    @Test func P10_aLargeBodyIsNotEvenLookedAt() {
        let padding = String(repeating: " ", count: HandshakeRequest.bodyBytesMax)
        #expect(HandshakeTests.outcome(Example(name: "monday", body: #"{"challenge":"x"}"# + padding)) == .notAHandshake)
        let deep = String(repeating: "[", count: 2000) + String(repeating: "]", count: 2000)
        #expect(HandshakeTests.outcome(Example(name: "line", body: #"{"events":[],"x":\#(deep)}"#)) == .notAHandshake)
        #expect(HandshakeTests.outcome(Example(name: "dropbox", method: "GET", query: "challenge=%zz")) == .notAHandshake)
        let long = "challenge=" + String(repeating: "a", count: 30_000)
        #expect(HandshakeTests.outcome(Example(name: "dropbox", method: "GET", query: long)) == .notAHandshake)
    }

    // MARK: - Those that need more than an answer

    static func sns(_ url: String, topic: String = "arn:aws:sns:us-west-2:123456789012:MyTopic") -> Example {
        Example(
            name: "aws-sns", headers: [HTTPField("x-amz-sns-message-type", "SubscriptionConfirmation")],
            body: #"""
                {"Type":"SubscriptionConfirmation","MessageId":"165545c9-2a5c-472c-8df2-7ff2be2b3b1b","Token":"2336412f37","TopicArn":"\#(topic)",
                "Message":"You have chosen to subscribe","SubscribeURL":"\#(url)","Timestamp":"2012-04-26T20:45:04.751Z"}
                """#)
    }

    @Test func aSubscriptionOfSNSIsConfirmedAtAmazonOnly() {
        let good =
            "https://sns.us-west-2.amazonaws.com/?Action=ConfirmSubscription&TopicArn=arn:aws:sns:us-west-2:123456789012:MyTopic&Token=2336"
        let china = "https://sns.cn-north-1.amazonaws.com.cn/?Action=ConfirmSubscription"
        for url in [good, china] {
            #expect(HandshakeTests.outcome(HandshakeTests.sns(url)) == .answer(HandshakeAnswer(status: 200), .confirm(url: url)))
        }
        for url in [
            "http://sns.us-west-2.amazonaws.com/", "https://sns.us-west-2.amazonaws.com.evil.example/",
            "https://evil.example/?sns.us-west-2.amazonaws.com",
            "https://sns.us-west-2.amazonaws.com:8443/", "https://a@sns.us-west-2.amazonaws.com/", "https://sns.amazonaws.com/",
            "https://s3.us-west-2.amazonaws.com/", "https://sns.a.b.amazonaws.com/", "https://127.0.0.1/", "https://[::1]/",
            "file:///etc/passwd",
            "https://sns.us-west-2.amazonaws.com.cn.evil/", #"https://sns.us-west-2.amazonaws.com\\@evil.example/"#, "",
        ] {
            guard case .refused(400, let reason) = HandshakeTests.outcome(HandshakeTests.sns(url)) else {
                Issue.record("\(url) is asked for")
                continue
            }
            #expect(!reason.contains("evil"))
        }
        var pinned = HandshakeTests.context
        pinned.fields["topic_arn"] = "arn:aws:sns:us-west-2:123456789012:MyTopic"
        #expect(HandshakeTests.outcome(HandshakeTests.sns(good), pinned) == .answer(HandshakeAnswer(status: 200), .confirm(url: good)))
        guard case .refused(404, _) = HandshakeTests.outcome(HandshakeTests.sns(good, topic: "arn:other"), pinned) else {
            Issue.record("another topic is confirmed")
            return
        }
    }

    @Test func CloudEventsAreAllowedByHeaders() {
        func asked(_ headers: [(String, String)]) -> Example {
            Example(name: "cloudevents", method: "OPTIONS", headers: headers.map { HTTPField($0.0, $0.1) })
        }
        var context = HandshakeContext()
        context.requestsPerMinuteMax = 6000
        let origin = ("WebHook-Request-Origin", "eventemitter.example.com")
        let allow = [HTTPField("Allow", "POST, PUT"), HTTPField("WebHook-Allowed-Origin", "eventemitter.example.com")]
        #expect(HandshakeTests.outcome(asked([origin]), context) == .answer(HandshakeAnswer(status: 200, headers: allow)))
        for (rate, granted) in [("120", "120"), ("9000", "6000"), ("*", "6000")] {
            #expect(
                HandshakeTests.outcome(asked([origin, ("WebHook-Request-Rate", rate)]), context)
                    == .answer(HandshakeAnswer(status: 200, headers: allow + [HTTPField("WebHook-Allowed-Rate", granted)])))
        }
        let callback = "https://example.com/confirm?id=12345&key=FGHTY"
        #expect(
            HandshakeTests.outcome(asked([origin, ("WebHook-Request-Callback", callback)]), context)
                == .answer(HandshakeAnswer(status: 200, headers: allow), .confirm(url: callback)))
        for hostile in [
            [("WebHook-Request-Origin", "a b")], [("WebHook-Request-Origin", "x<y")], [origin, ("WebHook-Request-Rate", "-1")],
            [origin, ("WebHook-Request-Rate", "1e9")], [origin, ("WebHook-Request-Callback", "https://evil.example/")],
            [origin, ("WebHook-Request-Callback", "https://com/")], [origin, ("WebHook-Request-Callback", "http://example.com/")],
            [origin, ("WebHook-Request-Callback", "https://10.0.0.1/")],
            [("WebHook-Request-Origin", "localhost"), ("WebHook-Request-Callback", "https://localhost/")],
        ] {
            guard case .refused(400, _) = HandshakeTests.outcome(asked(hostile), context) else {
                Issue.record("\(hostile) is answered")
                continue
            }
        }
    }

    @Test func AsanaGivesASecretOnlyToAnAddressThatHasNone() {
        let example = Example(
            name: "asana", headers: [HTTPField("X-Hook-Secret", "b537207f20cbfa02357cf448134da559e8bd39d61597dcd5631b8012eae53e81")])
        let secret = example.headers[0].value
        #expect(
            HandshakeTests.outcome(example)
                == .answer(HandshakeAnswer(status: 200, headers: [HTTPField("X-Hook-Secret", secret)]), .learnSecret(secret)))
        guard case .refused(409, _) = HandshakeTests.outcome(example, HandshakeContext(secrets: ["known"])) else {
            Issue.record("a secret is replaced")
            return
        }
    }

    @Test func aSchemeImpliesTheHandshakeOfItsProvider() {
        #expect(Handshake.of(declared: [], scheme: "slack").map(\.name) == ["slack"])
        #expect(Handshake.of(declared: [], scheme: "discord").map(\.name) == ["discord", "discord"])
        #expect(Handshake.of(declared: ["monday", "okta"], scheme: "slack").map(\.name) == ["monday", "okta"])
        for scheme in ["stripe", "standard-webhooks", "basic-auth", "none"] { #expect(Handshake.of(declared: [], scheme: scheme).isEmpty) }
        // Each name is written as schemes are, and each has an example here.
        let names = Set(Handshake.all.map(\.name))
        #expect(names.count >= 20)
        let shown = Set(HandshakeTests.examples.map(\.name)).union(["x", "aws-sns", "cloudevents", "asana"])
        #expect(names == shown)
    }
}
