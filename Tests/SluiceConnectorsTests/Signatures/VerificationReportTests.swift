import SluiceCore
import Testing

@testable import SluiceConnectors

/// What `sluice verify` says. It names the cause, and never the secret or the signature that was expected.
@Suite struct VerificationReportTests {
    static func fixture(_ name: String) throws -> SignatureFixture { try #require(SignatureFixture.all.first { $0.name == name }) }

    static func report(
        _ fixture: SignatureFixture, body: [UInt8]? = nil, secrets: [String]? = nil, url: String? = nil, now: Timestamp? = nil
    ) -> VerificationReport {
        var request = fixture.request
        if let body { request.body = body }
        if let url { request.url = url }
        return fixture.signatureScheme.report(
            request, secrets: secrets ?? fixture.secrets, now: now ?? fixture.now, options: fixture.options)
    }

    @Test(arguments: SignatureFixture.all) func aReportAgreesWithTheVerdictAndKeepsSecrets(_ fixture: SignatureFixture) {
        #expect(Self.report(fixture).isValid)
        for report in [
            Self.report(fixture), Self.report(fixture, secrets: [fixture.wrongSecret]),
            Self.report(fixture, body: fixture.request.body + [0x0A]),
            Self.report(fixture, body: []),
        ] {
            let text = report.text + String(decoding: report.json, as: UTF8.self)
            for secret in fixture.secrets + [fixture.wrongSecret] where secret.utf8.count > 6 {
                #expect(!text.contains(secret), "\(fixture.name) prints a secret")
            }
            #expect(text.utf8.count < 8000)
        }
    }

    /// The signature that would have been right stands nowhere, not even where the hash of the content is the signature.
    @Test(arguments: SignatureFixture.all.filter { $0.signatureScheme.signsBody && !SlowSchemes.names.contains($0.scheme) })
    func theExpectedSignatureIsNeverPrinted(_ fixture: SignatureFixture) {
        // The headers hold what the sender computed; with these wiped, what is left to print is ours.
        var request = fixture.request
        request.headers = request.headers.map { field in
            field.value.utf8.count >= 24
                ? HTTPField(field.name, String(field.value.prefix(3)) + String(repeating: "0", count: field.value.count - 3)) : field
        }
        let report = fixture.signatureScheme.report(request, secrets: fixture.secrets, now: fixture.now, options: fixture.options)
        #expect(!report.isValid)
        let text = report.text.lowercased()
        for field in fixture.request.headers where field.value.utf8.count >= 24 {
            for part in field.value.split(whereSeparator: { ",; ".contains($0) }) {
                let core = part.drop { $0 != "=" || part.count < 30 }.dropFirst()
                for candidate in [String(part), String(core)] where candidate.utf8.count >= 24 && !candidate.hasSuffix("0000000000") {
                    #expect(!text.contains(candidate.lowercased()), "\(fixture.name) prints \(candidate)")
                }
            }
        }
    }

    @Test func aLineFeedTooManyIsFound() throws {
        let fixture = try Self.fixture("github 1")
        let report = Self.report(fixture, body: fixture.request.body + [0x0A])
        #expect(!report.isValid)
        #expect(report.hints.contains { $0.contains("did not end with a line feed") })
        #expect(report.text.contains("X-Hub-Signature-256"))
        #expect(report.text.contains("{body}") && report.text.contains("14 bytes"))
    }

    @Test func rewrittenJSONIsFound() throws {
        let fixture = try Self.fixture("xero 1")
        let spaced = Array(#"{"event": "order.created", "id": "evt_1", "n": 1}"#.utf8)
        #expect(Self.report(fixture, body: spaced).hints.contains { $0.contains("written again as JSON") })
        let published = try Self.fixture("hmac-sha256 1")
        #expect(Self.report(published, body: Array(#"{"a":"z"}"#.utf8)).hints.contains { $0.contains("space after each comma") })
    }

    /// A line feed too many says nothing of how the JSON was written.
    @Test(arguments: ["\n", "\r\n", " ", "\n\n"]) func spaceAfterTheBodyIsNoRewriting(_ end: String) throws {
        let fixture = try Self.fixture("xero 1")
        let hints = Self.report(fixture, body: fixture.request.body + Array(end.utf8)).hints.filter { $0.contains("if the body") }
        #expect(hints.count == 1 && !hints[0].contains("JSON"), "\(hints)")
    }

    /// Where a scheme leaves its header open, it is looked for, and the option that names it is said.
    @Test func aSignatureInAnotherHeaderIsFound() throws {
        let fixture = try Self.fixture("hmac-sha256 1")
        let own = try #require(fixture.request.headers.first { $0.value.utf8.count >= 64 })
        var request = fixture.request
        request.headers = [HTTPField("X-Acme-Signature", own.value)]
        let report = fixture.signatureScheme.report(request, secrets: fixture.secrets, now: fixture.now)
        #expect(!report.isValid && report.hints.contains { $0.contains("--header X-Acme-Signature") }, "\(report.hints)")
        request.headers = []
        let none = fixture.signatureScheme.report(request, secrets: fixture.secrets, now: fixture.now)
        #expect(none.hints.contains { $0.contains("--header NAME") }, "\(none.hints)")
    }

    /// A secret that is a common word stays hidden where the request holds it, and our own words stay whole.
    @Test func onlyWhatTheRequestHoldsIsScrubbed() throws {
        let request = WebhookRequest(
            method: "POST", path: "/", query: "", headers: [HTTPField("X-Hub-Signature-256", "sha256=other")], body: Array("other".utf8))
        let report = try #require(SignatureScheme.named("github")).report(
            request, secrets: ["other", "webhook"], now: Timestamp(seconds: 0))
        let ours = report.hints.joined() + report.verdictMessage
        #expect(!ours.contains("[secret]"), "\(ours)")
        let wrong = WebhookRequest(
            method: "POST", path: "/", query: "",
            headers: [HTTPField("X-Hub-Signature-256", "sha256=" + String(repeating: "0", count: 64))],
            body: Array("hello".utf8))
        let hints = try #require(SignatureScheme.named("github")).report(
            wrong, secrets: ["other", "webhook"], now: Timestamp(seconds: 0)
        ).hints.joined(separator: " ")
        #expect(hints.contains("another webhook") && !hints.contains("[secret]"), "\(hints)")
        #expect(report.facts.contains { $0.text.contains("[secret]") } && !report.facts.contains { $0.text.contains("other") })
    }

