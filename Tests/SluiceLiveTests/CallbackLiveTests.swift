import AsyncHTTPClient
import Foundation
import NIOCore
import SluiceCore
import SluiceTesting
import Testing

/// Callbacks against the payment service of examples/payment, which never calls, calls twice, late and early, and is forged.
extension Live {
    @Suite struct CallbackLiveTests {
        static let secret = "whsec_cGF5bWVudC1leGFtcGxlLXNlY3JldC0wMDE="

        /// The payment service and a Sluice that knows it; `body` is given what pay.py needs.
        private func with(
            _ body: @Sendable (SluiceProcess, _ pspURL: String, _ directory: String) async throws -> Void
        ) async throws {
            try await withTemporaryDirectory { directory in try await serve(directory, body) }
        }

        private func serve(
            _ directory: String, _ body: @Sendable (SluiceProcess, _ pspURL: String, _ directory: String) async throws -> Void
        ) async throws {
            let port = try LocalPort.free()
            let environment = ["PSP_URL": "http://127.0.0.1:\(port)", "PSP_KEY": "psp-key-canary", "PSP_SECRET": Self.secret]
            let example = SluiceProcess.root + "/examples/payment"
            let psp = try ChildProcess(
                .init(
                    "/usr/bin/python3", [example + "/psp.py", String(port)], environment: environment, workingDirectory: directory,
                    outputFile: directory + "/psp.log"))
            defer { psp.kill9() }
            try await waitUntil("the payment service listens", seconds: 30) { await LocalPort.accepts(port) }
            let sluice = try SluiceProcess(
                .init(
                    directory: directory, configuration: try String(contentsOfFile: example + "/sluice.yaml", encoding: .utf8),
                    environment: environment, connectors: example + "/connectors"))
            defer { sluice.kill9() }
            try await sluice.start()
            try await body(sluice, "http://127.0.0.1:\(port)", directory)
            _ = await sluice.terminate()
        }

        private func pay(_ sluice: SluiceProcess, _ psp: String, _ directory: String, payments: Int) throws -> ChildProcess {
            try ChildProcess(
                .init(
                    "/usr/bin/python3",
                    [
                        SluiceProcess.root + "/examples/payment/pay.py", "--sluice", sluice.apiURL, "--token-file",
                        sluice.dataDirectory + "/local.token", "--psp", psp, "--payments", String(payments), "--seconds", "240",
                    ], environment: ["PSP_KEY": "psp-key-canary"], workingDirectory: directory, outputFile: directory + "/pay.log"))
        }

        @Test func eachPaymentEndsOnceThoughSluiceIsKilled() async throws {
            try await with { sluice, psp, directory in
                let paying = try pay(sluice, psp, directory, payments: 24)
                defer { paying.kill9() }
                for _ in 0..<2 {
                    let before = try await ended(sluice)
                    try await waitUntil("some payments have ended", seconds: 60) {
                        if !paying.isRunning { return true }
                        return try await self.ended(sluice) > before
                    }
                    sluice.kill9()
                    try await sluice.start()
                }
                let exit = try await paying.waitForExit(seconds: 260)
                let table = try await paying.output()
                #expect(exit == .code(0), "\(table)")
                #expect(
                    table.contains("24 payments, 24 ended exactly once with the service's truth, 0 did not, 0 jobs too many"), "\(table)")
                try await check(sluice)
            }
        }

        private func ended(_ sluice: SluiceProcess) async throws -> Int {
            guard let answer = try? await sluice.send("GET", "/v1/jobs?trigger=callbacks:psp&limit=1000"), answer.status == 200 else {
                return 0
            }
            return try answer.json()["jobs"]?.elements?.count ?? 0
        }

