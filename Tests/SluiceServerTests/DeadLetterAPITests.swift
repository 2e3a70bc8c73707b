import SluiceCore
import SluiceDelivery
import SluiceStore
import Testing

@testable import SluiceServer

@Suite struct DeadLetterAPITests {
    private static let clockStart = Timestamp(milliseconds: 1_800_000_000_000)

    /// Jobs of the fixture's trigger whose deliveries died, job i at i hours before the API's start.
    private static func makeDead(_ count: Int, _ api: API, _ store: any Store, reason: String = "exhausted") async throws -> [Int64] {
        #expect(await api.apply(Fixture.manifest).status == 200)
        try await Jobs.make(count, floor: nil, store)
        let destination = try #require(try await store.definitions(.default).destinations.first).id
        let claimed = try await store.claimDeliveries(
            destination, limit: count, at: clockStart - .hours(5), hiddenUntil: clockStart - .hours(4))
        #expect(claimed.count == count)
        try await store.recordAttempts(
            claimed.enumerated().map { index, delivery in
                DeliveryAttempt(
                    delivery: delivery.id, outcome: .dead(reason: reason), status: 503, error: "the shop answered 503",
                    response: Array("<html>overloaded".utf8), at: clockStart - .hours(Int64(count - index)), durationMilliseconds: 41)
            })
        return claimed.map(\.id)
    }

    private static func json(_ answer: (status: Int, text: String)) throws -> JSONView { try JSONDocument(Array(answer.text.utf8)).root }

    @Test func deadLettersAreListedAndShown() async throws {
        try await Fixture.withAPI { api, store in
            let ids = try await DeadLetterAPITests.makeDead(5, api, store)
            let first = try DeadLetterAPITests.json(await api.ask("GET", "/v1/dead-letters", query: [("limit", "2")]))
            #expect(first["dead_letters"]?.elements?.compactMap { $0["id"]?.int64 } == [ids[4], ids[3]])
            let row = try #require(first["dead_letters"]?.elements?.first)
            #expect(row["destination"]?.string == "out" && row["trigger"]?.string == "orders" && row["reason"]?.string == "exhausted")
            #expect(row["last_error"]?.string == "the shop answered 503" && row["job"]?.string?.hasPrefix("job_") == true)
            let next = try #require(first["next"]?.string)
            let rest = try DeadLetterAPITests.json(await api.ask("GET", "/v1/dead-letters", query: [("after", next)]))
            #expect(rest["dead_letters"]?.elements?.count == 3 && rest["next"]?.isNull == true)
            func count(_ query: [(name: String, value: String)]) async throws -> Int {
                try DeadLetterAPITests.json(await api.ask("GET", "/v1/dead-letters", query: query))["dead_letters"]?.elements?.count ?? -1
            }
            #expect(try await count([("since", "150m")]) == 2)
            #expect(try await count([("until", "150m")]) == 3)
            #expect(try await count([("since", (DeadLetterAPITests.clockStart - .hours(2)).description)]) == 2)
            #expect(try await count([("reason", "filter")]) == 0)
            #expect(try await count([("trigger", "orders")]) == 5)
            #expect(try await count([("destination", "out")]) == 5)
            #expect(try await count([("discarded", "true")]) == 0)
            let shown = try DeadLetterAPITests.json(await api.ask("GET", "/v1/dead-letters/\(ids[0])"))
            let attempt = try #require(shown["history"]?.elements?.first)
            #expect(attempt["status"]?.int64 == 503 && attempt["duration_ms"]?.int64 == 41)
            #expect(attempt["response"]?.string == "<html>overloaded" && attempt["error"]?.string == "the shop answered 503")
            #expect(shown["job"]?["record"].map { String(decoding: $0.bytes, as: UTF8.self) } == #"{"n":1.0}"#)
            #expect(shown["job"]?["id"]?.string?.isEmpty == false && shown["state"]?.string == "dead")
            #expect(shown["kind"]?.string == "push")
        }
    }