    @Test func secretsInTheWrongFormAreFound() throws {
        let github = try Self.fixture("github 1")
        #expect(Self.report(github, secrets: [" " + github.secrets[0]]).hints.contains { $0.contains("white space") })
        #expect(Self.report(github, secrets: ["\"\(github.secrets[0])\""]).hints.contains { $0.contains("quotes") })
        let stripe = try Self.fixture("stripe 1")
        #expect(Self.report(stripe, secrets: ["test_secret"]).hints.contains { $0.contains("whsec_") })
        let adyen = try Self.fixture("adyen-platform")
        #expect(Self.report(adyen, secrets: ["not hex"]).hints.contains { $0.contains("the HMAC key in hex") })
    }

    @Test func wrongURLsAreFound() throws {
        let square = try Self.fixture("square 1")
        let url = try #require(square.request.url)
        let http = url.replacing("https://", with: "http://")
        #expect(Self.report(square, url: http).hints.contains { $0.contains("began with https://") && $0.contains(url) })
        #expect(Self.report(square, url: url + "/").hints.contains { $0.contains("did not end with a slash") })
        #expect(Self.report(square, url: url + "?a=1").hints.contains { $0.contains("had no query") })
    }

    @Test func staleRequestsSayHowStaleAndThatTheRestIsRight() throws {
        let stripe = try Self.fixture("stripe 1")
        let report = Self.report(stripe, now: stripe.now + .seconds(901))
        #expect(report.text.contains("stale") && report.text.contains("901 s"))
        #expect(report.hints.contains { $0.contains("the signature itself is right") })
        let wrong = Self.report(stripe, secrets: ["whsec_other"], now: stripe.now + .seconds(901))
        #expect(!wrong.hints.contains { $0.contains("the signature itself is right") })
    }

    /// The header is written otherwise, and all else is right: nothing is wrong with the secret.
    @Test func whiteSpaceInTheHeaderIsSaid() throws {
        let fixture = try Self.fixture("stripe 1")
        var spaced = fixture.request
        spaced.headers = spaced.headers.map { field in
            HTTPField(field.name, field.value.split(separator: ",").joined(separator: " , "))
        }
        try #require(spaced.headers.map(\.value) != fixture.request.headers.map(\.value))
        let report = fixture.signatureScheme.report(spaced, secrets: fixture.secrets, now: fixture.now, options: fixture.options)
        #expect(!report.isValid)
        #expect(report.hints.contains { $0.contains("white space in the header Stripe-Signature") }, "\(report.hints)")
        #expect(!report.hints.contains { $0.contains("if the secret") }, "\(report.hints)")
    }

