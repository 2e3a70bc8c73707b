import SluiceConnectors
import SluiceCore
import SluiceStore
import Testing

@testable import SluiceServer

/// Destinations over the API: secrets that rotate, destinations that stop, what the file says of delivery.
@Suite struct DestinationAPITests {
    private func secrets(_ store: any Store) async throws -> DestinationSecrets {
        let stored = try #require(try await store.definitions(.default).destinations.first { $0.name == "out" })
        let sealer = try SecretSealer(key: Fixture.key, source: "test")
        return DestinationSecrets(json: try sealer.open(stored.sealedSecrets, owner: SecretOwner.destination("out")))
    }

    @Test func aRotatedSecretIsShownOnceAndSurvivesAnUnchangedFile() async throws {
        try await Fixture.withAPI { api, store in
            #expect(await api.apply(Fixture.manifest).status == 200)
            let first = try #require(try await secrets(store).secrets.first?.secret)
            let answer = await api.ask("POST", "/v1/destinations/out/rotate-secret", "{\"overlap\":\"2h\"}")
            #expect(answer.status == 201)
            let root = try JSONDocument(Array(answer.text.utf8)).root
            let new = try #require(root["secret"]?.string)
            #expect(new.hasPrefix("whsec_") && new != first)
            var now = try await secrets(store)
            #expect(now.secrets.map(\.secret) == [new, first])
            #expect(now.secrets[0].expiresAt == nil)
            #expect(try #require(now.secrets[1].expiresAt) > Timestamp(milliseconds: 1_800_000_000_000 + 7_199_000))
            // No list, no page and no seal shows it.
            for path in ["/v1/destinations", "/v1/destinations/out"] {
                let shown = await api.ask("GET", path).text
                #expect(!shown.contains(new.dropFirst(6)) && !shown.contains(first.dropFirst(6)))
            }
            let stored = try #require(try await store.definitions(.default).destinations.first)
            #expect(!String(decoding: stored.sealedSecrets, as: UTF8.self).contains(new.dropFirst(6)))
            // The same file again.
            let again = await api.apply(Fixture.manifest)
            #expect(String(decoding: again.body, as: UTF8.self).contains("rotated"))
            #expect(try await secrets(store).secrets == now.secrets)
            // The file with the new one: the former stays until it expires.
            let changed = Fixture.manifest.replacing("${env:PUSH}", with: new)
            #expect(await api.apply(changed).status == 200)
            now = try await secrets(store)
            #expect(now.secrets.map(\.secret) == [new, first])
            #expect(!now.isRotated)
        }
    }

    /// A former secret was promised until it expires: none is dropped to make room.
    @Test func moreSecretsThanSignAtOnceAreRefused() async throws {
        try await Fixture.withAPI { api, store in
            #expect(await api.apply(Fixture.manifest).status == 200)
            func rotate(_ overlap: String) async -> (status: Int, text: String) {
                await api.ask("POST", "/v1/destinations/out/rotate-secret", "{\"overlap\":\"\(overlap)\"}")
            }
            for _ in 0..<7 { #expect(await rotate("1h").status == 201) }
            let full = try await secrets(store).secrets.map(\.secret)
            let refused = await rotate("1h")
            #expect(
                refused.status == 409 && refused.text.contains("signs with 8 secrets already, and the first expires at"), "\(refused.text)")
            #expect(try await secrets(store).secrets.map(\.secret) == full)
            #expect(await rotate("0s").status == 201)
            #expect(try await secrets(store).secrets.count == 1)
        }
    }

    @Test func toEd25519AndItsPublicKeyIsShown() async throws {
        try await Fixture.withAPI { api, store in
            #expect(await api.apply(Fixture.manifest).status == 200)
            let answer = await api.ask("POST", "/v1/destinations/out/rotate-secret", "{\"signature\":\"v1a\",\"overlap\":\"0s\"}")
            #expect(answer.status == 201)
            let made = try #require(try JSONDocument(Array(answer.text.utf8)).root["secret"]?.string)
            #expect(made.hasPrefix("whsk_"))
            let key = try #require(try JSONDocument(Array(answer.text.utf8)).root["public_key"]?.string)
            #expect(key.hasPrefix("whpk_"))
            #expect(try await secrets(store).secrets.count == 1)
            let shown = await api.ask("GET", "/v1/destinations/out").text
            #expect(shown.contains(key) && !shown.contains("whsk_"))
            // As it says: into the file, and nothing changes for the receiver.
            var order = ApplyRequest(manifest: Fixture.manifest, references: Fixture.references, file: "sluice.yaml")
            order.references["env:PUSH"] = made
            #expect(await api.respond(to: order.request).status == 200)
            #expect(try await secrets(store).secrets.map(\.secret) == [made])
            for body in ["{\"overlap\":\"31d\"}", "{\"overlap\":5}", "{\"signature\":\"v2\"}"] {
                #expect(await api.ask("POST", "/v1/destinations/out/rotate-secret", body).status == 400)
            }
            #expect(await api.ask("POST", "/v1/destinations/none/rotate-secret", "{}").status == 404)
        }
    }

