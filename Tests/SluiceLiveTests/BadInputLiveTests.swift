import AsyncHTTPClient
import Foundation
import NIOCore
import SluiceCore
import SluiceTesting
import Testing

extension Live {
    /// Show g, with the real command and the real server: each bad input has a clear answer where its sender looks, and
    /// nothing is lost by it.
    @Suite(.serialized) struct BadInputLiveTests {
        static let canaries = [Chargebee.password, "whsec_live_canary", "api-key-canary"]
        static let keyOne = String(repeating: "1a", count: 32)
        static let keyTwo = String(repeating: "2b", count: 32)

        // MARK: Webhooks

        /// What may be sent to a webhook's URL with the right credentials.
        static let accepted: [(name: String, body: [UInt8], reason: String?)] = [
            ("in order", Array(#"{"id":"ev_ok","event_type":"customer_changed","content":{}}"#.utf8), nil),
            ("unknown key", Array(#"{"id":"ev_key","event_type":"coupon_created","content":{}}"#.utf8), "coupon"),
            ("not JSON", Array("hello".utf8), "not JSON"),
            ("empty", [], "JSON"),
            ("cut off", Array(#"{"id":"ev_cut","event_type":"cust"#.utf8), "JSON"),
            ("not UTF-8", Array(#"{"id":"ev_utf","event_type":""#.utf8) + [0xFF, 0xFE] + Array(#""}"#.utf8), "UTF-8"),
            ("too deep", Array((String(repeating: "[", count: 5000) + String(repeating: "]", count: 5000)).utf8), "deep"),
            ("another shape", Array(#"[1,2,3]"#.utf8), "connector.lua"),
        ]

        static func configuration(_ provider: String) -> String {
            """
            connections:
              demo:
                connector: chargebee
                fields: { site_url: "\(provider)", api_key: "${env:DEMO_KEY}" }
                webhook: { secrets: ["${env:DEMO_HOOK}"] }
                allow_private: true
              pay:
                connector: stripe-events
                fields: { base_url: "\(provider)", api_key: "${env:DEMO_KEY}" }
                webhook: { secrets: ["${env:STRIPE_HOOK}"] }
                allow_private: true
            triggers:
              subscriptions: { connection: demo, type: updated_record, input: { resource: subscription } }
              customers: { connection: demo, type: updated_record, input: { resource: customer } }
              invoices: { connection: demo, type: updated_record, input: { resource: invoice } }
            """
        }
        static let environment: [String: String?] = [
            "DEMO_KEY": "api-key-canary", "DEMO_HOOK": "\(Chargebee.user):\(Chargebee.password)", "STRIPE_HOOK": "whsec_live_canary",
        ]

        @Test func g_webhooksThatAreNone() async throws {
            try await Self.served { provider, sluice in
                let command = Command(sluice)
                let url = try await sluice.webhookURL("demo")
                try await Self.refused(url, try await sluice.webhookURL("pay"), sluice)
                let alarms = try await sluice.send("GET", "/v1/alarms").text
                #expect(alarms.contains("verification_failing") && alarms.contains("compare the webhook secret"))
                #expect(alarms.contains("connection demo"), "\(alarms)")
                let status = try await command.run(["status"])
                #expect(status.code == 1 && status.text.contains("compare the webhook secret"), "\(status.text)")
                for (name, body, _) in Self.accepted {
                    let answer = try await Hook.post(url, body, [Hook.basic(Chargebee.password)])
                    #expect(answer.status == 200, "\(name): \(answer.text)")
                }
                let listed = try await command.json(["inbox", "list", "--json"])["webhooks"]?.elements ?? []
                #expect(listed.count == Self.accepted.count, "what was accepted is in the inbox, and nothing else")
                for (item, webhook) in zip(listed.reversed(), Self.accepted) {
                    let reason = item["unmatched_reason"]?.string
                    if let expected = webhook.reason {
                        #expect(reason?.contains(expected) == true, "\(webhook.name): \(reason ?? "no reason")")
                    } else {
                        #expect(reason == nil, "\(webhook.name): \(reason ?? "")")
                    }
                    #expect(item["body_bytes"]?.int64 == Int64(webhook.body.count), "\(webhook.name) is kept whole")
                }
                provider.makeChanges(6)
                _ = try await Hook.post(url, Self.accepted[0].body + [0x20], [Hook.basic(Chargebee.password)])
                try await waitUntil("the alarm is gone", seconds: 60) {
                    try await !sluice.send("GET", "/v1/alarms").text.contains("connection demo")
                }
                try await Self.noSecret(command, sluice)
            }
        }

        /// What is not accepted, and what its sender is told.
        static func refused(_ url: String, _ stripe: String, _ sluice: SluiceProcess) async throws {
            let good = accepted[0].body
            let old = "166f67b477496f3c3ddc40b24b36372c55578dd7df46f41e2414fa947c2d2e18"
            let cases: [(String, String, [UInt8], [(String, String)], Int, String)] = [
                ("wrong password", url, good, [Hook.basic("wrong")], 401, "password"),
                ("no credentials", url, good, [], 401, "Authorization"),
                ("malformed", url, good, [("Authorization", "Basic !!!")], 401, "Authorization"),
                ("another scheme", url, good, [("Authorization", "Bearer x")], 401, "Authorization"),
                ("empty", url, good, [("Authorization", "")], 401, "Authorization"),
                ("no signature", stripe, good, [], 401, "Stripe-Signature"),
                ("malformed signature", stripe, good, [("Stripe-Signature", "hello")], 401, "t="),
                (
                    "stale", stripe, Array(#"{"id":"evt_stale"}"#.utf8), [("Stripe-Signature", "t=1700000000,v1=\(old)")], 401,
                    "Stripe-Signature"
                ),
                ("wrong", stripe, good, [("Stripe-Signature", "t=\(SystemTime.now().seconds),v1=\(old)")], 401, "HMAC-SHA256"),
                (
                    "too large", url, [UInt8](repeating: 0x20, count: 10 * 1024 * 1024 + 1), [Hook.basic(Chargebee.password)], 413,
                    "too_large"
                ),
                ("unknown URL", sluice.hooksURL + "/hooks/unknown", good, [Hook.basic(Chargebee.password)], 404, "not_found"),
                ("no URL", sluice.hooksURL + "/", good, [Hook.basic(Chargebee.password)], 404, "not_found"),
            ]
            for (name, url, body, headers, status, words) in cases {
                let answer = try await Hook.post(url, body, headers)
                #expect(answer.status == status && answer.text.contains(words), "\(name): \(answer.status) \(answer.text)")
                for canary in canaries { #expect(!answer.text.contains(canary), "\(name) tells a secret") }
            }
            #expect(await Hook.cutOff(url, [Hook.basic(Chargebee.password)]), "a body that is cut off gets no 2xx")
        }

        static func noSecret(_ command: Command, _ sluice: SluiceProcess) async throws {
            var told = [("the log", try sluice.log())]
            let commands = [
                ["status"], ["inbox", "list", "--json"], ["inbox", "show", "1", "--json"], ["connection", "show", "demo"],
                ["trigger", "show", "customers"], ["trigger", "list"], ["connector", "list"],
            ]
            for words in commands { told.append((words.joined(separator: " "), try await command.run(words).text)) }
            for (place, text) in told {
                #expect(!text.isEmpty, "\(place) says something")
                for canary in canaries { #expect(!text.contains(canary), "\(place) shows \(canary)") }
                #expect(!text.contains(Data(canaries[0].utf8).base64EncodedString()), "\(place) shows a header")
            }
        }

        static func served(
            arguments: [String] = [], environment more: [String: String?] = [:],
            _ body: @Sendable @escaping (StandInProvider, SluiceProcess) async throws -> Void
        ) async throws {
            try await withTemporaryDirectory("sluice-bad") { directory in
                try await provided { provider in
                    let sluice = try SluiceProcess(
                        .init(
                            directory: directory, configuration: configuration(provider.baseURL),
                            environment: environment.merging(more) { $1 }, arguments: arguments))
                    defer { sluice.kill9() }
                    try await sluice.start()
                    try await body(provider, sluice)
                }
            }
        }

        static func provided(_ body: @Sendable (StandInProvider) async throws -> Void) async throws {
            var settings = PromiseLiveTests.settings(PromiseLiveTests.quiet)
            settings.apiKey = "api-key-canary"
            try await StandInProvider.with(settings) { try await body($0) }
        }

        // MARK: Disks

        /// The disk fills: webhooks get 503 and Retry-After, people are told what mends it; it has room again: all goes on by
        /// itself, and what the refused webhooks were about is polled.
        @Test(.enabled("needs leave to mount a small disk") { await SmallDisk.isPossible })
        func g_P6_aFullDiskLosesNothing() async throws {
            try await withTemporaryDirectory("sluice-full") { directory in
                try await SmallDisk.with(directory + "/data", megabytes: 12) {
                    try await Self.provided { provider in
                        let sluice = try SluiceProcess(
                            .init(
                                directory: directory, configuration: Self.configuration(provider.baseURL), environment: Self.environment))
                        defer { sluice.kill9() }
                        try await sluice.start()
                        try await Self.fillAndFree(provider, sluice)
                    }
                }
            }
        }

        static func fillAndFree(_ provider: StandInProvider, _ sluice: SluiceProcess) async throws {
            let url = try await sluice.webhookURL("demo")
            try await waitUntil("the polls on start", seconds: 20) { provider.reads.count >= 3 }
            let catchUps = try await sluice.trigger("customers")["polls_by_cause"]?["catch_up"]?.int64 ?? 0
            var accepted: Set<String> = []
            try await offPool { try SmallDisk.fill(sluice.dataDirectory) }
            var refusal: Hook.Answer?
            for number in 0..<3000 where refusal == nil {
                let (id, answer) = try await webhook(url, number)
                if answer.status == 200 { accepted.insert(id) } else { refusal = answer }
            }
            let full = try #require(refusal, "the disk is never full")
            #expect(full.status == 503 && full.retryAfter != nil && full.text.contains("send it again"), "\(full)")
            provider.setWebhookTarget(.init(url: url, user: Chargebee.user, password: Chargebee.password))
            provider.makeChanges(12)
            try await waitUntil("the provider's webhooks are refused", seconds: 60) { provider.counts.realSent >= 12 }
            let alarms = try await sluice.send("GET", "/v1/alarms").text
            #expect(alarms.contains("make room"), "\(alarms)")
            let status = try await Command(sluice).run(["status"])
            #expect(status.code == 1 && status.text.contains("make room"), "\(status.text)")
            try await offPool { try SmallDisk.free(sluice.dataDirectory) }
            try await waitUntil("webhooks are accepted again", seconds: 60) {
                try await webhook(url, 100_000).1.status == 200
            }
            accepted.insert("ev_full-100000")
            let verdict = try await Chargebee.settled(provider, sluice, seconds: 60)
            #expect(verdict.isClean && verdict.jobs >= Set(provider.changes.map { "\($0.resource) \($0.id)" }).count, "\(verdict)")
            try await waitUntil("a catch-up poll", seconds: 30) {
                try await sluice.trigger("customers")["polls_by_cause"]?["catch_up"]?.int64 ?? 0 > catchUps
            }
            let kept = try await CrashLiveTests.inbox(sluice)
            #expect(accepted.subtracting(kept).isEmpty, "each webhook that got a 2xx is in the inbox")
            let after = try await sluice.send("GET", "/v1/alarms").text
            #expect(!after.contains("Webhooks are answered 503"), "\(after)")
        }

        static func webhook(_ url: String, _ number: Int) async throws -> (String, Hook.Answer) {
            let id = "ev_full-\(number)"
            let body = #"{"id":"\#(id)","event_type":"coupon_changed","content":"\#(String(repeating: "x", count: 8000))"}"#
            return (id, try await Hook.post(url, Array(body.utf8), [Hook.basic(Chargebee.password)]))
        }

        @Test(.enabled("needs leave to mount a disk read-only") { await SmallDisk.isPossible })
        func g_aReadOnlyDirectoryIsNamed() async throws {
            try await withTemporaryDirectory("sluice-ro") { directory in
                try await SmallDisk.with(directory + "/data", megabytes: 4, isReadOnly: true) {
                    let answer = try await Command(directory).run(Command.serve(directory + "/data"))
                    #expect(answer.code == 1, "\(answer.text)")
                    #expect(answer.text.contains("\(directory)/data") && answer.text.contains("Check its permissions"), "\(answer.text)")
                }
            }
        }

        @Test func g_aDataDirectoryThatIsNoneIsNamed() async throws {
            try await withTemporaryDirectory("sluice-file") { directory in
                try Data("x".utf8).write(to: URL(filePath: directory + "/data"))
                let answer = try await Command(directory).run(Command.serve(directory + "/data"))
                #expect(answer.code == 1 && answer.text.contains("is not a directory"), "\(answer.text)")
                let below = try await Command(directory).run(Command.serve(directory + "/data/below"))
                #expect(below.code == 1 && below.text.contains("\(directory)/data"), "\(below.text)")
                try Data("not a database, but long enough to be looked at".utf8).write(to: URL(filePath: directory + "/sluice.db"))
                let foreign = try await Command(directory).run(Command.serve(directory))
                #expect(foreign.code == 1 && foreign.text.contains("restore the data directory from a backup"), "\(foreign.text)")
            }
        }

        @Test func g_aSecondServerOnOneDirectoryIsRefused() async throws {
            try await Self.served { _, sluice in
                let answer = try await Command(sluice).run(Command.serve(sluice.dataDirectory))
                #expect(answer.code == 1, "\(answer.text)")
                #expect(answer.text.contains("another Sluice (process \(sluice.pid ?? 0)) uses"), "\(answer.text)")
                #expect(try await sluice.send("GET", "/v1/status").status == 200, "the first one goes on")
                #expect(try await Command(sluice).run(["trigger", "list"]).code == 0, "and commands still find it")
            }
        }

        /// Something else may answer at the address that a command was given, also in JSON.
        @Test func g_whatIsNoSluiceAPIIsNotTakenForOne() async throws {
            try await Self.served { provider, sluice in
                let hooks = try #require(URL(string: try await sluice.webhookURL("demo")))
                for url in [provider.baseURL, "http://127.0.0.1:\(hooks.port ?? 0)"] {
                    let command = Command(sluice.options.directory, environment: ["SLUICE_TOKEN": "t"])
                    for words in [["status"], ["trigger", "list"], ["jobs", "list", "--json"]] {
                        let answer = try await command.run(words + ["--api-url", url])
                        #expect(answer.code == 1 && answer.text.contains("is no Sluice API: check --api-url"), "\(words): \(answer.text)")
                    }
                }
            }
        }

        // MARK: Keys

        @Test func g_aWrongMasterKeyIsNamedAndHarmsNothing() async throws {
            try await Self.served(environment: ["SLUICE_MASTER_KEY": Self.keyOne]) { _, sluice in
                _ = await sluice.terminate()
                for (key, words) in [(Self.keyTwo, "SLUICE_MASTER_KEY"), ("abc", "64 hexadecimal digits")] {
                    let command = Command(sluice.options.directory, environment: ["SLUICE_MASTER_KEY": key])
                    let answer = try await command.run(Command.serve(sluice.dataDirectory))
                    #expect(answer.code == 1 && answer.text.contains(words) && answer.text.contains("SLUICE_MASTER_KEY"), "\(answer.text)")
                    #expect(!answer.text.contains(Self.keyOne) && !answer.text.contains(Self.keyTwo))
                }
                let none = try await Command(sluice.options.directory, environment: ["SLUICE_MASTER_KEY": nil])
                    .run(Command.serve(sluice.dataDirectory))
                #expect(none.code == 1 && none.text.contains("SLUICE_MASTER_KEY"), "\(none.text)")
                try await sluice.start()
                let url = try await sluice.webhookURL("demo")
                let answer = try await Hook.post(url, Self.accepted[0].body, [Hook.basic(Chargebee.password)])
                #expect(answer.status == 200, "the right key opens the secrets as before")
            }
        }
    }
}
