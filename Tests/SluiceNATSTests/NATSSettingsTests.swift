import SluiceConnectors
import SluiceCore
import Testing

@testable import SluiceNATS

@Suite struct NATSSettingsTests {
    /// What a server answers may repeat what it was shown.
    @Test func whatItIsGivenInSecretIsNotTold() async throws {
        let parcels = NATSCourierTests.parcels(0..<1)
        for credentials in [
            NATSDestination.Credentials.token("canary-of-the-subject"), .user("me", password: "canary-of-the-subject"),
            .file("-----BEGIN-----\ncanary-of-the-subject\n-----END-----\n"),
        ] {
            // Refused before anything is sent, in words that hold the subject.
            let destination = NATSDestination(
                name: "bus", url: "nats://127.0.0.1:1", subject: "jobs.{canary-of-the-subject}", credentials: credentials, addresses: true)
            let error = await NATSCourier(destination).carry(parcels)[0].error ?? ""
            #expect(error.contains("[secret]") && !error.contains("canary"), "\(error)")
        }
        let headers = [HTTPField("Authorization", "Bearer canary-header")]
        let destination = NATSDestination(name: "bus", url: "nats://a", subject: "jobs", headers: headers, credentials: .nkey(seed: "SEED"))
        #expect(destination.secrets == ["SEED", "Bearer canary-header", "canary-header"])
    }

    @Test func subjectsAreExpandedPartByPart() throws {
        let subject = try NATSSubject("jobs.{trigger}.by-{cause}")
        #expect(subject.expanded(trigger: "shop.orders", cause: "webhook") == "jobs.shop_orders.by-webhook")
        #expect(try NATSSubject("jobs").expanded(trigger: "a", cause: "b") == "jobs")
        #expect(try NATSSubject("{trigger}").expanded(trigger: "a*b>c d", cause: "") == "a_b_c_d")
    }

    @Test(arguments: [
        "", "jobs.*", "jobs.>", "a b", "jobs..x", ".jobs", "jobs.", "jobs.{record}", "jobs.{trigger", "jobs.}", "$JS.API.x", "_INBOX.x",
        "jöbs", String(repeating: "x", count: 256),
    ])
    func otherSubjectsAreRefused(_ text: String) {
        #expect { try NATSSubject(text) } throws: { ($0 as? SluiceError)?.message.contains("subject") == true }
    }

    @Test func serversAreNamedByURL() throws {
        #expect(
            try NATSAddress.list("nats://a.example:4333, tls://[::1],nats://b") == [
                NATSAddress(host: "a.example", port: 4333, needsTLS: false), NATSAddress(host: "::1", port: 4222, needsTLS: true),
                NATSAddress(host: "b", port: 4222, needsTLS: false),
            ])
        #expect(try NATSAddress.list("nats://a:80")[0].port == 80 && NATSAddress.list("tls://a:443")[0].port == 443)
        for text in [
            "", "a:4222", "http://a", "nats://", "nats://a:0x", "nats://a:99999", "nats://user:canary@a", "nats://a/path", "nats://a?x=1",
            Array(repeating: "nats://a", count: 17).joined(separator: ","),
        ] {
            #expect { try NATSAddress.list(text) } throws: {
                ($0 as? SluiceError).map { $0.code == .invalid && !$0.message.contains("canary") } == true
            }
        }
    }

    /// That a server takes them is shown in `NATSCourierTests`.
    @Test func keysAreReadAsNATSWritesThem() throws {
        let made = NATSKey.seed(of: Array(0..<32))
        #expect(made.hasPrefix("SU") && made.utf8.count == 58)
        let key = try NATSKey(seed: made)
        #expect(key.publicKey.hasPrefix("U") && key.publicKey.utf8.count == 56)
        var spoiled = Array(made)
        spoiled[20] = spoiled[20] == "A" ? "B" : "A"
        for text in ["", "SUx", String(spoiled), key.publicKey, made + "A", NATSKey.seed(of: Array(0..<32), prefix: 0)] {
            #expect { try NATSKey(seed: text) } throws: { ($0 as? SluiceError)?.message.contains("nkey") == true }
        }
        let file = """
            -----BEGIN NATS USER JWT-----
            eyJ0.eyJq.c2ln
            ------END NATS USER JWT------

            ************************* IMPORTANT *************************
            -----BEGIN USER NKEY SEED-----
            \(made)
            ------END USER NKEY SEED------
            """
        let read = try NATSKey.credentials(file)
        #expect(read.jwt == "eyJ0.eyJq.c2ln" && read.key == key)
        for text in ["", "canary", "-----BEGIN NATS USER JWT-----\na.b.c\n------END NATS USER JWT------"] {
            #expect { try NATSKey.credentials(text) } throws: { !(($0 as? SluiceError)?.message ?? "canary").contains("canary") }
        }
    }

    @Test func acknowledgementsAreRead() {
        func read(_ text: String) -> NATSAcknowledgement { NATSAcknowledgement(Array(text.utf8)) }
        #expect(read(#"{"stream":"JOBS","seq":4}"#) == .kept(stream: "JOBS", sequence: 4, isDuplicate: false))
        #expect(read(#"{"stream":"JOBS","seq":4,"duplicate":true}"#) == .kept(stream: "JOBS", sequence: 4, isDuplicate: true))
        let refused = read(#"{"error":{"code":503,"err_code":10077,"description":"maximum messages exceeded"},"stream":"JOBS","seq":0}"#)
        #expect(refused == .refused(code: 503, number: 10077, description: "maximum messages exceeded"))
        for text in ["", "+OK", "{}", #"{"stream":"JOBS"}"#, "[1]"] {
            #expect(read(text) == .unreadable && read(text).problem(subject: "s", stream: nil)?.contains("mend `subject`") == true)
        }
    }

    @Test func settingsAreChecked() {
        let cases: [(String, (inout NATSDestination) -> Void)] = [
            ("url", { $0.url = "http://a" }), ("subject", { $0.subject = ">" }), ("stream", { $0.stream = "a b" }),
            ("stream", { $0.stream = "" }), ("Nats-", { $0.headers = [HTTPField("nats-msg-id", "x")] }),
            ("colon", { $0.headers = [HTTPField("a b", "x")] }), ("line break", { $0.headers = [HTTPField("a", "x\r\nb: c")] }),
            ("nkey", { $0.credentials = .nkey(seed: "x") }), ("credentials", { $0.credentials = .file("x") }),
            ("token", { $0.credentials = .token("") }), ("belong together", { $0.tls.certificate = "-----BEGIN CERTIFICATE-----" }),
            ("PEM", { $0.tls.authorities = "/etc/ca.pem" }), ("batch_max", { $0.jobsMax = 2001 }), ("timeout", { $0.limitSeconds = 121 }),
        ]
        for (part, change) in cases {
            var destination = NATSDestination(name: "bus", url: "nats://nats.example", subject: "jobs.{trigger}", stream: "JOBS")
            #expect(throws: Never.self) { try destination.validate() }
            change(&destination)
            #expect { try destination.validate() } throws: { ($0 as? SluiceError)?.message.contains(part) == true }
        }
    }
}
