import Foundation
import SluiceCore
import SluiceTesting
import Testing

extension Live {
    /// The real server against a provider that rotates refresh tokens and forgives nothing, with kill -9 in between.
    @Suite(.serialized) struct AuthorizationLiveTests {
        static let connector = """
            return {
              name = "rotating", title = "Rotating", version = "1",
              connection = {
                fields = { { name = "url" }, { name = "client_secret", secret = true }, { name = "refresh_token", secret = true } },
                base_url = "{connection.url}",
                authorization = { oauth2_refresh_token = { token_url = "{connection.url}/token", client_id = "client",
                  client_secret = "{connection.client_secret}", refresh_token = "{connection.refresh_token}" } },
                test = { path = "/me" },
              },
              triggers = { item = {
                dedup = function(record) return record.id end,
                poll = function(connection, input, closure)
                  local page = get(connection.url .. "/items", { params = { after = closure and closure.after or 0 } }).json
                  return { events = page.items, next_poll = { after = page.next }, can_poll_more = page.more }
                end,
              } },
            }
            """

        static func configuration(_ url: String) -> String {
            """
            connections:
              shop:
                connector: rotating
                fields: { url: "\(url)", client_secret: "${env:CLIENT_SECRET}", refresh_token: "${env:REFRESH_TOKEN}" }
                allow_private: true
            triggers:
              items: { connection: shop, type: item, interval: 1s }
            """
        }

        @Test func aRotatingTokenLivesThroughRestartsKillsAndApplies() async throws {
            var settings = OAuthProvider.Settings()
            settings.lifetime = .seconds(20)
            let provider = OAuthProvider(clock: SystemClock(), settings: settings)
            try await withTemporaryDirectory { directory in
                try await provider.with {
                    let folder = directory + "/connectors/rotating"
                    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
                    try Data(Self.connector.utf8).write(to: URL(filePath: folder + "/connector.lua"))
                    let sluice = try SluiceProcess(
                        .init(
                            directory: directory, configuration: Self.configuration(provider.baseURL),
                            environment: ["CLIENT_SECRET": "client-secret-canary", "REFRESH_TOKEN": provider.authorize()],
                            arguments: ["--connectors", directory + "/connectors"]))
                    defer { sluice.kill9() }
                    // Each start applies the file with the first token again, and every few seconds the token is exchanged.
                    for round in 0..<4 {
                        try await sluice.start()
                        provider.add(3)
                        let granted = provider.granted
                        try await waitUntil("new jobs and another token, round \(round)", seconds: 60, everyMilliseconds: 100) {
                            try await sluice.jobs().count == provider.keys.count && provider.granted > granted
                        }
                        // Never while the provider is asked: it forgives nothing.
                        try await waitUntil("the exchange is stored", seconds: 60) { try await Self.tokenIsFresh(sluice) }
                        if round % 2 == 0 { sluice.kill9() } else { _ = await sluice.terminate() }
                    }
                    try await sluice.start()
                    let test = try await sluice.send("POST", "/v1/connections/shop/test")
                    #expect(try test.json()["outcome"]?.string == "ok", "\(test.text)")
                    let shown = try await sluice.send("GET", "/v1/connections/shop")
                    #expect(try shown.json()["authorization"]?.string == "oauth2_refresh_token")
                    #expect(try shown.json()["token_expires_at"]?.string != nil, "\(shown.text)")
                    let alarms = try await sluice.send("GET", "/v1/alarms")
                    #expect(try alarms.json()["alarms"]?.elements?.isEmpty == true, "\(alarms.text)")
                    sluice.kill9()
                    for name in try FileManager.default.contentsOfDirectory(atPath: sluice.dataDirectory) {
                        let bytes = try Data(contentsOf: URL(filePath: sluice.dataDirectory + "/" + name))
                        #expect(bytes.firstRange(of: Data("canary".utf8)) == nil, "\(name) holds a secret in the clear")
                    }
                    #expect(try !sluice.log().contains("canary") && !shown.text.contains("canary"))
                }
            }
        }

        private static func tokenIsFresh(_ sluice: SluiceProcess) async throws -> Bool {
            let shown = try await sluice.send("GET", "/v1/connections/shop").json()
            guard let text = shown["token_expires_at"]?.string, let expiry = ISO8601.parse(text) else { return false }
            return expiry.timeIntervalSinceNow > 10
        }

        private enum ISO8601 {
            static func parse(_ text: String) -> Date? { try? Date.ISO8601FormatStyle(includingFractionalSeconds: true).parse(text) }
        }

        private struct SystemClock: TimeSource {
            func now() -> Timestamp { SystemTime.now() }
        }
    }
}
