import Foundation
import SluiceCore
import SluiceTesting
import Testing

extension Live {
    /// Show g, the commands: manifests and words that are wrong.
    @Suite(.serialized) struct BadManifestLiveTests {
        static let connector = """
            local function poll(name)
              return function(connection, input, closure)
                local n = closure and closure.n or 0
                if n >= 3 then return { events = {}, next_poll = { n = n } } end
                return { events = { { id = name .. n } }, next_poll = { n = n + 1 }, can_poll_more = true }
              end
            end
            local function dedup(record) return record.id end
            return { name = "two", title = "Two", version = "1",
              connection = { fields = { { name = "api_key", secret = true } } },
              triggers = { alpha = { poll = poll("a"), dedup = dedup }, beta = { poll = poll("b"), dedup = dedup } } }
            """

        static func manifest(type: String = "alpha", connection: String = "one") -> String {
            """
            connections:
              one: { connector: two, fields: { api_key: "${env:TWO_KEY}" } }
              other: { connector: two, fields: { api_key: "${env:TWO_KEY}" } }
            triggers:
              t: { connection: \(connection), type: \(type) }
            """
        }

        static func prepare(_ directory: String) throws -> Command {
            try FileManager.default.createDirectory(atPath: directory + "/connectors/two", withIntermediateDirectories: true)
            try Data(connector.utf8).write(to: URL(filePath: directory + "/connectors/two/connector.lua"))
            return Command(
                directory, environment: ["TWO_KEY": "two-key-canary", "SLUICE_CONNECTORS": directory + "/connectors"])
        }

        static func apply(_ command: Command, _ manifest: String, _ more: [String] = []) async throws -> (code: Int32, text: String) {
            try Data(manifest.utf8).write(to: URL(filePath: command.directory + "/new.yaml"))
            return try await command.run(["apply", "-f", "new.yaml"] + more)
        }

