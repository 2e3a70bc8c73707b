import Foundation
import SluiceConnectors
import SluiceCore
import SluiceServer
import SluiceTesting
import Testing

/// `sluice connector try`: one poll, nothing stored, no secret anywhere.
@Suite struct TrialTests {
    static let key = "sk_canary_0123456789"

    private static func order(_ provider: StandInProvider) -> Trial.Order {
        var order = Trial.Order(file: Repository.path("connectors/chargebee"))
        order.connection = [("site_url", provider.baseURL), ("api_key", key)]
        order.input = [("resource", "subscription"), ("since", "1000000000")]
        order.allowsPrivate = true
        return order
    }

    private static func settings() -> StandInProvider.Settings {
        StandInProvider.Settings(
            apiKey: key, changesPerSecond: 0, rates: .init(dropped: 0, doubled: 0, late: 0, forged: 0, spoofed: 0))
    }

    @Test func aPollIsShownRecordedAndReplayedOffline() async throws {
        try await withDirectory { directory in
            let recorded = try await StandInProvider.with(Self.settings()) { provider in
                provider.makeChanges(5, resource: "subscription")
                var order = Self.order(provider)
                order.recordDirectory = directory + "/recording"
                return try await Trial.run(order)
            }
            #expect(recorded.failure == nil, "\(recorded.text())")
            #expect(recorded.exchanges.first?.reply?.status == 200)
            let count = try #require(recorded.pages.first?.records.count)
            #expect(count >= 1 && recorded.cursorAfter != nil)
            #expect(recorded.text().contains("cursor before: none") && !recorded.text().contains(Self.key))
            // The provider is gone, and the key is not given.
            var replay = Trial.Order(file: Repository.path("connectors/chargebee"))
            replay.replayDirectory = directory + "/recording"
            let again = try await Trial.run(replay)
            #expect(again.failure == nil, "\(again.text())")
            #expect(again.pages.map { $0.records.map(\.key) } == recorded.pages.map { $0.records.map(\.key) })
            #expect(again.cursorAfter == recorded.cursorAfter)
            // Another question has no answer there.
            replay.cursor = #"{"mark":5,"value":"5"}"#
            let other = try await Trial.run(replay)
            #expect(other.failure?.contains("has no answer to GET") == true)
            for file in try FileManager.default.contentsOfDirectory(atPath: directory + "/recording") {
                let text = try String(contentsOfFile: directory + "/recording/" + file, encoding: .utf8)
                #expect(!text.contains(Self.key), "\(file)")
                #expect(!text.contains(Data("\(Self.key):".utf8).base64EncodedString()), "\(file)")
            }
        }
    }

    @Test func privateAddressesNeedTheFlag() async throws {
        try await StandInProvider.with(Self.settings()) { provider in
            var order = Self.order(provider)
            order.allowsPrivate = false
            let trial = try await Trial.run(order)
            #expect(trial.failure?.contains("forbidden_address") == true && provider.reads.isEmpty, "\(trial.text())")
            #expect(trial.failure?.contains("--allow-private") == true && trial.failureKind == "permanent", "\(trial.text())")
        }
    }

    @Test func whatIsMissingOrUnknownIsNamed() async throws {
        var order = Trial.Order(file: Repository.path("connectors/chargebee"))
        var error = await #expect(throws: SluiceError.self) { try await Trial.run(order) }
        #expect(error?.message.contains("--field site_url=") == true && error?.message.contains("--field api_key=") == true)
        order.connection = [("site_uri", "x")]
        error = await #expect(throws: SluiceError.self) { try await Trial.run(order) }
        #expect(error?.message.contains("no such field") == true)
        order.type = "nothing"
        error = await #expect(throws: SluiceError.self) { try await Trial.run(order) }
        #expect(error?.code == .notFound)
        order = Trial.Order(file: Repository.path("connectors/chargebee"))
        order.replayDirectory = "/nowhere"
        error = await #expect(throws: SluiceError.self) { try await Trial.run(order) }
        #expect(error?.code == .notFound && error?.message.contains("--record") == true)
    }

    @Test func aConnectionFileFillsInReferences() async throws {
        try await withDirectory { directory in
            for text in [
                "site_url: https://a.test\napi_key: \"${env:KEY}\"", "fields: { site_url: \"https://a.test\", api_key: \"${env:KEY}\" }",
                "connections: { main: { connector: x, fields: { site_url: \"https://a.test\", api_key: \"${env:KEY}\" } } }",
            ] {
                try text.write(toFile: directory + "/c.yaml", atomically: true, encoding: .utf8)
                var order = Trial.Order(file: "x")
                try order.add(connectionFile: directory + "/c.yaml", environment: ["KEY": "k1"])
                #expect(order.connection.map(\.name) == ["site_url", "api_key"] && order.connection.last?.value == "k1")
            }
            var order = Trial.Order(file: "x")
            #expect(throws: SluiceError.self) { try order.add(connectionFile: directory + "/c.yaml", environment: [:]) }
        }
    }

    @Test func secretsAreTakenOutWhereverTheyStand() throws {
        let connection = try JSONDocument(Array(#"{"api_key":"s3cr/t canary","site":"acme"}"#.utf8)).root
        let scrubber = SecretScrubber(connection: connection, fields: [Field("api_key", isSecret: true), Field("site")])
        #expect(scrubber.text("a s3cr/t canary b") == "a [api_key] b")
        #expect(!scrubber.url("https://x.test/a?q=s3cr%2Ft%20canary").contains("canary"))
        #expect(
            scrubber.url("https://u:p@x.test/a?access_token=abc&page_token=keep&sig=zzz&limit=5")
                == "https://[user]@x.test/a?access_token=[access_token]&page_token=keep&sig=[sig]&limit=5")
        for name in ["Authorization", "Cookie", "Set-Cookie", "X-Api-Key", "X-Shopify-Access-Token", "Private-Token"] {
            #expect(!scrubber.header(HTTPField(name, "value-canary")).value.contains("canary"), "\(name)")
        }
        #expect(scrubber.header(HTTPField("Date", "today")).value == "today")
        let body = scrubber.body(Array(#"{"access_token":"abc","next_page_token":"keep","n":1.50,"a":["s3cr/t canary"]}"#.utf8))
        #expect(
            String(decoding: body, as: UTF8.self)
                == #"{"access_token":"[access_token]","next_page_token":"keep","n":1.50,"a":["[api_key]"]}"#)
        // A body that holds none stays as it is, byte for byte.
        let plain = Array(#"{ "b" : 1e5 , "a" : "x" }"#.utf8)
        #expect(scrubber.body(plain) == plain)
    }
}
