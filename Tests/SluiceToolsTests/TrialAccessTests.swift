import Foundation
import SluiceCore
import Testing

@testable import SluiceConnectors
@testable import SluiceServer

/// `sluice connector try` with access tokens, held requests and webhooks; and that no secret is left in what it keeps.
@Suite struct TrialAccessTests {
    // MARK: Leaks

    /// Whether a text holds a secret in any way of writing that somebody could undo.
    static func holds(_ secret: String, _ text: String) -> Bool {
        func replaced(_ text: String, _ pairs: [(String, String)]) -> String {
            pairs.reduce(text) { $0.replacingOccurrences(of: $1.0, with: $1.1) }
        }
        let once = text.removingPercentEncoding ?? ""
        var readings = [text, once, once.removingPercentEncoding ?? ""]
        readings += readings.map { replaced($0, [("+", " ")]) }
        readings.append(replaced(text, [("\\\"", "\""), ("\\/", "/"), ("\\\\", "\\")]))
        readings.append(
            replaced(text, [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#x2F;", "/"), ("&amp;", "&")]))
        if readings.contains(where: { $0.contains(secret) }) { return true }
        // Base64, wherever it may begin.
        let letters = Set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_")
        for reading in [text, once] {
            for run in reading.split(whereSeparator: { !letters.contains($0) }) where run.count >= 6 {
                let plain = replaced(String(run), [("-", "+"), ("_", "/")])
                for offset in 0..<4 {
                    var piece = String(plain.dropFirst(offset))
                    if piece.count % 4 == 1 { piece.removeLast() }
                    piece += String(repeating: "=", count: (4 - piece.count % 4) % 4)
                    guard let data = Data(base64Encoded: piece) else { continue }
                    if data.range(of: Data(secret.utf8)) != nil { return true }
                }
            }
        }
        return false
    }

    /// Each way in which a provider may write a secret back.
    static func forms(_ secret: String) -> [String] {
        func base64(_ text: String) -> String { Data(text.utf8).base64EncodedString() }
        func percent(_ text: String, _ format: String = "%%%02X") -> String { text.utf8.map { String(format: format, $0) }.joined() }
        let json = String(decoding: (try? JSONEncoder().encode(secret)) ?? Data(), as: UTF8.self).dropFirst().dropLast()
        let unicode = secret.unicodeScalars.map { String(format: "\\u%04x", $0.value) }.joined()
        let xml = secret.replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing("\"", with: "&quot;")
        return [
            secret, percent(secret), percent(secret, "%%%02x"), percent(percent(secret)), secret.replacing(" ", with: "+"), String(json),
            unicode, xml, xml.replacing("/", with: "&#x2F;"), base64(secret), base64("u:" + secret), base64("us:" + secret),
            base64("use:" + secret + ":"), base64(secret + ":"), base64("u:" + secret).replacing("+", with: "-").replacing("/", with: "_"),
            percent(base64("user:" + secret)),
        ]
    }

    @Test(arguments: ["k3y canary", "s3cr/t&c<a>n\"ary", "pw+with/slash==", "täglich-canary-9", "0123456789abcdef"])
    func noWayOfWritingASecretIsLeft(secret: String) throws {
        var writer = JSONWriter()
        writer.object { $0.member("api_key", secret) }
        let scrubber = SecretScrubber(connection: try JSONDocument(writer.bytes).root, fields: [Field("api_key", isSecret: true)])
        for form in Self.forms(secret) {
            #expect(Self.holds(secret, "before=\(form)&after") || form.contains("\\u"), "the test can see \(form)")
            for text in ["x \(form) y", "q=\(form)&r=1", "<a>\(form)</a>", "{\"a\":\"\(form)\"}"] {
                #expect(!Self.holds(secret, scrubber.text(text)), "\(text) → \(scrubber.text(text))")
                #expect(!Self.holds(secret, String(decoding: scrubber.body(Array(text.utf8)), as: UTF8.self)), "\(text)")
            }
            #expect(!Self.holds(secret, scrubber.header(HTTPField("X-Echo", form)).value))
            #expect(!Self.holds(secret, scrubber.url("https://x.test/p/\(form)?q=\(form)")))
        }
        // What is no secret stays, byte for byte.
        let plain = #"{"id":"a%2Fb","n":1e5,"text":"c+d \u00e9 &amp; Zm9vYmFy"}"#
        #expect(scrubber.body(Array(plain.utf8)) == Array(plain.utf8))
    }

    @Test func formsLoseTheirCredentialsByName() throws {
        let scrubber = SecretScrubber(connection: try JSONDocument(Array("{}".utf8)).root, fields: [])
        let body = scrubber.body(
            Array("grant_type=refresh_token&refresh_token=abc&client_secret=def&client_assertion=g.h.i&scope=read".utf8),
            headers: [HTTPField("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")])
        #expect(
            String(decoding: body, as: UTF8.self)
                == "grant_type=refresh_token&refresh_token=[refresh_token]&client_secret=[client_secret]&client_assertion=[client_assertion]"
                + "&scope=read")
    }

    // MARK: Access tokens

    static let pair = ["client-secret-canary/+", "refresh-canary-0"]

    static func connector(_ authorization: String) -> String {
        """
        return { name = "tokened", title = "Tokened", version = "1",
        connection = {
          fields = {
            { name = "url" }, { name = "client_secret", secret = true }, { name = "refresh_token", secret = true, optional = true } },
          base_url = "{connection.url}", authorization = { \(authorization) } },
        triggers = { item = {
          dedup = function(record) return record.id end,
          poll = function(connection, input, closure)
            return { events = get(connection.url .. "/items").json.items, next_poll = { after = 1 }, can_poll_more = false }
          end } } }
        """
    }

    static let rotating = connector(
        """
        oauth2_refresh_token = { token_url = "{connection.url}/token", client_id = "client", client_secret = "{connection.client_secret}",
          refresh_token = "{connection.refresh_token}" }
        """)

    /// Rotates refresh tokens, and repeats everything that it is sent: decoded, encoded, in headers and in bodies.
    static func echoing() -> ScriptedServer {
        ScriptedServer { request in
            let authorization = request.header("Authorization") ?? ""
            if request.path == "/token" {
                guard request.method == "POST" else { return ScriptedServer.Answer(status: 405) }
                let number = (request.body.split(separator: "refresh-canary-").dropFirst().first?.prefix { $0.isNumber }).flatMap {
                    Int($0)
                }
                let next = (number ?? 0) + 1
                let said = Data((request.body + " " + authorization).utf8).base64EncodedString()
                return ScriptedServer.Answer(
                    headers: ["X-Echo: \(authorization)", "X-Body: \(request.body)"],
                    body:
                        #"{"access_token":"access-canary-\#(next)","refresh_token":"refresh-canary-\#(next)","expires_in":3600,"said":"\#(said)"}"#
                )
            }
            guard authorization.contains("access-canary") else {
                return ScriptedServer.Answer(status: 401, body: #"{"error":"\#(authorization)"}"#)
            }
            let encoded = Data(authorization.utf8).base64EncodedString()
            return ScriptedServer.Answer(
                headers: ["X-Echo: \(authorization)"],
                body: #"{"items":[{"id":"i1","said":"\#(authorization)","encoded":"\#(encoded)"}]}"#)
        }
    }

    static func order(_ directory: String, _ url: String, _ source: String) throws -> Trial.Order {
        try FileManager.default.createDirectory(atPath: directory + "/tokened", withIntermediateDirectories: true)
        try source.write(toFile: directory + "/tokened/connector.lua", atomically: true, encoding: .utf8)
        var order = Trial.Order(file: directory + "/tokened")
        order.connection = [("url", url), ("client_secret", pair[0]), ("refresh_token", pair[1])]
        order.allowsPrivate = true
        return order
    }

    static func everything(in directory: String) throws -> String {
        try FileManager.default.contentsOfDirectory(atPath: directory).sorted().map {
            try String(contentsOfFile: directory + "/" + $0, encoding: .utf8)
        }.joined(separator: "\n")
    }

    @Test func aRefreshTokenIsNotSpentUnlessTheNextOneIsKept() async throws {
        try await withDirectory { directory in
            let server = Self.echoing()
            try await server.with { url in
                var order = try Self.order(directory, url, Self.rotating)
                let refusal = await #expect(throws: SluiceError.self) { try await Trial.run(order) }
                #expect(refusal?.message.contains("--tokens FILE") == true && refusal?.message.contains("`refresh_token`") == true)
                #expect(server.requests.isEmpty, "nothing was asked")

                order.tokensFile = directory + "/tokens.json"
                order.recordDirectory = directory + "/recording"
                let trial = try await Trial.run(order)
                #expect(trial.failure == nil, "\(trial.text())")
                #expect(trial.pages.first?.records.count == 1)
                #expect(trial.notes.contains { $0.contains("another refresh token") && $0.contains("tokens.json") }, "\(trial.notes)")
                let kept = try JSONDocument(Array(try Data(contentsOf: URL(filePath: directory + "/tokens.json")))).root
                #expect(kept["refresh_token"]?.string == "refresh-canary-1")
                #expect(SmallFile.mode(directory + "/tokens.json") == 0o600)

                // The token request is shown and recorded as the others are, and no secret is in any of it.
                #expect(trial.exchanges.map(\.request.url).contains(url + "/token"))
                let seen = trial.text(width: 100_000) + String(decoding: trial.json, as: UTF8.self)
                let recorded = try Self.everything(in: directory + "/recording")
                for secret in Self.pair + ["access-canary-1", "refresh-canary-1"] {
                    #expect(!Self.holds(secret, seen), "\(secret) is shown: \(seen)")
                    #expect(!Self.holds(secret, recorded), "\(secret) is recorded: \(recorded)")
                }

                // Once more: the access token is still good, and what was kept is gone on with, not what was given.
                order.recordDirectory = nil
                #expect(try await Trial.run(order).failure == nil)
                #expect(server.requests.count { $0.path == "/token" } == 1)
                try #"{"refresh_token":"x","chain":"#.write(toFile: directory + "/broken.json", atomically: true, encoding: .utf8)
                order.tokensFile = directory + "/broken.json"
                let broken = await #expect(throws: SluiceError.self) { try await Trial.run(order) }
                #expect(broken?.code == .invalid && broken?.message.contains("give another file") == true)
                // Another account's tokens would be lost.
                order.tokensFile = directory + "/tokens.json"
                order.connection[2].value = "refresh-canary-of-another"
                let foreign = await #expect(throws: SluiceError.self) { try await Trial.run(order) }
                #expect(foreign?.code == .conflict)
            }
            // Offline, without any credentials.
            var replay = Trial.Order(file: directory + "/tokened")
            replay.replayDirectory = directory + "/recording"
            let again = try await Trial.run(replay)
            #expect(again.failure == nil && again.pages.first?.records.map(\.key) == ["i1"], "\(again.text())")
        }
    }

    /// Another try holds the file: two would spend the same token.
    @Test func oneTryAtATimeUsesATokensFile() async throws {
        try await withDirectory { directory in
            let first = try TrialTokens(directory + "/tokens.json", seedToken: "a")
            let second = #expect(throws: SluiceError.self) { try TrialTokens(directory + "/tokens.json", seedToken: "a") }
            #expect(second?.code == .conflict && first.newest == nil)
        }
    }

    @Test(arguments: [
        #"oauth2_client_credentials = { token_url = "{connection.url}/token", client_id = "client", client_secret = "{connection.client_secret}" }"#,
        #"jwt_bearer = { token_url = "{connection.url}/token", algorithm = "HS256", key = "{connection.client_secret}", claims = { iss = "x" } }"#,
    ]) func accessTokensAreFetchedAndScrubbed(authorization: String) async throws {
        try await withDirectory { directory in
            let server = Self.echoing()
            try await server.with { url in
                var order = try Self.order(directory, url, Self.connector(authorization))
                order.recordDirectory = directory + "/recording"
                let trial = try await Trial.run(order)
                #expect(trial.failure == nil && trial.pages.first?.records.count == 1, "\(trial.text())")
                let recorded = try Self.everything(in: directory + "/recording")
                let body = try #require(server.requests.first { $0.path == "/token" }?.body)
                let assertion =
                    body.contains("assertion=") ? body.split(separator: "assertion=").last.map { String($0.prefix { $0 != "&" }) } : nil
                for secret in [Self.pair[0], "access-canary-1", assertion ?? "-none-"] {
                    #expect(!Self.holds(secret, trial.text(width: 100_000)), "\(secret)")
                    #expect(!Self.holds(secret, recorded), "\(secret) is recorded: \(recorded)")
                }
            }
        }
    }

    // MARK: Held requests

    static let holding = """
        return { name = "tokened", title = "Held", version = "1",
        connection = { fields = {
          { name = "url" }, { name = "client_secret", secret = true }, { name = "refresh_token", optional = true } } },
        triggers = { item = {
          dedup = function(record) return record.id end,
          poll = function(connection) return { events = get(connection.url .. "/items").json.items, next_poll = { after = 1 } } end,
          long_poll = function(connection, input, closure)
            local answer = get(connection.url .. "/held?after=" .. closure.after, { timeout_seconds = 60 })
            return { events = answer.json.items, next_poll = { after = closure.after + 1 } }
          end } } }
        """

    @Test func aLongPollIsHeldUntilSomethingComes() async throws {
        try await withDirectory { directory in
            let server = ScriptedServer { request in
                request.path == "/items"
                    ? ScriptedServer.Answer(body: #"{"items":[]}"#) : ScriptedServer.Answer(body: #"{"items":[{"id":"i7"}]}"#)
            }
            try await server.with { url in
                var order = try Self.order(directory, url, Self.holding)
                order.recordDirectory = directory + "/recording"
                let trial = try await Trial.run(order)
                #expect(trial.failure == nil && trial.pages.map { $0.records.map(\.key) } == [[], ["i7"]], "\(trial.text())")
                #expect(trial.cursorAfter.map { String(decoding: $0, as: UTF8.self) } == #"{"after":2}"#)
            }
            var replay = Trial.Order(file: directory + "/tokened")
            replay.replayDirectory = directory + "/recording"
            let again = try await Trial.run(replay)
            #expect(again.failure == nil && again.pages.map { $0.records.map(\.key) } == [[], ["i7"]], "\(again.text())")
        }
    }

    @Test func aHeldRequestIsLetGoOfAfterItsTime() async throws {
        try await withDirectory { directory in
            let server = ScriptedServer { request in
                request.path == "/items" ? ScriptedServer.Answer(body: #"{"items":[{"id":"i1"}]}"#) : nil
            }
            try await server.with { url in
                var order = try Self.order(directory, url, Self.holding)
                order.holdSeconds = 1
                order.recordDirectory = directory + "/recording"
                let trial = try await Trial.run(order)
                #expect(trial.failure == nil && trial.pages.map(\.records.count) == [1], "\(trial.text())")
                #expect(trial.notes.contains { $0.contains("held for 1 s and nothing came") }, "\(trial.notes)")
                #expect(trial.exchanges.last?.failure == TrialRecorder.letGo)
            }
            var replay = Trial.Order(file: directory + "/tokened")
            replay.replayDirectory = directory + "/recording"
            let again = try await Trial.run(replay)
            #expect(again.failure == nil && again.pages.map(\.records.count) == [1] && !again.notes.isEmpty, "\(again.text())")
        }
    }

    // MARK: Webhooks

    static let hooked = """
        return { name = "tokened", title = "Hooked", version = "1",
        connection = { fields = {
          { name = "url" }, { name = "client_secret", secret = true }, { name = "refresh_token", optional = true } } },
        webhook = { scheme = "github" },
        webhook_keys = function(request) return { request.json.kind } end,
        triggers = {
          note = { webhook_key = function(input) return "note" end,
            webhook_notification = function(request) return request.json.items end,
            dedup = function(record) return record.id end },
          other = { webhook_key = function(input) return "other" end,
            poll = function(connection) return { events = {}, next_poll = {} } end, dedup = function(record) return record.id end } } }
        """

    @Test func aWebhookIsReadFromAFile() async throws {
        try await withDirectory { directory in
            var order = try Self.order(directory, "https://x.test", Self.hooked)
            order.type = "note"
            let asked = await #expect(throws: SluiceError.self) { try await Trial.run(order) }
            #expect(asked?.message.contains("--webhook FILE") == true)

            let body = #"{"kind":"note","items":[{"id":"a","said":"\#(Self.pair[0])"},{"id":"b"},{"name":"no id"}]}"#
            let signature = HMACSignature.hex(key: "hook-canary", body)
            let text = "POST /hooks/x HTTP/1.1\r\nX-Hub-Signature-256: sha256=\(signature)\r\nContent-Type: application/json\r\n\r\n\(body)"
            try text.write(toFile: directory + "/hook.http", atomically: true, encoding: .utf8)
            try "hook-canary\n".write(toFile: directory + "/secret.txt", atomically: true, encoding: .utf8)
            order.webhookFile = directory + "/hook.http"
            order.webhookSecretFile = directory + "/secret.txt"
            let trial = try await Trial.run(order)
            #expect(trial.failure == nil, "\(trial.text())")
            #expect(trial.webhook?.verification?.isValid == true && trial.webhook?.keys == ["note"] && trial.webhook?.isForTrigger == true)
            #expect(trial.pages.first?.records.map(\.isKeyed) == [true, true, false])
            #expect(trial.pages.first?.records.prefix(2).map(\.key) == ["a", "b"])
            #expect(!Self.holds(Self.pair[0], trial.text(width: 100_000)) && !Self.holds("hook-canary", trial.text(width: 100_000)))

            // For the other trigger it says nothing, and that is shown; its records would come from polls.
            order.type = "other"
            let other = try await Trial.run(order)
            #expect(other.webhook?.isForTrigger == false && other.pages.isEmpty, "\(other.text())")
            #expect(other.notes.contains { $0.contains("records come from polls") })

            try "wrong-hook-canary\n".write(toFile: directory + "/secret.txt", atomically: true, encoding: .utf8)
            let forged = try await Trial.run(order)
            #expect(forged.webhook?.verification?.isValid == false)
            #expect(!forged.text().contains("wrong-hook-canary"))
        }
    }
}

extension ScriptedServer.Request {
    var method: String { String(line.prefix { $0 != " " }) }
}

/// As GitHub signs.
private enum HMACSignature {
    static func hex(key: String, _ text: String) -> String {
        let code = HMACSHA256.bytes(HMACSHA256.code(key: Array(key.utf8), [Array(text.utf8)]))
        return code.map { String(format: "%02x", $0) }.joined()
    }
}