    @Test(arguments: [
        (#""X A": b"#, "`X A` is no name of a header"), (#""X-A": "b\r\nX-Injected: bar""#, "holds a line break"),
        (#"Webhook-Id: mine"#, "`Webhook-Id` is set by Sluice"), (#"content-length: "3""#, "`content-length` is set by Sluice"),
        (#""": b"#, "is no name of a header"), (#""Grüße": b"#, "`Gr??e` is no name of a header"),
    ]) func f_headersThatCannotBeSentAreRefusedWithTheirLine(_ header: String, _ reason: String) async throws {
        try await Fixture.withAPI { api, store in
            let manifest = """
                destinations:
                  out:
                    kind: push
                    url: https://a.example/
                    secret: whsec_Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5
                    headers: { X-Fine: "yes indeed", \(header) }
                """
            let answer = await api.apply(manifest)
            let text = String(decoding: answer.body, as: UTF8.self)
            #expect(answer.status == 400 && text.contains("line 6") && text.contains(reason), "\(text)")
            #expect(!text.contains("Injected"), "values may be secret")
            let stored = try await store.definitions(.default).destinations
            #expect(stored.isEmpty)
        }
    }

    @Test func f_aPositionBeyondTheNextJobIsRefusedAndOneThatChangesNothingIsSaid() async throws {
        try await Fixture.withAPI { api, _ in
            #expect(await api.apply(Fixture.manifest).status == 200)
            let beyond = Fixture.manifest.replacing("destinations: [out]", with: "destinations: [{ name: out, from: 2 }]")
            let again = await api.apply(beyond)
            let text = String(decoding: again.body, as: UTF8.self)
            #expect(again.status == 200 && text.contains("so `from` changes nothing"), "\(text)")
            func late(_ from: Int) async -> APIResponse {
                await api.apply(
                    Fixture.manifest.replacing("destinations: [out]", with: "destinations: [out, { name: late, from: \(from) }]")
                        + "\n  late: { kind: pull }\n")
            }
            let refused = await late(2)
            #expect(refused.status == 400)
            #expect(String(decoding: refused.body, as: UTF8.self).contains("`from: 2` for late lies beyond its next job, which is at 1"))
            #expect(await late(1).status == 200)
        }
    }

    /// Whoever means to look only must not change anything, however the request is typed.
    @Test(arguments: [#""dry_run":"true""#, #""dry_run":1"#, #""prune":"yes""#, #""reset":"orders""#, #""reset":[1]"#])
    func f_anApplyWhoseFlagsCannotBeReadAppliesNothing(_ flag: String) async throws {
        try await Fixture.withAPI { api, store in
            for type in [nil, "application/yaml", "application/json"] {
                let body = #"{"manifest":"destinations:\n  queue: {kind: pull}\n",\#(flag)}"#
                let request = APIRequest("POST", "/v1/apply", isTrusted: true, contentType: type, body: Array(body.utf8))
                let answer = await api.respond(to: request)
                #expect(answer.status == 400, "\(String(decoding: answer.body, as: UTF8.self))")
            }
            let stored = try await store.definitions(.default).destinations
            #expect(stored.isEmpty)
        }
    }

    @Test func whatStandsStillIsBeingMissed() async throws {
        try await Fixture.withAPI { api, store in
            #expect(await api.apply(Fixture.manifest).status == 200)
            #expect(await api.ask("POST", "/v1/destinations/out/pause").status == 200)
            #expect(await api.ask("GET", "/v1/status").text.contains("destination out is paused: its jobs wait"))
            let gone = DefinitionChange.setDestinationState(name: "out", state: .gone, reason: "it answered 410", ifSettings: nil)
            try await store.apply([gone], namespace: .default, at: Timestamp(milliseconds: 1))
            let missed = await api.ask("GET", "/v1/status").text
            #expect(missed.contains("destination out is gone (it answered 410)") && missed.contains("sluice destination resume out"))
        }
    }

    @Test func theNextAttemptIsOneThatIsMade() async throws {
        let (due, rest) = (Timestamp(seconds: 1000), Timestamp(seconds: 1030))
        #expect(API.nextAttempt(dueAt: due, restsUntil: rest, .active) == rest)
        #expect(API.nextAttempt(dueAt: rest, restsUntil: due, .active) == rest)
        #expect(API.nextAttempt(dueAt: due, restsUntil: nil, .active) == due)
        #expect(API.nextAttempt(dueAt: nil, restsUntil: rest, .active) == nil, "nothing waits")
        for state in [DestinationState.paused, .gone] { #expect(API.nextAttempt(dueAt: due, restsUntil: rest, state) == nil) }
        try await Fixture.withAPI { api, store in
            #expect(await api.apply(Fixture.manifest).status == 200)
            try await Jobs.make(1, floor: nil, store)
            func next() async throws -> JSONView? {
                try JSONDocument(Array(await api.ask("GET", "/v1/destinations/out").text.utf8)).root["next_attempt_at"]
            }
            #expect(try await next()?.string != nil)
            #expect(await api.ask("POST", "/v1/destinations/out/pause").status == 200)
            #expect(try await next()?.isNull == true)
        }
    }

    @Test func pausedGoneAndResumed() async throws {
        try await Fixture.withAPI { api, store in
            #expect(await api.apply(Fixture.manifest).status == 200)
            func state() async throws -> StoredDestination { try #require(try await store.definitions(.default).destinations.first) }
            #expect(await api.ask("POST", "/v1/destinations/out/pause").status == 200)
            #expect(try await state().state == .paused)
            #expect(await api.ask("POST", "/v1/destinations/out/resume").text.contains("\"state_before\":\"paused\""))
            #expect(try await state().state == .active)
            let gone = DefinitionChange.setDestinationState(
                name: "out", state: .gone, reason: "the destination answered 410", ifSettings: nil)
            try await store.apply([gone], namespace: .default, at: Timestamp(milliseconds: 1_800_000_000_000))
            let shown = await api.ask("GET", "/v1/destinations").text
            #expect(shown.contains("\"state\":\"gone\"") && shown.contains("answered 410"))
            // The same file leaves it as it is; another URL revives it.
            #expect(await api.apply(Fixture.manifest).status == 200)
            #expect(try await state().state == .gone)
            #expect(await api.apply(Fixture.manifest.replacing("example.com/in", with: "example.com/other")).status == 200)
            #expect(try await state().state == .active)
            #expect(await api.ask("POST", "/v1/destinations/none/pause").status == 404)
            #expect(await api.apply("destinations:\n  queue: { kind: pull }\n").status == 200)
            for command in ["pause", "resume"] {
                let answer = await api.ask("POST", "/v1/destinations/queue/\(command)")
                #expect(answer.status == 409 && answer.text.contains("its workers fetch when they like"), "\(answer.text)")
            }
        }
    }

    @Test func settingsOfDeliveryAreReadAndKept() async throws {
        try await Fixture.withAPI { api, store in
            let manifest = Fixture.manifest.replacing(
                "{kind: push, url: \"https://example.com/in?key=urlcanary\", secret: \"${env:PUSH}\", headers: {Authorization: \"Bearer ${env:HEADER}\"}}",
                with: """
                    {kind: push, url: "http://10.1.2.3/in", secrets: ["${env:PUSH}", {secret: "whsec_Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ6", expires: "2030-01-01T00:00:00Z"}],
                      retries: [1s, 2m], rate: 10/s, allow_networks: [10.0.0.0/8]}
                    """
            ).replacing("safety_interval: 15s", with: "safety_interval: 15s\n    ordered: true")
            let answer = await api.apply(manifest)
            #expect(answer.status == 200, "\(String(decoding: answer.body, as: UTF8.self))")
            let destination = try #require(try await store.definitions(.default).destinations.first)
            let settings = DestinationSettings(json: destination.settings)
            #expect(settings.retries == [.seconds(1), .minutes(2)])
            #expect(settings.rate == DeliveryRate("10/s"))
            #expect(settings.allowedNetworks == [IPNetwork("10.0.0.0/8")])
            #expect(try await secrets(store).secrets.map(\.expiresAt) == [nil, Timestamp(seconds: 1_893_456_000)])
            #expect(TriggerSettings(json: try await store.orders().settings).isOrdered)
            // Nothing changes twice.
            #expect(String(decoding: await api.apply(manifest).body, as: UTF8.self).contains("\"changes\":false"))
        }
    }

    @Test(
        arguments: [
            ("rate: 10", "rate"), ("rate: 10/d", "rate"), ("retries: 5s", "retries"), ("retries: [5]", "retries"),
            ("retries: [8d]", "7 days"),
            ("allow_networks: 10.0.0.0/8", "allow_networks"), ("allow_networks: [10.0.0.1/8]", "allow_networks"),
            ("secrets: []", "secrets"),
            ("secrets: [{expires: \"2030-01-01T00:00:00Z\"}]", "needs `secret`"),
            ("secrets: [{secret: whsec_Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5, expires: soon}]", "expires"),
        ])
    func faultsAreNamed(_ line: String, _ part: String) async throws {
        try await Fixture.withAPI { api, _ in
            let secret = line.hasPrefix("secrets") ? "" : "    secret: whsec_Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5\n"
            let answer = await api.apply("destinations:\n  d:\n    kind: push\n    url: \"https://a.example/\"\n\(secret)    \(line)\n")
            #expect(answer.status == 400 || answer.status == 422)
            #expect(String(decoding: answer.body, as: UTF8.self).contains(part), "\(String(decoding: answer.body, as: UTF8.self))")
        }
    }

    @Test func whatWasSealedBeforeIsStillRead() throws {
        let old = DestinationSecrets(json: Array("{\"secret\":\"whsec_abc\",\"headers\":{\"X\":\"y\"}}".utf8))
        #expect(old.secrets == [SigningSecret("whsec_abc")])
        #expect(old.headers.map(\.name) == ["X"])
        #expect(old.applied(over: nil) == old)
        #expect(DestinationSecrets(fromFile: [SigningSecret("whsec_abc")], headers: old.headers).applied(over: old) == old)
        #expect(DestinationSecrets(json: old.json) == old)
    }
}