    /// Some providers repeat the secret in the body, and some take it in the address.
    @Test func aSecretInTheBodyOrTheURLIsNotPrinted() throws {
        let secret = "client-state-1"
        for body in ["{\"clientState\": \"\(secret)\"}", String(repeating: "x", count: 40) + secret] {
            let scheme = try #require(SignatureScheme.named("hmac-sha256"))
            let request = WebhookRequest(
                method: "POST", path: "/", query: "", headers: [HTTPField("X-Sig", secret)], body: Array(body.utf8))
            let report = scheme.report(
                request, secrets: [secret], now: Timestamp(seconds: 0), options: SchemeOptions(headerName: "X-Sig"))
            let text = report.text + String(decoding: report.json, as: UTF8.self)
            #expect(!text.contains("client-st"), "\(text)")
        }
        let fixture = try Self.fixture("twilio 1")
        var request = fixture.request
        request.url = "https://someone:passw0rd-1@hooks.example.com/a?b=c"
        let report = fixture.signatureScheme.report(request, secrets: fixture.secrets, now: fixture.now, options: fixture.options)
        let text = report.text + String(decoding: report.json, as: UTF8.self)
        #expect(!text.contains("passw0rd-1") && text.contains("hooks.example.com"), "\(text)")
    }

    /// Programs read the parts of the signed content under their own names.
    @Test func partsOfTheContentHaveTheirNames() throws {
        let report = Self.report(try Self.fixture("stripe 1"))
        let root = try JSONDocument(report.json).root
        #expect(root["signed_parts"]?["timestamp"] != nil && root["signed_parts"]?["body"] != nil)
        #expect(root["facts"]?["body"]?.text?.contains("SHA-256") == true)
        #expect(root["facts"]?.members?.contains { $0.key.hasPrefix(" ") } == false)
    }

    @Test func anotherSchemeIsFound() throws {
        let slack = try Self.fixture("slack")
        let report = try #require(SignatureScheme.named("zoom")).report(slack.request, secrets: slack.secrets, now: slack.now)
        #expect(report.hints.contains { $0.contains("`slack`") })
        #expect(report.hints.contains { $0.contains("X-Slack-Signature") })
        let x = try Self.fixture("x 1")
        var request = x.request
        request.headers = [HTTPField("X-Hub-Signature-256", x.request.headers[0].value)]
        let encoded = try #require(SignatureScheme.named("github")).report(request, secrets: x.secrets, now: x.now)
        #expect(encoded.hints.contains { $0.contains("written in another way (base64)") })
    }

    @Test func aLongUnprintableContentStaysShort() throws {
        let fixture = try Self.fixture("github 1")
        let report = Self.report(fixture, body: Array(repeating: 0x1B, count: 100_000))
        #expect(report.text.contains("100000 bytes"))
        #expect(report.text.utf8.allSatisfy { $0 >= 0x20 || $0 == 0x0A })
    }
}

extension VerificationReport {
    fileprivate var verdictMessage: String { if case .refused(let refusal) = verdict { refusal.message } else { "" } }
}

@Suite struct RawRequestTests {
    @Test(arguments: ["\n", "\r\n"]) func aRequestIsReadAsItCameOverTheWire(_ end: String) throws {
        let head = ["POST /hooks/x?a=1 HTTP/1.1", "Host: hooks.example.com", "X-Odd:  two words ", "X-Empty:"].joined(separator: end)
        let body: [UInt8] = [0x7B, 0x0D, 0x0A, 0xFF, 0x00, 0x0A]
        let raw = try RawRequest(Array((head + end + end).utf8) + body)
        #expect(raw.request.method == "POST" && raw.request.path == "/hooks/x" && raw.request.query == "a=1")
        #expect(raw.request.headers == [HTTPField("Host", "hooks.example.com"), HTTPField("X-Odd", "two words"), HTTPField("X-Empty", "")])
        #expect(raw.request.body == body && raw.notes.isEmpty && raw.request.url == nil)
    }

