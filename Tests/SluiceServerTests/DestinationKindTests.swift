import Foundation
import SluiceCore
import SluiceDelivery
import SluiceNATS
import SluiceStore
import Testing

@testable import SluiceServer

/// Destinations of the kinds `command`, `file` and `nats`: what sluice.yaml may say of them, and what becomes of it.
@Suite struct DestinationKindTests {
    static let places = DestinationPlaces(files: "/data/files", commands: "/opt/commands")

    static func plan(
        _ text: String, _ places: DestinationPlaces = places, current: CurrentState = PlanTests.nothing
    ) throws -> ApplyPlan {
        let references = ["env:SECRET": "canary-value", "file:/ca.pem": "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----"]
        let manifest = try ManifestReader.read("destinations:\n" + text, references: references)
        return try ApplyPlanner.plan(manifest, connectors: [:], current: current, options: ApplyOptions(places: places))
    }

    /// What the delivery service is given for the only destination of a plan.
    static func carried(_ plan: ApplyPlan, _ places: DestinationPlaces = places) throws -> CarriedDestination {
        guard case .putDestination(let name, let kind, let settings, let secrets) = try #require(plan.changes.first) else {
            throw SluiceError(.internalError, "no destination")
        }
        // By way of what is stored.
        let stored = StoredDestination(
            id: DestinationID(1), name: name, kind: kind, settings: settings, sealedSecrets: [])
        let destination = Catalogue.Destination(
            stored: stored, settings: DestinationSettings(json: settings), secrets: DestinationSecrets(json: secrets.json))
        return try #require(CarriedDestinations.destination(destination, places))
    }

    @Test func aCommandRunsAProgramOfItsDirectory() throws {
        let plan = try Self.plan(
            """
              importer:
                kind: command
                run: [sub/import-order, --strict, "a b"]
                per: batch
                batch_max: 20
                timeout: 30s
                concurrency: 2
                refuse_codes: [65, 3]
                env: { DATABASE: "${env:SECRET}", TOKEN: plain }
            """)
        #expect(plan.steps[0].notes == ["runs /opt/commands/sub/import-order for each batch, with 2 arguments"])
        let destination = try Self.carried(plan)
        let expected = CommandDestination(
            name: "importer", program: "/opt/commands/sub/import-order", arguments: ["--strict", "a b"],
            environment: ["DATABASE": "canary-value", "TOKEN": "plain"], isBatched: true, batchMax: 20, limitSeconds: 30,
            refuseCodes: [65, 3])
        #expect(destination.plan as? CommandDestination == expected && destination.callsAtOnceMax == 2)
        guard case .putDestination(_, _, let settings, _) = plan.changes[0] else { return }
        #expect(!String(decoding: settings, as: UTF8.self).contains("canary"))
        let least = try Self.carried(Self.plan("  a: {kind: command, run: [go]}"))
        #expect(least.plan as? CommandDestination == CommandDestination(name: "a", program: "/opt/commands/go"))
        #expect(least.callsAtOnceMax == 4)
    }

    @Test func aFileLiesInItsDirectory() throws {
        let plan = try Self.plan("  archive: {kind: file, path: a/b.jsonl, rotate_size: 64mb, rotate_every: 24h, keep: 30, batch_max: 9}")
        #expect(plan.steps[0].notes == ["appends to /data/files/a/b.jsonl, rotated at 64mb and every 1d, the last 30 are kept"])
        let expected = FileDestination(
            name: "archive", path: "/data/files/a/b.jsonl", root: "/data/files",
            rotation: FileRotation(bytesMax: 64 << 20, every: .hours(24), keep: 30), batchMax: 9)
        let destination = try Self.carried(plan)
        #expect(destination.plan as? FileDestination == expected && destination.callsAtOnceMax == 1)
    }

    @Test func aSubjectIsPublishedTo() throws {
        let plan = try Self.plan(
            """
              bus:
                kind: nats
                url: nats://nats.example:4222
                subject: jobs.{trigger}
                stream: JOBS
                headers: { Source: sluice }
                user: sluice
                password: "${env:SECRET}"
                tls: { ca: "${file:/ca.pem}" }
                timeout: 5s
            """)
        #expect(plan.steps[0].notes == ["publishes to jobs.{trigger} in the stream JOBS"] && plan.warnings.isEmpty)
        let destination = try #require(try Self.carried(plan).plan as? NATSDestination)
        #expect(destination.credentials == .user("sluice", password: "canary-value") && destination.limitSeconds == 5)
        #expect(destination.tls.authorities?.hasPrefix("-----BEGIN") == true && destination.headers.first?.name == "Source")
        guard case .putDestination(_, _, let settings, _) = plan.changes[0] else { return }
        #expect(!String(decoding: settings, as: UTF8.self).contains("canary"))
        let inline = try Self.plan("  bus: {kind: nats, url: \"nats://n.example\", subject: jobs, token: abc}")
        #expect(inline.warnings == ["destination bus: a secret stands in the file: better \"${env:NAME}\" or \"${file:PATH}\""])
    }

    @Test(arguments: [
        ("{kind: comand}", "did you mean `command`?"), ("{kind: command}", "needs `run`"),
        ("{kind: command, run: go}", "`run` is a program and its arguments"), ("{kind: command, run: [/bin/sh, -c, x]}", "/opt/commands"),
        ("{kind: command, run: [../sh]}", "does not lie in /opt/commands"), ("{kind: command, run: [go], per: page}", "job or batch"),
        ("{kind: command, run: [go], batch_max: 5}", "`per: batch`"), ("{kind: command, run: [go], refuse_codes: [0]}", "1 to 255"),
        ("{kind: command, run: [go], refuse_codes: [x]}", "1 to 255"), ("{kind: command, run: [go], timeout: 600s}", "at most 500s"),
        ("{kind: command, run: [go], per: batch, timeout: 200s}", "at most 180s"),
        ("{kind: command, run: [go], env: {SLUICE_X: y}}", "set by Sluice"), ("{kind: command, run: [go], url: x}", "kind push, nats"),
        ("{kind: file}", "needs `path`"), ("{kind: file, path: ../x}", "does not lie in /data/files"),
        ("{kind: file, path: /etc/passwd}", "does not lie in /data/files"), ("{kind: file, path: x, rotate_size: 5}", "64mb"),
        ("{kind: file, path: x, keep: 3}", "`keep` needs"), ("{kind: file, path: x, secret: y}", "kind push"),
        ("{kind: file, path: x, concurrency: 2}", "kind push, command"),
        ("{kind: push, url: \"http://a\", secret: x, run: [y]}", "kind command"),
        ("{kind: pull, url: \"http://a\"}", "has no `url`"), ("{kind: pull, rate: 5/s}", "has no `rate`"),
        ("{kind: pull, concurrency: 2}", "has no `concurrency`"), ("{kind: pull, retries: [5s]}", "has no `retries`"),
        ("{kind: pull, timeout: 5s}", "has no `timeout`"), ("{kind: pull, secrets: [x]}", "has no `secrets`"),
        ("{kind: nats}", "needs `url`"), ("{kind: nats, url: \"nats://a\"}", "needs `subject`"),
        ("{kind: nats, url: \"nats://a\", subject: \"a.*\"}", "for those who subscribe"),
        ("{kind: nats, url: \"nats://127.0.0.1\", subject: a}", "allow_private: true"),
        ("{kind: nats, url: \"nats://u:canary@a\", subject: a}", "`user` and `password`"),
        ("{kind: nats, url: \"nats://a\", subject: a, user: x}", "belong together"),
        ("{kind: nats, url: \"nats://a\", subject: a, token: x, nkey: y}", "more than one way"),
        ("{kind: nats, url: \"nats://a\", subject: a, nkey: canary}", "seed of a user"),
        ("{kind: nats, url: \"nats://a\", subject: a, tls: {ca: /ca.pem}}", "PEM"),
        ("{kind: nats, url: \"nats://a\", subject: a, tls: {cert: x}}", "known: ca, certificate, key"),
    ])
    func f_faultsAreNamedWithTheirLineAndFix(_ body: String, _ part: String) throws {
        let error = try #require(throws: SluiceError.self) { try Self.plan("  a: \(body)") }
        #expect(error.code == .invalid && error.message.contains(part) && error.message.contains("line 2"), "\(error.message)")
        #expect(!error.message.contains("canary"))
    }

    @Test func f_twoDestinationsDoNotShareAFile() throws {
        for other in ["x.jsonl", "/data/files/x.jsonl", "x.jsonl.00000001"] {
            let error = try #require(throws: SluiceError.self) {
                try Self.plan("  a: {kind: file, path: x.jsonl}\n  b: {kind: file, path: \(other)}")
            }
            #expect(error.message.contains("destination b would write to the file of destination a"), "\(error.message)")
        }
        #expect(try Self.plan("  a: {kind: file, path: x.jsonl}\n  b: {kind: file, path: x.jsonl.1}").steps.count == 2)
        // One that is defined already, and not in the file.
        var current = PlanTests.nothing
        var settings = DestinationSettings()
        settings.carried.path = "x.jsonl"
        current.definitions.destinations = [
            StoredDestination(
                id: DestinationID(1), name: "old", kind: "file", settings: settings.json, sealedSecrets: [])
        ]
        let error = try #require(throws: SluiceError.self) { try Self.plan("  a: {kind: file, path: x.jsonl}", current: current) }
        #expect(error.message.contains("destination old"))
        #expect(try Self.plan("  old: {kind: file, path: y.jsonl}\n  a: {kind: file, path: x.jsonl}", current: current).steps.count == 2)
    }

    @Test func f_whatTheServerWasNotStartedForIsRefused() throws {
        let none = DestinationPlaces()
        let command = try #require(throws: SluiceError.self) { try Self.plan("  a: {kind: command, run: [go]}", none) }
        #expect(command.message.contains("--commands-from"))
        let file = try #require(throws: SluiceError.self) { try Self.plan("  a: {kind: file, path: x}", none) }
        #expect(file.message.contains("--files-in"))
    }

    /// What waits for a consumer is kept in another way than what is carried: the plan says so before anything changes.
    @Test(arguments: [
        ("{kind: push, url: \"https://a.example/\", secret: whsec_Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5}", "{kind: pull}", "push", "pull"),
        ("{kind: pull}", "{kind: command, run: [go]}", "pull", "command"), ("{kind: file, path: x}", "{kind: pull}", "file", "pull"),
    ])
    func f_aConsumerBecomesNothingElse(_ before: String, _ after: String, _ from: String, _ to: String) async throws {
        try await Fixture.withAPI { api, store in
            #expect(await api.apply("destinations:\n  out: \(before)\n").status == 200)
            let stored = try await store.definitions(.default).destinations
            let answer = await api.apply("destinations:\n  out: \(after)\n")
            let text = String(decoding: answer.body, as: UTF8.self)
            #expect(answer.status == 400 && text.contains(#""code":"invalid""#), "\(text)")
            #expect(text.contains("line 2") && text.contains("it is of the kind \(from), which cannot become \(to)"), "\(text)")
            #expect(text.contains("give the new one another name, and remove this one (`sluice destination remove out`)"), "\(text)")
            #expect(try await store.definitions(.default).destinations.map(\.kind) == stored.map(\.kind))
            // As it says.
            #expect(await api.apply("destinations:\n  other: \(after)\n", prunes: true).status == 200)
        }
    }

    @Test func f_placesDoNotLieInEachOther() throws {
        let base = FileManager.default.temporaryDirectory.appending(path: "places-\(UUID().uuidString)").path(percentEncoded: false)
        defer { try? FileManager.default.removeItem(atPath: base) }
        for name in ["data", "commands", "connectors", "out/in"] {
            try FileManager.default.createDirectory(atPath: "\(base)/\(name)", withIntermediateDirectories: true)
        }
        func find(_ files: String?, _ commands: String?, _ environment: [String: String] = [:]) throws -> DestinationPlaces {
            try DestinationPlaces.find(
                files: files.map { "\(base)/\($0)" }, commands: commands.map { "\(base)/\($0)" }, dataDirectory: base + "/data",
                connectorsDirectory: base + "/connectors", environment: environment)
        }
        #expect(try find(nil, nil) == DestinationPlaces(files: base + "/data/files"))
        #expect(try find("out", "commands") == DestinationPlaces(files: base + "/out", commands: base + "/commands"))
        let environment = ["SLUICE_FILES_IN": base + "/out", "SLUICE_COMMANDS_FROM": base + "/commands"]
        #expect(try find(nil, nil, environment) == DestinationPlaces(files: base + "/out", commands: base + "/commands"))
        for (files, commands) in [
            ("out", "out"), ("out/in", "out"), ("out", "out/in"), ("data", nil), ("", nil), ("connectors", nil), ("missing", nil),
            (nil, "missing"), (nil, "data"),
        ] as [(String?, String?)] {
            #expect(throws: SluiceError.self, "\(files ?? "-") \(commands ?? "-")") { try find(files, commands) }
        }
    }

    @Test func f_whatIsSecretIsNamedAndNeverShown() async throws {
        let manifest = """
            destinations:
              importer: { kind: command, run: [import-order, --strict], env: { DATABASE: "canary-variable" } }
              archive: { kind: file, path: orders.jsonl, rotate_size: 64mb }
              bus: { kind: nats, url: "nats://nats.example", subject: "jobs.{trigger}", user: sluice, password: "canary-password" }
            """
        try await Fixture.withAPI { api, store in
            #expect(await api.apply(manifest).status == 200)
            var all = await api.ask("GET", "/v1/destinations").text
            func shown(_ name: String) async throws -> JSONView {
                let text = await api.ask("GET", "/v1/destinations/\(name)").text
                all += text
                return try JSONDocument(Array(text.utf8)).root
            }
            let command = try await shown("importer")
            #expect(command["run"]?.elements?.compactMap(\.string) == ["import-order", "--strict"] && command["per"]?.string == "job")
            #expect(command["env"]?.elements?.compactMap(\.string) == ["DATABASE"] && command["concurrency"]?.int64 == 4)
            let file = try await shown("archive")
            #expect(file["path"]?.string == "/data/files/orders.jsonl" && file["rotate_size"]?.string == "64mb")
            let nats = try await shown("bus")
            #expect(nats["subject"]?.string == "jobs.{trigger}" && nats["user"]?.string == "sluice")
            #expect(nats["login"]?.string == "password" && nats["url"]?.string == "nats://nats.example")
            #expect(!all.contains("canary"))
            for stored in try await store.definitions(.default).destinations {
                #expect(!String(decoding: stored.settings + stored.sealedSecrets, as: UTF8.self).contains("canary"))
            }
            let again = String(decoding: await api.apply(manifest).body, as: UTF8.self)
            #expect(again.contains("\"changes\":false"), "the same file again changes nothing: \(again)")
        }
    }

    /// The page's examples are applied as they stand.
    @Test func eachExampleOfThePageIsAManifest() throws {
        let page = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../../docs/DESTINATIONS.md").standardized
        let parts = try String(contentsOf: page, encoding: .utf8).components(separatedBy: "```yaml\n").dropFirst()
        #expect(parts.count == 3)
        for part in parts {
            let text = try #require(part.components(separatedBy: "\n```").first)
            let references = ["env:DATABASE_URL": "postgres://canary", "env:NATS_PASSWORD": "canary"]
            let manifest = try ManifestReader.read(text, references: references)
            let plan = try ApplyPlanner.plan(
                manifest, connectors: [:], current: PlanTests.nothing, options: ApplyOptions(places: Self.places))
            #expect(plan.steps.count == 1 && plan.warnings.isEmpty)
            #expect(throws: Never.self) { try Self.carried(plan).validate() }
        }
    }
}