        /// Another type, or another connection: refused, with the way out, and nothing is changed; with `--reset` the trigger
        /// begins anew.
        @Test(arguments: [("beta", "one"), ("alpha", "other")])
        func g_anApplyThatChangesATriggersTypeOrConnectionIsRefused(type: String, connection: String) async throws {
            try await withTemporaryDirectory("sluice-apply") { directory in
                let command = try Self.prepare(directory)
                let sluice = try SluiceProcess(
                    .init(
                        directory: directory, configuration: Self.manifest(), environment: command.environment,
                        arguments: ["--connectors", directory + "/connectors"]))
                defer { sluice.kill9() }
                try await sluice.start()
                try await waitUntil("3 jobs", seconds: 20) { try await sluice.jobs().count == 3 }
                try await waitUntil("a cursor", seconds: 60) { try await Self.cursor(command) == #"{"n":3}"# }
                let before = try await sluice.trigger("t")["generation"]?.int64
                let refused = try await Self.apply(command, Self.manifest(type: type, connection: connection))
                #expect(refused.code == 1, "\(refused.text)")
                #expect(refused.text.contains("--reset t") && refused.text.contains("its cursor does not fit"), "\(refused.text)")
                let same = try await sluice.trigger("t")
                #expect(same["type"]?.string == "alpha" && same["connection"]?.string == "one")
                #expect(same["generation"]?.int64 == before, "nothing was touched")
                #expect(try await Self.cursor(command) == #"{"n":3}"#, "the cursor is kept")
                let reset = try await Self.apply(command, Self.manifest(type: type, connection: connection), ["--reset", "t"])
                #expect(reset.code == 0, "\(reset.text)")
                let changed = try await sluice.trigger("t")
                #expect(changed["type"]?.string == type && changed["connection"]?.string == connection)
                try await waitUntil("it began anew", seconds: 20) { try await sluice.jobs().count == 6 }
                let records = try await sluice.jobs().map { String(decoding: $0.record, as: UTF8.self) }
                let name = type == "beta" ? "b" : "a"
                #expect(Array(records.suffix(3)) == (0..<3).map { #"{"id":"\#(name)\#($0)"}"# }, "\(records)")
            }
        }

        static func cursor(_ command: Command) async throws -> String? {
            try await command.json(["trigger", "cursor", "show", "t", "--json"])["cursor"].map { String(decoding: $0.bytes, as: UTF8.self) }
        }

        /// Each wrong manifest, what is said of it, and the line.
        static let wrong: [(String, [String])] = [
            ("connections:\n  one: { connector: two\ntriggers: {}\n", ["new.yaml", "line 3"]),
            ("connections:\n\tone: { connector: two }\n", ["line 2"]),
            ("connections:\n  one:\n    connector: twoo\n", ["line 2", "`twoo`", "did you mean `two`"]),
            ("connections:\n  one:\n    connector: two\n    conector: x\n", ["line 4", "conector"]),
            ("conections: {}\n", ["line 1", "conections", "connections"]),
            ("connections:\n  one: { connector: two }\n", ["line 2", "api_key"]),
            (
                "connections:\n  one: { connector: two, fields: { api_key: k } }\ntriggers:\n  t: { connection: one, type: alfa }\n",
                ["line 4", "alfa", "alpha"]
            ),
            ("triggers:\n  t: { connection: nowhere, type: alpha }\n", ["line 2", "nowhere"]),
            ("connections:\n  one: { connector: two, fields: { api_key: \"${env:NOT_SET}\" } }\n", ["NOT_SET"]),
            (
                "connections:\n  one: { connector: two, fields: { api_key: k } }\n  one: { connector: two }\n",
                ["line 2", "stand twice: one"]
            ),
            ("- just\n- a list\n", ["line 1"]),
        ]

        @Test func g_aMalformedManifestIsNamedWithItsLineAndChangesNothing() async throws {
            try await withTemporaryDirectory("sluice-yaml") { directory in
                let command = try Self.prepare(directory)
                #expect(try await Self.apply(command, Self.manifest()).code == 0)
                let before = try await command.json(["trigger", "show", "t", "--json"]).bytes
                for (manifest, words) in Self.wrong {
                    let answer = try await Self.apply(command, manifest)
                    #expect(answer.code == 1, "\(manifest)\n\(answer.text)")
                    for word in words { #expect(answer.text.contains(word), "\(manifest)\n\(answer.text)") }
                    #expect(!answer.text.contains("two-key-canary"))
                }
                let missing = try await command.run(["apply", "-f", "nowhere.yaml"])
                #expect(missing.code == 1 && missing.text.contains("there is no file nowhere.yaml"), "\(missing.text)")
                #expect(try await command.json(["trigger", "show", "t", "--json"]).bytes.elementsEqual(before), "nothing changed")
                // The server refuses to start with one, rather than run without what it says.
                let served = try await command.run(Command.serve(command.dataDirectory) + ["--config", "new.yaml"])
                #expect(served.code == 1 && served.text.contains("line 1"), "\(served.text)")
            }
        }

        @Test func g_unknownCommandsAndFlagsAreUsageErrors() async throws {
            try await withTemporaryDirectory("sluice-usage") { directory in
                let command = Command(directory)
                let wrong: [([String], String)] = [
                    (["srve"], "srve"), (["serve", "--dtaa", "x"], "--dtaa"), (["serve", "--listen", "nowhere"], "HOST:PORT"),
                    (["trigger", "launch", "t"], "launch"), (["apply", "--reset"], "--reset"),
                    (["jobs", "list", "--limit", "many"], "many"),
                ]
                for (words, expected) in wrong {
                    let answer = try await command.run(words)
                    #expect(answer.code == 2, "\(words): \(answer.code) \(answer.text)")
                    #expect(answer.text.contains(expected), "\(words): \(answer.text)")
                }
                for words in [["trigger", "list"], ["jobs", "list"], ["status"]] {
                    let answer = try await command.run(words)
                    #expect(answer.code == 1 && answer.text.contains("sluice serve"), "\(words): \(answer.text)")
                }
            }
        }
    }
}
