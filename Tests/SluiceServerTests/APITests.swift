import SluiceCore
import SluiceDelivery
import SluiceStore
import Testing

@testable import SluiceServer

@Suite struct APITests {
    @Test func onlyTheHealthCheckAndTheDocumentNeedNoToken() async throws {
        try await Fixture.withAPI { api, _ in
            for route in API.routes {
                let path = "/" + route.pattern.map { $0.hasPrefix(":") ? "x" : String($0) }.joined(separator: "/")
                for authorization in [nil, "Bearer wrong", "Basic eDp5", "Bearer "] {
                    let answer = await api.respond(to: APIRequest(route.method, path, authorization: authorization))
                    #expect(answer.status == (route.isOpen ? 200 : 401), "\(route.method) \(path)")
                    if !route.isOpen { #expect(answer.error?.code == .unauthorized) }
                }
            }
            #expect(API.routes.filter(\.isOpen).map(\.path) == ["/openapi.json", "/v1/health"])
            #expect(await api.respond(to: APIRequest("GET", "/v1/nowhere")).status == 401, "what there is, is nobody's business")
        }
    }

    @Test(arguments: ["<html>Not implemented</html>", "", "{}", #"{"error":"no"}"#, #"{"error":{"message":"no"}}"#])
    func anotherServersAnswerIsNoFaultOfSluice(_ body: String) {
        let error = APIResponse(status: 501, body: Array(body.utf8)).error
        #expect(error?.code == .serverUnreachable && error?.message.contains("check --api-url") == true, "\(String(describing: error))")
        #expect(APIResponse.failure(SluiceError(.conflict, "so")).error == SluiceError(.conflict, "so"))
    }

    @Test func tokensWorkUntilTheyAreRevoked() async throws {
        try await Fixture.withAPI(localToken: "local") { api, store in
            let made = await api.ask("POST", "/v1/tokens", #"{"name":"ci"}"#)
            #expect(made.status == 201)
            let token = try #require(try JSONDocument(Array(made.text.utf8)).root["token"]?.string)
            #expect(try await store.tokens().allSatisfy { $0.hash != Array(token.utf8) && $0.hash.count == 32 })
            func status(_ token: String) async -> Int {
                await api.respond(to: APIRequest("GET", "/v1/status", authorization: "bearer " + token)).status
            }
            #expect(await status(token) == 200)
            #expect(await status("local") == 200)
            #expect(await status(String(token.dropLast())) == 401)
            #expect(await api.ask("POST", "/v1/tokens", #"{"name":"ci"}"#).status == 409)
            #expect(await api.ask("GET", "/v1/tokens").text.contains(token) == false)
            #expect(await api.ask("DELETE", "/v1/tokens/ci").status == 200)
            #expect(await status(token) == 401)
            #expect(await api.ask("DELETE", "/v1/tokens/ci").status == 404)
        }
    }

    @Test(arguments: [
        ("GET", "/v1/nowhere", "", 404, "not_found"), ("DELETE", "/v1/status", "", 405, "method_not_allowed"),
        ("GET", "/v1/triggers/none", "", 404, "not_found"), ("POST", "/v1/triggers/none/start", "", 404, "not_found"),
        ("POST", "/v1/triggers/orders/strat", "", 404, "not_found"), ("POST", "/v1/triggers/orders/resume", "", 200, ""),
        ("PUT", "/v1/triggers/orders/cursor", "{", 400, "invalid"), ("PUT", "/v1/triggers/orders/cursor", "[]", 400, "invalid"),
        ("PUT", "/v1/triggers/orders/cursor", "{}", 400, "invalid"), ("GET", "/v1/jobs/x", "", 404, "not_found"),
        ("GET", "/v1/jobs/orders:1", "", 404, "not_found"), ("GET", "/v1/inbox/x", "", 400, "invalid"),
        ("GET", "/v1/inbox/9", "", 404, "not_found"),
        ("POST", "/v1/deliveries/replay", "{}", 405, "method_not_allowed"), ("POST", "/v1/dead-letters/replay", "{}", 400, "invalid"),
        ("POST", "/v1/tokens", #"{"name":"a b"}"#, 400, "invalid"),
        ("POST", "/v1/connections/none/rotate-endpoint", "", 404, "not_found"),
        ("POST", "/v1/connections/main/rotate-endpoint", #"{"overlap_hours":-1}"#, 400, "invalid"),
        ("POST", "/v1/connections/none/test", "", 404, "not_found"), ("POST", "/v1/connections/main/test", "", 409, "conflict"),
        ("POST", "/v1/apply", "a: 1", 400, "invalid"),
    ])
    func errorsHaveTheirStatusAndShape(_ method: String, _ path: String, _ body: String, _ status: Int, _ code: String) async throws {
        try await Fixture.withAPI { api, _ in
            _ = await api.apply(Fixture.manifest)
            let answer = await api.ask(method, path, body)
            #expect(answer.status == status, "\(answer.text)")
            let error = try JSONDocument(Array(answer.text.utf8)).root["error"]
            #expect((error?["code"]?.string ?? "") == code)
            if status >= 400 { #expect(error?["message"]?.string?.isEmpty == false && error?["context"]?.kind == .object) }
        }
    }

    @Test func aBodyBeyondTheLimitIsRefused() async throws {
        try await Fixture.withAPI { api, _ in
            let request = APIRequest(
                "POST", "/v1/apply", isTrusted: true, body: [UInt8](repeating: 0x20, count: APIRequest.bodyBytesMax + 1))
            #expect(await api.respond(to: request).status == 413)
        }
    }

    /// A webhook with credentials in its headers, then every route that there is, with names that exist and names that do not.
    @Test func secretsAreInNoAnswer() async throws {
        try await Fixture.withAPI { api, store in
            var answers = [String(decoding: await api.apply(Fixture.manifest).body, as: UTF8.self)]
            let connection = try #require(try await store.definitions(.default).connections.first)
            _ = try await store.append(
                InboxEntry(
                    connection: connection.id, receivedAt: Timestamp(seconds: 1),
                    headers: Array("Authorization: Basic canary-basic\nX-A: 1\n".utf8),
                    body: Array("{}".utf8), topics: []))
            for route in API.routes {
                for name in ["main", "orders", "out", "1", "start", "nothing"] {
                    let parts = route.pattern.map { $0.hasPrefix(":") ? $0 == ":command" ? "pause" : name : String($0) }
                    answers.append(await api.ask(route.method, "/" + parts.joined(separator: "/"), #"{"name":"\#(name)","all":true}"#).text)
                }
            }
            // Faults in each place where a secret stands.
            for (part, other) in [
                ("shop", "shopp"), ("fields:", "felds:"), ("record", "recrod"), ("push", "pusch"), ("headers", "haeders"),
            ] {
                answers.append(String(decoding: await api.apply(Fixture.manifest.replacingAll(part, other)).body, as: UTF8.self))
            }
            var inline = Fixture.manifest
            for (name, value) in Fixture.references { inline = inline.replacingAll("${\(name)}", value) }
            answers.append(String(decoding: await api.apply(inline).body, as: UTF8.self))
            answers.append(String(decoding: await api.apply(inline + "\n  : ]").body, as: UTF8.self))
            #expect(answers.count > 100)
            for answer in answers {
                #expect(!answer.contains("canary"), "\(answer)")
                #expect(!answer.contains("Y2FuYXJ5"), "\(answer)")
            }
            #expect(answers.contains { $0.contains("/hooks/") }, "the test must have seen the routes that show addresses")
            #expect(answers.contains { $0.contains(#""name":"Authorization","value":"…""#) })
        }
    }

    @Test func aTriggerGoesThroughItsLife() async throws {
        try await Fixture.withAPI { api, store in
            _ = await api.apply(Fixture.manifest)
            for (command, state) in [
                ("pause", "paused"), ("resume", "running"), ("stop", "stopped"), ("start", "running"), ("poll", "running"),
            ] {
                let answer = await api.ask("POST", "/v1/triggers/orders/\(command)")
                #expect(answer.status == 200 && answer.text.contains("\"state\":\"\(state)\""), "\(command): \(answer.text)")
            }
            _ = await api.ask("POST", "/v1/triggers/orders/pause")
            let refused = await api.ask("POST", "/v1/triggers/orders/poll")
            #expect(refused.status == 409 && refused.text.contains("resume it first"))
            let shown = await api.ask("GET", "/v1/triggers/orders")
            #expect(shown.text.contains("sluice trigger resume orders"), "\(shown.text)")
            let now = try await store.orders()
            #expect(now.state == .paused)
        }
    }

    @Test func addressesRotateWithAnOverlap() async throws {
        try await Fixture.withAPI { api, store in
            _ = await api.apply(Fixture.manifest)
            let former = try #require(try await store.definitions(.default).endpoints.first).token
            let answer = await api.ask("POST", "/v1/connections/main/rotate-endpoint", #"{"overlap_hours":2}"#)
            #expect(answer.status == 201 && answer.text.contains("https://hooks.example.com/hooks/"))
            let endpoints = try await store.definitions(.default).endpoints
            #expect(endpoints.count == 2 && endpoints.first { $0.token == former }?.expiresAt != nil)
            let url = try JSONDocument(Array(await api.ask("GET", "/v1/connections/main").text.utf8)).root["webhook_url"]?.string
            #expect(url == endpoints.first { $0.token != former }.map { "https://hooks.example.com/hooks/" + $0.token })
        }
    }

    @Test func P4_aResetThatReachesPastTheKeptKeysSaysSoFirst() async throws {
        try await Fixture.withAPI { api, store in
            _ = await api.apply(Fixture.manifest)
            try await Jobs.make(3, floor: 100, store)
            let refused = await api.ask("DELETE", "/v1/triggers/orders/cursor")
            #expect(refused.status == 409 && refused.text.contains("from mark 100"), "\(refused.text)")
            #expect(await api.ask("PUT", "/v1/triggers/orders/cursor", #"{"cursor":99}"#).status == 409)
            #expect(await api.ask("PUT", "/v1/triggers/orders/cursor", #"{"cursor":100}"#).status == 200)
            let now = try await store.orders()
            #expect(now.progress.cursor == Array("100".utf8))
            let done = await api.ask("DELETE", "/v1/triggers/orders/cursor", query: [("confirm", "true")])
            #expect(done.status == 200 && done.text.contains(#""cursor":null"#))
        }
    }

    @Test func jobsAreReadInPagesAndById() async throws {
        try await Fixture.withAPI { api, store in
            _ = await api.apply(Fixture.manifest)
            try await Jobs.make(5, floor: nil, store)
            var (after, seen): (String?, [Int64]) = (nil, [])
            for _ in 0..<5 {
                let query: [(name: String, value: String)] =
                    [("limit", "2"), ("trigger", "orders")] + (after.map { [("after", $0)] } ?? [])
                let page = try JSONDocument(Array(await api.ask("GET", "/v1/jobs", query: query).text.utf8)).root
                seen += page["jobs"]?.elements?.compactMap { $0["position"]?.int64 } ?? []
                after = page["next"]?.string
                if page["more"]?.bool == false { break }
            }
            #expect(seen == [1, 2, 3, 4, 5])
            let byPosition = await api.ask("GET", "/v1/jobs/orders:4")
            let id = try #require(try JSONDocument(Array(byPosition.text.utf8)).root["id"]?.string)
            #expect(await api.ask("GET", "/v1/jobs/\(id)").text == byPosition.text)
            #expect(byPosition.text.contains(#""record":{"n":4.0}"#))
            #expect(await api.ask("GET", "/v1/jobs", query: [("limit", "0")]).status == 400)
        }
    }

    @Test func listsGoOnWhereTheyStopped() async throws {
        try await Fixture.withAPI { api, _ in
            for name in ["a", "b", "c"] { _ = await api.ask("POST", "/v1/tokens", #"{"name":"\#(name)"}"#) }
            let first = try JSONDocument(Array(await api.ask("GET", "/v1/tokens", query: [("limit", "2")]).text.utf8)).root
            #expect(first["tokens"]?.elements?.count == 2 && first["next"]?.string == "b")
            let second = try JSONDocument(Array(await api.ask("GET", "/v1/tokens", query: [("after", "b")]).text.utf8)).root
            #expect(second["tokens"]?.elements?.compactMap { $0["name"]?.string } == ["c"] && second["next"]?.isNull == true)
        }
    }
}

enum Jobs {
    /// Commits a page of jobs for the trigger `orders`.
    static func make(_ count: Int, floor: Int64?, _ store: any Store) async throws {
        let trigger = try await store.orders()
        let fence = try await store.acquireLease(shard: 0, holder: "test", at: Timestamp(seconds: 1))
        let records = (1...count).map { number in
            KeyedRecord(
                record: Record(bytes: Array("{\"n\":\(number).0}".utf8)[...]), dedupKey: Array("k\(number)".utf8),
                mark: Int64(number) + 1000)
        }
        let end = CycleEnd(
            cause: .start, startedAt: Timestamp(seconds: 1), coveredSequence: .zero, safetyDueAt: Timestamp(seconds: 100), dedupFloor: floor
        )
        let outcome = try await store.commitPage(
            PageCommit(
                fence: fence, trigger: trigger.id, generation: trigger.generation, cycle: 1, page: 0, chunk: 0, cause: .start,
                records: records,
                completion: PageCompletion(cursor: Array("1".utf8), cursorMark: 1, end: end), at: Timestamp(seconds: 2)))
        #expect(outcome == .committed(jobs: count, lastPosition: JobPosition(Int64(count))))
    }
}

extension String {
    func replacingAll(_ part: String, _ other: String) -> String {
        split(separator: part, omittingEmptySubsequences: false).joined(separator: other)
    }
}