    @Test func contentLengthCutsTheBodyAndAMissingRestIsSaid() throws {
        let raw = try RawRequest(Array("POST / HTTP/1.1\nContent-Length: 2\n\n{}\n".utf8))
        #expect(raw.request.body == Array("{}".utf8) && raw.notes.count == 1)
        let short = try RawRequest(Array("POST / HTTP/1.1\nContent-Length: 20\n\n{}".utf8))
        #expect(short.request.body == Array("{}".utf8) && short.notes.first?.contains("only 2 bytes") == true)
        let odd = try RawRequest(Array("POST / HTTP/1.1\nContent-Length: 99999999999999999999\n\n{}".utf8))
        #expect(odd.request.body == Array("{}".utf8))
    }

    @Test func chunksArePutTogether() throws {
        let head = "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, Chunked\r\nContent-Length: 3\r\n\r\n"
        let raw = try RawRequest(Array((head + "4;a=b\r\n{\"a\"\r\n00A\r\n: 1,\r\n \"b\"\r\n3\r\n:2}\r\n0\r\nX-Trailer: x\r\n\r\n").utf8))
        #expect(raw.request.body == Array("{\"a\": 1,\r\n \"b\":2}".utf8) && raw.notes.isEmpty, "\(raw)")
        let empty = try RawRequest(Array((head + "0\r\n\r\n").utf8))
        #expect(empty.request.body.isEmpty)
        let plain = try RawRequest(Array("POST / HTTP/1.1\nTransfer-Encoding: gzip\n\n{}".utf8))
        #expect(plain.request.body == Array("{}".utf8) && plain.notes.count == 1)
    }

    @Test(arguments: [
        ("{\"a\":1}", "chunk 1"), ("", "chunk 1"), ("4\r\n{}", "chunk 1"), ("2\r\n{}\r\n", "chunk 2"), ("2\r\n{}x\r\n0\r\n\r\n", "longer"),
        ("-2\r\n{}\r\n0\r\n\r\n", "hexadecimal"), ("fffffffff\r\n{}\r\n", "hexadecimal"), ("ffffffff\r\n{}\r\n", "cut off"),
    ]) func chunksThatAreNoneAreRefusedWithWords(_ body: String, _ words: String) {
        let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        let error = #expect(throws: SluiceError.self) { try RawRequest(Array((head + body).utf8)) }
        #expect(error?.message.contains(words) == true && error?.message.contains("chunked") == true, "\(error?.message ?? "")")
    }

    @Test(arguments: ["POST / HTTP/1.1", "POST / HTTP/1.1\r\nHost: a.test\r\n", "POST / HTTP/1.1\nHost: a.test\nX-Sig: 12"])
    func aRequestThatEndsInItsHeadersIsCutOff(_ text: String) {
        let error = #expect(throws: SluiceError.self) { try RawRequest(Array(text.utf8)) }
        #expect(error?.message.contains("cut off") == true, "\(error?.message ?? "")")
    }

    @Test func aTargetMayBeAWholeURL() throws {
        let raw = try RawRequest(Array("POST https://a.example/h?x HTTP/1.1\n\n".utf8))
        #expect(
            raw.request.url == "https://a.example/h?x" && raw.request.path == "/h" && raw.request.query == "x" && raw.request.body.isEmpty)
    }

    @Test(arguments: [
        "", "\n\n", "POST\n\n", "POST / FTP/1.1\n\n", "no request", "{\"a\": 1}\n\n", "POST / HTTP/1.1\nno colon\n\n",
        "POST / HTTP/1.1\n: x\n\n",
    ])
    func whatIsNoRequestIsRefusedWithTheLine(_ text: String) {
        #expect(throws: SluiceError.self) { try RawRequest(Array(text.utf8)) }
    }

    @Test func secretFilesHoldOneSecretALine() {
        #expect(SecretFile("one\n").secrets == ["one"])
        #expect(SecretFile("one\r\ntwo with spaces \r\n").secrets == ["one", "two with spaces "])
        #expect(SecretFile("").secrets == [] && SecretFile("\n\n").secrets == [])
        let pem = "-----BEGIN CERTIFICATE-----\nAAAA\nBBBB\n-----END CERTIFICATE-----\n"
        #expect(SecretFile("first\n" + pem + "last").secrets == ["first", pem, "last"])
        #expect(SecretFile("{\n\"keys\": []\n}\n").secrets == ["{\n\"keys\": []\n}\n"])
        let file = SecretFile("webhook_id=1JE\nx=y\n", parameterNames: ["webhook_id"])
        #expect(file.secrets == ["x=y"] && file.parameters == ["webhook_id": "1JE"])
    }
}