        /// What the server must not have written down, and what it answers late and unknown callers.
        private func check(_ sluice: SluiceProcess) async throws {
            let list = try await sluice.send("GET", "/v1/callbacks?limit=1000").json()["callbacks"]?.elements ?? []
            #expect(list.count == 24)
            let id = try #require(list.first?["id"]?.string)
            let shown = try await sluice.send("GET", "/v1/callbacks/\(id)").json()
            let url = try #require(shown["url"]?.string)
            let token = try #require(url.split(separator: "/").last)
            #expect(try !sluice.log().contains(token) && !sluice.log().contains("psp-key-canary"))
            #expect(await Web.post(url, Array("{}".utf8)) == 200, "late")
            #expect(await Web.post(sluice.hooksURL + "/callbacks/0123456789abcdefghjkmnpqrstvwxyz", []) == 404)
            #expect(try await sluice.send("POST", "/v1/callbacks/\(id)/cancel", body: "{}").status == 409)
            #expect(try await sluice.send("GET", "/v1/callbacks/cb_nobody").status == 404)
            #expect(try await sluice.send("POST", "/v1/callbacks/cb_nobody/cancel", body: "{}").status == 404)
        }

        /// The programs of examples/clients, as they are: the service never calls, so each hears of its payment by Sluice's own polls.
        @Test func theExamplesOfEachLanguageHearOfACallThatNeverComes() async throws {
            let folder = ClientExamplesLiveTests.folder
            let examples = [
                (name: "python", executable: "python3", arguments: [folder + "/python/callback.py"], order: "1"),
                (name: "bash", executable: folder + "/bash/callback.sh", arguments: [], order: "9"),
                (name: "swift", executable: ClientExamplesLiveTests.swift, arguments: ["callback"], order: "17"),
            ]
            try await with { sluice, psp, directory in
                let made = try await sluice.send("POST", "/v1/tokens", body: #"{"name":"examples"}"#).json()
                let environment = ["SLUICE_URL": sluice.apiURL, "SLUICE_TOKEN": try #require(made["token"]?.string)]
                var children: [ChildProcess] = []
                defer { for child in children { child.kill9() } }
                for example in examples {
                    let input = #"{"order": "\#(example.order)"}"#
                    children.append(
                        try ClientExamplesLiveTests.start(
                            .init(name: example.name, executable: example.executable, arguments: example.arguments + ["psp", input]),
                            directory, environment))
                }
                for (example, child) in zip(examples, children) {
                    try await waitUntil("\(example.name) says which URL the provider is to call", seconds: 60, everyMilliseconds: 50) {
                        if !child.isRunning { return true }
                        return try await child.output().contains("\n")
                    }
                    let said = try await child.output()
                    let url = try #require(said.split(separator: "\n").first?.split(separator: " ").last.map(String.init), "\(said)")
                    #expect(url.hasPrefix("http") && url.contains("/callbacks/"), "\(example.name): \(said)")
                    let payment = try await Web.put(
                        psp + "/payments/\(example.order)", "{\"amount\":\"10.10\",\"callback_url\":\"\(url)\"}", token: "psp-key-canary")
                    #expect(payment == 200)
                }
                for (example, child) in zip(examples, children) {
                    let exit = try await child.waitForExit(seconds: 180)
                    let output = try await child.output()
                    #expect(exit == .code(0), "\(example.name): \(output)")
                    let words = output.split(separator: "\n").last?.split(separator: " ", maxSplits: 2).map(String.init) ?? []
                    try #require(words.count == 3, "\(example.name): \(output)")
                    #expect(words[0].hasPrefix("cb_") && words[1] == "settled", "\(example.name): \(output)")
                    let result = try JSONDocument(Array(words[2].utf8)).root
                    #expect(result["order"]?.string == example.order && result["status"]?.string == "paid", "\(example.name): \(output)")
                    let ended = try await sluice.send("GET", "/v1/callbacks/\(words[0])").json()
                    #expect(ended["ended_by"]?.string == "status" && ended["calls"]?.int64 ?? 0 == 0, "\(example.name): nobody called")
                }
            }
        }

        /// The caller's own URL gets the result, signed: first refused, then again under the same id.
        @Test func theResultIsPushedToTheCallersOwnURL() async throws {
            try await with { sluice, psp, directory in
                let secret = "whsec_b3duLXNlY3JldC1vZi10aGUtY2FsbGVyLTAwMDE="
                try await PushVerifier.with(directory: directory, secret: secret, failEach: 1) { receiver in
                    let order = """
                        {"connection":"psp","input":{"order":"6"},
                         "push":{"url":"\(receiver.url)","secret":"\(secret)","allow_private":true}}
                        """
                    let made = try await sluice.send("POST", "/v1/callbacks", body: order)
                    #expect(made.status == 201, "\(made.text)")
                    let callback = try made.json()
                    let (job, url) = (try #require(callback["job"]?.string), try #require(callback["url"]?.string))
                    let payment = try await Web.put(
                        psp + "/payments/6", "{\"amount\":\"10.10\",\"callback_url\":\"\(url)\"}", token: "psp-key-canary")
                    #expect(payment == 200)
                    try await waitUntil("it is pushed twice", seconds: 60) { try await receiver.pushes().count >= 2 }
                    let pushes = try await receiver.pushes()
                    #expect(pushes.allSatisfy { $0.isVerified } && Set(pushes.map(\.id)) == [job], "\(pushes)")
                    #expect(pushes.map(\.status).prefix(2) == [500, 200])
                    let body = try JSONDocument(Array(pushes[1].body.utf8)).root
                    #expect(body["data"]?["record"]?["state"]?.string == "failed", "a declined payment is a result")
                    #expect(body["data"]?["record"]?["result"]?["amount"]?.numberLiteral == "10.10")
                    // The same from the command line, where the secret stands in a file.
                    let file = directory + "/push-secret.txt"
                    try await offPool { try Data("\(secret)\n".utf8).write(to: URL(filePath: file)) }
                    let create = ["callback", "create", "psp", "--input", #"{"order":"7"}"#, "--push", receiver.url, "--allow-private"]
                    let again = try await Command(sluice).json(create + ["--push-secret-file", file, "--pauses", "1s,2", "--json"])
                    #expect(again["state"]?.string == "pending", "\(again)")
                    for (options, words) in [
                        ([], "--push-secret-file"), (["--push-secret-file", directory + "/none"], "there is no file"),
                        (["--push-secret-file", file, "--pauses", "1s,soon"], "'soon'"),
                        (["--push-secret-file", file, "--destination", "x"], "one of --destination and --push"),
                    ] {
                        let wrong = try await Command(sluice).run(create + options)
                        #expect(wrong.code > 0 && wrong.text.contains(words) && !wrong.text.contains(secret), "\(wrong.text)")
                    }
                    let destinations = try await sluice.send("GET", "/v1/destinations")
                    #expect(destinations.text.components(separatedBy: "callback-").count == 2, "one for the two of them")
                    #expect(!destinations.text.contains(secret))
                    for (push, words) in [
                        (#"{"url":"http://10.1.2.3/"}"#, "secret"),
                        (#"{"url":"nonsense","secret":"whsec_b3duLXNlY3JldC1vZi10aGUtY2FsbGVyLTAwMDE="}"#, "destination"),
                    ] {
                        let bad = try await sluice.send(
                            "POST", "/v1/callbacks", body: #"{"connection":"psp","input":{"order":"8"},"push":\#(push)}"#)
                        #expect(bad.status == 400 && bad.text.contains(words), "\(bad.text)")
                    }
                }
            }
        }

        @Test func g_badCallbacksAreRefusedWithWordsThatHelp() async throws {
            try await with { sluice, _, _ in
                func ask(_ body: String) async throws -> (Int, String) {
                    let answer = try await sluice.send("POST", "/v1/callbacks", body: body)
                    return (answer.status, answer.text)
                }
                for (body, status, words) in [
                    ("{}", 400, "`connection`"),
                    (#"{"connection":"pps"}"#, 404, "did you mean `psp`?"),
                    (#"{"connection":"psp","type":"payout","input":{"order":"1"}}"#, 400, "no callback type `payout`"),
                    (#"{"connection":"psp"}"#, 400, "`input` needs `order`"),
                    (#"{"connection":"psp","input":{"order":1}}"#, 400, "`input.order` must be of the type string"),
                    (#"{"connection":"psp","input":{"order":"1","x":1}}"#, 400, "no field `x`"),
                    (#"{"connection":"psp","input":[]}"#, 400, "`input`"),
                    (#"{"connection":"psp","input":{"order":"1"},"expires_in":"91d"}"#, 400, "1s to 90d"),
                    (#"{"connection":"psp","input":{"order":"1"},"expires_in":0}"#, 400, "1s to 90d"),
                    (#"{"connection":"psp","input":{"order":"1"},"pauses":[0]}"#, 400, "each from 1 to 86400"),
                    (#"{"connection":"psp","input":{"order":"1"},"destination":"nobody"}"#, 404, "no destination `nobody`"),
                    (#"{"connection":"psp","input":{"order":"1"},"expire_in":5}"#, 400, "did you mean `expires_in`?"),
                    (#"{"connection":"psp","input":{"order":"\#(String(repeating: "9", count: 70_000))"}}"#, 413, "larger than 64 KB"),
                ] {
                    let (found, text) = try await ask(body)
                    #expect(found == status && text.contains(words), "\(body.prefix(80)): \(found) \(text)")
                }
                let order = #"{"connection":"psp","input":{"order":"1"},"idempotency_key":"k"}"#
                let (first, again) = (try await ask(order), try await ask(order))
                #expect(first.0 == 201 && again.0 == 200 && first.1.contains("\"id\""))
                let other = try await ask(#"{"connection":"psp","input":{"order":"2"},"idempotency_key":"k"}"#)
                #expect(other.0 == 409 && other.1.contains("stands for another request"), "\(other)")
                let made = try JSONDocument(Array(again.1.utf8)).root
                let (id, url) = (try #require(made["id"]?.string), try #require(made["url"]?.string))
                // Nobody has made this payment: the provider says 404, and the callback waits on.
                try await waitUntil("it was asked for", seconds: 30) {
                    try await sluice.send("GET", "/v1/callbacks/\(id)").json()["polls"]?.int64 ?? 0 > 0
                }
                #expect(await Web.post(url, Array("{\"status\":\"paid\"}".utf8)) == 401, "forged")
                #expect(await Web.post(url, [UInt8](repeating: 0x20, count: 11 << 20)) != 200, "huge")
                let cancelled = try await sluice.send("POST", "/v1/callbacks/\(id)/cancel", body: #"{"reason":"a test"}"#)
                #expect(cancelled.status == 200 && cancelled.text.contains(#""state":"cancelled""#), "\(cancelled.text)")
                #expect(try await sluice.send("POST", "/v1/callbacks/\(id)/cancel", body: "{}").status == 200, "again")
                #expect(await Web.post(url, Array("{}".utf8)) == 200, "late")
                let wait = try await sluice.send("GET", "/v1/callbacks/\(id)?wait=60")
                #expect(wait.text.contains(#""ended_by":"request""#) && wait.text.contains(#""reason":"a test""#))
                #expect(try await sluice.send("GET", "/v1/callbacks/\(id)?wait=61").status == 400)
                #expect(try await sluice.send("GET", "/v1/callbacks?state=lost").status == 400)
                #expect(try await sluice.send("POST", "/v1/triggers/callbacks:psp/stop", body: "{}").status == 409)
                let trigger = try await sluice.trigger("callbacks:psp")
                #expect(trigger["kind"]?.string == "callback" && trigger["jobs"]?.int64 == 0)
            }
        }
    }
}

extension Web {
    /// One PUT of JSON with a token.
    fileprivate static func put(_ url: String, _ body: String, token: String) async throws -> Int {
        var request = HTTPClientRequest(url: url)
        request.method = .PUT
        request.headers.add(name: "Authorization", value: "Bearer " + token)
        request.body = .bytes(Array(body.utf8))
        let response = try await HTTPClient.shared.execute(request, timeout: .seconds(10))
        _ = try await response.body.collect(upTo: 1 << 20)
        return Int(response.status.code)
    }
}
