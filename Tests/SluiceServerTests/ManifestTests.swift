import SluiceConnectors
import SluiceCore
import Testing

@testable import SluiceServer

@Suite struct ManifestTests {
    static func read(_ text: String) throws -> Manifest { try ManifestReader.read(text, references: Fixture.references) }

    @Test(arguments: ["", "   \n", "# only this\n", "null", "~\n", "---\n"]) func aFileThatSaysNothingIsRefused(_ text: String) throws {
        let error = #expect(throws: SluiceError.self) { try ManifestReader.read(text, references: [:]) }
        #expect(error?.message == "sluice.yaml says nothing: to mean that there is nothing to run, write {}")
    }

    @Test(arguments: ["{}", "triggers:\n", "connections: {}\n"]) func aFileThatMeansNothingIsRead(_ text: String) throws {
        let manifest = try ManifestReader.read(text, references: [:])
        #expect(manifest.connections.isEmpty && manifest.triggers.isEmpty && manifest.destinations.isEmpty)
    }

    @Test func everySectionIsRead() throws {
        let manifest = try ManifestTests.read(Fixture.manifest)
        let connection = try #require(manifest.connections.first)
        #expect(connection.name == "main" && connection.connector == "shop")
        #expect(connection.webhookSecrets == ["user:canary-hook"] && !connection.hasInlineWebhookSecret)
        let trigger = try #require(manifest.triggers.first)
        #expect(trigger.settings.safetyInterval == .seconds(15))
        #expect(trigger.input.last?.value.content == .scalar("0123", isPlain: true))
        #expect(trigger.destinations?.map(\.destination) == ["out"])
        #expect(manifest.destinations.first?.headers == [NamedText(name: "Authorization", value: "Bearer canary-header")])
    }

    /// What is written, the line that is named, and a part of the sentence.
    @Test(arguments: [
        ("conections: {}", "line 1", "did you mean `connections`?"),
        ("connections:\n  a:\n    connector: shop\n    feilds: {}", "line 4", "did you mean `fields`?"),
        ("connections:\n  a: {}", "line 2", "needs `connector`"),
        ("connections:\n  \"a b\": {connector: shop}", "line 2", "a name"),
        ("triggers:\n  t: {connection: a, type: b, safety_interval: 15}", "line 2", "a time with its unit"),
        ("triggers:\n  t: {connection: a, type: b, state: runing}", "line 2", "did you mean `running`?"),
        ("triggers:\n  t:\n    connection: a\n    type: b\n    destinations: [x, x]", "line 5", "twice"),
        ("destinations:\n  d: {kind: pusch}", "line 2", "did you mean `push`?"),
        ("destinations:\n  d: {kind: push, url: \"https://a\"}", "line 2", "needs `secret`"),
        ("connections:\n  a: {connector: shop, fields: {api_key: \"${env:NONE}\"}}", "line 2", "environment variable NONE"),
        ("connections:\n  a: {connector: shop, fields: {api_key: \"${file:/none}\"}}", "line 2", "file /none"),
        ("connections:\n  a: {connector: shop, fields: {api_key: \"${vault:x}\"}}", "line 2", "${env:NAME}"),
        ("connections:\n  a: {connector: shop, allow_private: yes}", "line 2", "true or false"),
        ("a: 1\na: 2", "line 1", "twice"),
        ("connections: [", "line", "not YAML"),
    ])
    func faultsNameTheirLine(_ text: String, _ line: String, _ part: String) throws {
        let error = try #require(throws: SluiceError.self) { try ManifestTests.read(text) }
        #expect(error.code == .invalid)
        #expect(error.message.contains(line) && error.message.contains(part), "\(error.message)")
    }

    @Test func allFaultsAreToldAtOnce() throws {
        let error = try #require(throws: SluiceError.self) { try ManifestTests.read("connections:\n  a: {}\ntriggers:\n  t: {}") }
        #expect(error.message.contains("3 faults"), "\(error.message)")
    }

    @Test func aSyntaxErrorNeverQuotesTheFile() throws {
        let error = try #require(throws: SluiceError.self) {
            try ManifestTests.read("connections:\n  a: {connector: shop, fields: {api_key: canary-inline\n  b: ]")
        }
        #expect(!"\(error)".contains("canary"))
    }

    @Test(arguments: [
        ("a${env:KEY}b", "acanary-keyb"), ("$${env:KEY}", "${env:KEY}"), ("$5 and $", "$5 and $"), ("", ""),
    ])
    func referencesStandInText(_ text: String, _ expected: String) throws {
        #expect(try ReferenceText.parse(text).get().resolved(Fixture.references) == expected)
    }

    @Test(
        arguments: [
            ("500ms", 500), ("15s", 15_000), ("5m", 300_000), ("12h", 43_200_000), ("7d", 604_800_000), ("15", nil), ("1 h", nil),
            ("-1s", nil),
            ("99999999999999999999s", nil), ("9223372036854775807d", nil), ("1.5h", nil), ("", nil),
        ] as [(String, Int64?)])
    func durationsHaveUnits(_ text: String, _ milliseconds: Int64?) {
        #expect(Words.span(text)?.milliseconds == milliseconds)
    }

    @Test(
        arguments: [
            (Field.FieldType.string, "0123", "\"0123\""), (.string, "1e3", "\"1e3\""), (.string, "true", "\"true\""),
            (.integer, "9007199254740993", "9007199254740993"), (.integer, "0123", nil), (.integer, "1.0", nil), (.integer, "1_000", nil),
            (.number, "1.50", "1.50"), (.number, ".5", nil), (.number, "0x1F", nil), (.boolean, "true", "true"), (.boolean, "yes", nil),
            (.dateTime, "2026-01-31T09:00:00Z", "\"2026-01-31T09:00:00Z\""),
            (.dateTime, "2026-01-31T09:00:00.250+02:00", "\"2026-01-31T09:00:00.250+02:00\""),
            (.dateTime, "2026-01-31T09:00:00", nil), (.dateTime, "1700000000", "1700000000"), (.dateTime, "yesterday", nil),
            (.object, "x", nil),
        ] as [(Field.FieldType, String, String?)])
    func valuesKeepWhatIsWritten(_ type: Field.FieldType, _ text: String, _ json: String?) {
        let value = ManifestValue(content: .scalar(text, isPlain: true), line: 1, isReferenced: false)
        let made = try? FieldValues.json(value, for: Field("f", type: type)).get()
        #expect(made.map { String(decoding: $0, as: UTF8.self) } == json)
    }

    @Test func objectsKeepNumbersAndOrder() throws {
        let manifest = try ManifestTests.read(
            "connections:\n  a: {connector: shop, fields: {extra: {b: 9007199254740993, a: \"1\", c: [1.50, yes, null, 007]}}}")
        let value = try #require(manifest.connections.first?.fields.first?.value)
        let json = try FieldValues.json(value, for: Field("extra", type: .object)).get()
        #expect(String(decoding: json, as: UTF8.self) == #"{"b":9007199254740993,"a":"1","c":[1.50,"yes",null,"007"]}"#)
    }

    @Test func aliasBombsAreRefused() throws {
        var text = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
        for (name, former) in zip(["b", "c", "d", "e", "f"], ["a", "b", "c", "d", "e"]) {
            text += "\(name): &\(name) [" + Array(repeating: "*\(former)", count: 10).joined(separator: ", ") + "]\n"
        }
        let error = try #require(throws: SluiceError.self) { try ManifestTests.read(text) }
        #expect(error.message.contains("too many values"))
    }
}