    @Test func oneManyAndAllAreReplayed() async throws {
        try await Fixture.withAPI { api, store in
            let ids = try await DeadLetterAPITests.makeDead(9, api, store)
            api.parts.alarms.raise(Alarm(kind: .deadLetters, subject: "destination out", message: "9"))
            let one = await api.ask("POST", "/v1/dead-letters/replay", #"{"deliveries":[\#(ids[0])]}"#)
            #expect(one.status == 200 && one.text.contains(#""replayed":1"#))
            // Replaying what is pending: refused, and nothing changes.
            let pending = await api.ask("POST", "/v1/dead-letters/replay", #"{"deliveries":[\#(ids[0])]}"#)
            #expect(pending.status == 409 && pending.text.contains("is no dead letter but pending"), "\(pending.text)")
            let mixed = try DeadLetterAPITests.json(
                await api.ask("POST", "/v1/dead-letters/replay", #"{"deliveries":[\#(ids[0]),\#(ids[1]),77777]}"#))
            #expect(mixed["replayed"]?.int64 == 1)
            #expect(mixed["refused"]?.elements?.compactMap { $0["id"]?.int64 } == [ids[0], 77777])
            #expect(mixed["refused"]?.elements?.first?["state"]?.string == "pending")
            #expect(await api.ask("POST", "/v1/dead-letters/replay", #"{"deliveries":[77777]}"#).status == 404)
            let range = await api.ask("POST", "/v1/dead-letters/replay", #"{"since":"330m","until":"150m"}"#)
            #expect(range.text.contains(#""replayed":3"#), "\(range.text)")
            #expect(api.parts.alarms.standing().count == 1, "some are left: the alarm stands")
            // Bounded requests: the rest is had by asking on.
            let part = try DeadLetterAPITests.json(
                await api.ask("POST", "/v1/dead-letters/replay", #"{"destination":"out","reason":"exhausted","limit":3}"#))
            let (next, until) = (try #require(part["next"]?.string), try #require(part["until"]?.string))
            #expect(part["replayed"]?.int64 == 3)
            let rest = try DeadLetterAPITests.json(
                await api.ask(
                    "POST", "/v1/dead-letters/replay",
                    #"{"destination":"out","reason":"exhausted","limit":3,"after":"\#(next)","until":"\#(until)"}"#))
            #expect(rest["replayed"]?.int64 == 1 && rest["next"]?.isNull == true)
            #expect(api.parts.alarms.standing().isEmpty, "none is left: the alarm is cleared")
            let pendings = try await store.deliveries(DeliveryQuery(state: .pending, limit: 100))
            #expect(pendings.count == 9)
        }
    }

    /// With its attachment a destination lost what says how much of a record it may get.
    @Test func whatIsNoLongerDeliveredThereIsLeftAlone() async throws {
        try await Fixture.withAPI { api, store in
            let ids = try await DeadLetterAPITests.makeDead(3, api, store)
            try await store.apply(
                [.detach(trigger: "orders", destination: "out")], namespace: .default, at: DeadLetterAPITests.clockStart)
            let one = await api.ask("POST", "/v1/dead-letters/replay", #"{"deliveries":[\#(ids[0])]}"#)
            #expect(one.status == 409 && one.text.contains("orders no longer delivers to out"), "\(one.text)")
            let all = try DeadLetterAPITests.json(await api.ask("POST", "/v1/dead-letters/replay", #"{"all":true}"#))
            #expect(all["replayed"]?.int64 == 0 && all["detached"]?.int64 == 3)
            let named = try DeadLetterAPITests.json(
                await api.ask("POST", "/v1/dead-letters/replay", #"{"deliveries":[\#(ids[0]),\#(ids[1])]}"#))
            #expect(named["detached"]?.int64 == 2 && named["refused"]?.elements?.count == 2)
            #expect(try await store.deliveries(DeliveryQuery(state: .pending)).isEmpty)
        }
    }

    @Test func aDiscardSaysWhoWhenAndWhy() async throws {
        try await Fixture.withAPI { api, store in
            let ids = try await DeadLetterAPITests.makeDead(3, api, store)
            api.parts.alarms.raise(Alarm(kind: .deadLetters, subject: "destination out", message: "3"))
            let made = try DeadLetterAPITests.json(await api.ask("POST", "/v1/tokens", #"{"name":"ci"}"#))
            let token = try #require(made["token"]?.string)
            let order = #"{"deliveries":[\#(ids[0])],"because":" a test order ","by":"anna"}"#
            let done = await api.respond(
                to: APIRequest("POST", "/v1/dead-letters/discard", authorization: "Bearer \(token)", body: Array(order.utf8)))
            #expect(done.status == 200)
            let listed = try DeadLetterAPITests.json(await api.ask("GET", "/v1/dead-letters", query: [("discarded", "true")]))
            let row = try #require(listed["dead_letters"]?.elements?.first)
            #expect(row["discarded_by"]?.string == "anna, token ci" && row["discarded_because"]?.string == "a test order")
            #expect(row["discarded_at"]?.string?.isEmpty == false && row["reason"]?.string == "exhausted")
            let twice = await api.ask("POST", "/v1/dead-letters/discard", #"{"deliveries":[\#(ids[0])],"because":"again"}"#)
            #expect(twice.status == 409 && twice.text.contains("discarded"), "\(twice.text)")
            #expect(await api.ask("POST", "/v1/dead-letters/discard", #"{"all":true,"because":"over"}"#).text.contains(#""discarded":2"#))
            #expect(api.parts.alarms.standing().isEmpty, "nobody waits for them: the alarm is cleared")
            #expect(await api.ask("GET", "/v1/dead-letters").text.contains(#""dead_letters":[]"#))
            #expect(await api.ask("GET", "/v1/dead-letters/\(ids[0])").text.contains(#""state":"discarded""#))
            // A discard is no deletion.
            #expect(await api.ask("POST", "/v1/dead-letters/replay", #"{"deliveries":[\#(ids[0])]}"#).text.contains(#""replayed":1"#))
            #expect(await api.ask("GET", "/v1/deliveries/\(ids[0])").text.contains(#""state":"pending""#))
            let pending = await api.ask("GET", "/v1/dead-letters/\(ids[0])")
            #expect(pending.status == 409 && pending.text.contains("sluice delivery show"))
        }
    }

    @Test(arguments: [
        ("GET", "/v1/dead-letters?after=x", "", 400), ("GET", "/v1/dead-letters?after=1.2.3", "", 400),
        ("GET", "/v1/dead-letters?since=yesterday", "", 400), ("GET", "/v1/dead-letters?since=1h&until=2h", "", 400),
        ("GET", "/v1/dead-letters?destination=oout", "", 404), ("GET", "/v1/dead-letters?trigger=none", "", 404),
        ("GET", "/v1/dead-letters?reason=bogus", "", 400), ("POST", "/v1/dead-letters/replay", #"{"reason":"bogus"}"#, 400),
        ("POST", "/v1/dead-letters/discard", #"{"reason":"bogus","because":"x"}"#, 400),
        ("GET", "/v1/dead-letters/x", "", 400), ("GET", "/v1/dead-letters/-1", "", 400), ("GET", "/v1/dead-letters/9", "", 404),
        ("GET", "/v1/deliveries/9", "", 404), ("POST", "/v1/dead-letters/replay", "{}", 400),
        ("POST", "/v1/dead-letters/replay", "[]", 400),
        ("POST", "/v1/dead-letters/replay", #"{"deliveries":[]}"#, 400), ("POST", "/v1/dead-letters/replay", #"{"deliveries":["a"]}"#, 400),
        ("POST", "/v1/dead-letters/replay", #"{"deliveries":5}"#, 400), ("POST", "/v1/dead-letters/replay", #"{"destination":5}"#, 400),
        ("POST", "/v1/dead-letters/replay", #"{"destination":"oout"}"#, 404),
        ("POST", "/v1/dead-letters/replay", #"{"all":true,"limit":0}"#, 400),
        ("POST", "/v1/dead-letters/replay", #"{"all":true,"after":"zz"}"#, 400),
        ("POST", "/v1/dead-letters/replay", #"{"all":false}"#, 400),
        ("POST", "/v1/dead-letters/discard", #"{"all":true}"#, 400),
        ("POST", "/v1/dead-letters/discard", #"{"all":true,"because":"  "}"#, 400),
        ("POST", "/v1/dead-letters/discard", #"{"because":"x"}"#, 400),
    ])
    func whatIsWrongIsSaid(_ method: String, _ path: String, _ body: String, _ status: Int) async throws {
        try await Fixture.withAPI { api, _ in
            #expect(await api.apply(Fixture.manifest).status == 200)
            let parts = path.split(separator: "?")
            let query = parts.count > 1 ? Percent.query(parts[1]) : []
            let answer = await api.ask(method, String(parts[0]), body, query: query)
            #expect(answer.status == status, "\(answer.text)")
            let message = try DeadLetterAPITests.json(answer)["error"]?["message"]?.string
            #expect(message?.isEmpty == false)
        }
    }

    /// A reason with a mistake in it would look like a success that found nothing.
    @Test func aReasonIsOneThatThereIs() async throws {
        try await Fixture.withAPI { api, _ in
            #expect(await api.apply(Fixture.manifest).status == 200)
            for reason in ["exhausted", "gone", "expired", "filter", "detached", "refused", "too_large", "removed"] {
                #expect(await api.ask("GET", "/v1/dead-letters", query: [("reason", reason)]).status == 200, "\(reason)")
                #expect(await api.ask("POST", "/v1/dead-letters/replay", #"{"reason":"\#(reason)"}"#).status == 200, "\(reason)")
            }
            let answer = await api.ask("GET", "/v1/dead-letters", query: [("reason", "bogus")])
            #expect(answer.status == 400 && answer.text.contains("exhausted") && answer.text.contains("too_large"), "\(answer.text)")
        }
    }

    @Test func aFilterIsTriedOnPastJobs() async throws {
        try await Fixture.withAPI { api, store in
            #expect(await api.apply(Fixture.manifest).status == 200)
            try await Jobs.make(30, floor: nil, store)
            func ask(_ body: String) async -> (status: Int, text: String) {
                await api.ask("POST", "/v1/triggers/orders/filter/try", body)
            }
            let before = try await store.deliveries(DeliveryQuery(limit: 100)).map(\.state)
            let tried = try DeadLetterAPITests.json(
                await ask(#"{"filter":"if record.n == 30 then error('no') end\nreturn record.n > 25","fields":["n"],"last":10}"#))
            let jobs = try #require(tried["jobs"]?.elements)
            #expect(jobs.compactMap { $0["position"]?.int64 } == Array(21...30))
            #expect(
                jobs.compactMap { $0["result"]?.string } == [
                    "skip", "skip", "skip", "skip", "skip", "pass", "pass", "pass", "pass", "error",
                ])
            #expect(jobs[5]["record"].map { String(decoding: $0.bytes, as: UTF8.self) } == #"{"n":26.0}"#)
            #expect(jobs[9]["error"]?.string == "filter:1: no")
            #expect([tried["passed"]?.int64, tried["skipped"]?.int64, tried["failed"]?.int64] == [4, 5, 1])
            let from = try DeadLetterAPITests.json(await ask(#"{"fields":[["n"]],"from":3,"last":2}"#))
            #expect(from["jobs"]?.elements?.compactMap { $0["position"]?.int64 } == [3, 4] && from["more"]?.bool == true)
            #expect(from["absent"]?.elements?.isEmpty == true && from["last_position"]?.int64 == 30)
            let mistyped = try DeadLetterAPITests.json(await ask(#"{"fields":["n","nope","n.m"],"last":2}"#))
            #expect(mistyped["absent"]?.elements?.compactMap(\.string) == ["nope", "n.m"])
            let beyond = try DeadLetterAPITests.json(await ask(#"{"fields":["nope"],"from":99999}"#))
            #expect(beyond["jobs"]?.elements?.isEmpty == true && beyond["absent"]?.elements?.isEmpty == true)
            #expect(beyond["last_position"]?.int64 == 30)
            // What the destination has now.
            let manifest = Fixture.manifest.replacingAll("destinations: [out]", #"destinations: [{name: out, filter: "record.n <= 28"}]"#)
            #expect(await api.apply(manifest).status == 200)
            let attached = try DeadLetterAPITests.json(await ask(#"{"destination":"out","last":4}"#))
            #expect(attached["filter"]?.string == "record.n <= 28" && attached["passed"]?.int64 == 2)
            let after = try await store.deliveries(DeliveryQuery(limit: 100)).map(\.state)
            #expect(before == after, "nothing is stored")
            for (body, status, part) in [
                ("{}", 400, "say what to try"), (#"{"filter":"record."}"#, 400, "filter:1:"), (#"{"filter":"os.exit()"}"#, 400, "`os`"),
                (#"{"filter":5}"#, 400, "filter"), (#"{"fields":"n"}"#, 400, "fields"),
                (#"{"fields":["a..b"]}"#, 400, "customer.email"),
                (#"{"filter":"true","last":0}"#, 400, "last"), (#"{"filter":"true","from":0}"#, 400, "from"),
                (#"{"destination":"oout"}"#, 404, "did you mean `out`?"),
            ] {
                let answer = await ask(body)
                #expect(answer.status == status && answer.text.contains(part), "\(body): \(answer.text)")
            }
            #expect(await api.ask("POST", "/v1/triggers/none/filter/try", #"{"filter":"true"}"#).status == 404)
        }
    }
}
