import SluiceCore
import SluiceDelivery
import SluiceStore
import Testing

@testable import SluiceServer

/// Show f for delivery and consumers: each bad input gets the right status, a code for programs and a sentence that names the fix, and
/// changes nothing.
@Suite struct DeliveryErrorTests {
    struct Refusal: Sendable {
        var what: String
        var method = "POST"
        var path: String
        var body = "{}"
        var status: Int
        var code: String
        var words: [String]
    }

    /// Holds an answer against what is expected of it.
    private static func check(_ api: API, _ wanted: Refusal) async throws {
        let answer = await api.ask(wanted.method, wanted.path, wanted.body)
        let error = try JSONDocument(Array(answer.text.utf8)).root["error"]
        #expect(answer.status == wanted.status, "\(wanted.what): \(answer.status) \(answer.text)")
        #expect(error?["code"]?.string == wanted.code, "\(wanted.what): \(answer.text)")
        let message = error?["message"]?.string ?? ""
        for word in wanted.words { #expect(message.contains(word), "\(wanted.what) lacks “\(word)”: \(message)") }
    }

    private static func standing(_ api: API) async -> String { await api.ask("GET", "/v1/consumers/billing").text }

    @Test func f_unknownConsumersAreNamedWithThoseThereAre() async throws {
        try await ConsumerTests.withConsumers { api, _ in
            let there = ["there is no consumer `nobody`", "there are billing, stock"]
            for (method, path, body) in [
                ("POST", "fetch", "{}"), ("POST", "ack", #"{"lease":"lease_1_1_a"}"#), ("POST", "nack", #"{"lease":"lease_1_1_a"}"#),
                ("POST", "extend", #"{"lease":"lease_1_1_a"}"#), ("PUT", "position", #"{"to":"now"}"#),
            ] {
                let refusal = Refusal(
                    what: path, method: method, path: "/v1/consumers/nobody/\(path)", body: body, status: 404, code: "not_found",
                    words: there)
                try await Self.check(api, refusal)
            }
            try await Self.check(
                api,
                Refusal(what: "show", method: "GET", path: "/v1/consumers/nobody", body: "", status: 404, code: "not_found", words: there))
        }
    }

    @Test func f_acksOfOthersJobsSayWhatToDo() async throws {
        try await ConsumerTests.withConsumers { api, store in
            try await ConsumerTests.commit(store, cycle: 1, keys: ["a", "b"])
            let mine = try await ConsumerTests.fetch(api, #"{"max":1,"visibility":600}"#)
            let other = try await ConsumerTests.fetch(api, #"{"max":1,"visibility":600}"#)
            let (own, id) = (try #require(mine.jobs[0]["id"]?.string), try #require(other.jobs[0]["id"]?.string))
            let token = try #require(other.jobs[0]["seq_token"]?.string)
            for word in ["ack", "nack"] {
                let path = "/v1/consumers/billing/\(word)"
                let cases = [
                    Refusal(
                        what: "another's job by its id", path: path, body: #"{"lease":"\#(mine.lease)","jobs":["\#(id)"]}"#, status: 404,
                        code: "not_found", words: [id, "was not handed out with this lease", "nothing was changed"]),
                    Refusal(
                        what: "another's job by its token", path: path, body: #"{"lease":"\#(mine.lease)","jobs":["\#(token)"]}"#,
                        status: 404, code: "not_found", words: ["1 job", "not handed out with this lease", "nothing was changed"]),
                    Refusal(
                        what: "no lease", path: path, status: 400, code: "invalid", words: ["`lease`"]),
                    Refusal(
                        what: "a text that is no lease", path: path, body: #"{"lease":"mine"}"#, status: 400, code: "invalid",
                        words: ["`lease` is the text that a fetch gave", "it begins with lease_"]),
                    Refusal(
                        what: "a lease with a mistake in it", path: path, body: #"{"lease":"lease_x"}"#, status: 400, code: "invalid",
                        words: ["this lease is malformed"]),
                    Refusal(
                        what: "a text that is too long", path: path, body: #"{"lease":"\#(String(repeating: "ü", count: 65))"}"#,
                        status: 400, code: "invalid", words: ["at most 64 characters"]),
                    Refusal(
                        what: "a worker's name that is too long", path: "/v1/consumers/billing/fetch",
                        body: #"{"worker":"\#(String(repeating: "ü", count: 65))"}"#, status: 400, code: "invalid",
                        words: ["at most 64 characters"]),
                    Refusal(
                        what: "a lease nobody gave", path: path, body: #"{"lease":"\#(mine.lease.dropLast(2))zz"}"#, status: 404,
                        code: "not_found", words: ["knows no such lease", "use the `lease` that a fetch gave"]),
                    Refusal(
                        what: "a lease of another consumer", path: "/v1/consumers/stock/\(word)", body: #"{"lease":"\#(mine.lease)"}"#,
                        status: 404, code: "not_found", words: ["belongs to another consumer", "nothing was changed"]),
                    Refusal(
                        what: "no jobs", path: path, body: #"{"lease":"\#(mine.lease)","jobs":[]}"#, status: 400, code: "invalid",
                        words: ["`jobs`", "leave it out for all of the lease"]),
                    Refusal(
                        what: "a text that is no job", path: path, body: #"{"lease":"\#(mine.lease)","jobs":["x"]}"#, status: 400,
                        code: "invalid", words: ["token"]),
                ]
                for refusal in cases { try await Self.check(api, refusal) }
            }
            let after = await Self.standing(api)
            #expect(after.contains(#""unacked":2,"in_hand":2"#), "nothing was changed: \(after)")
            // The opposite was said before.
            #expect(await api.ask("POST", "/v1/consumers/billing/ack", #"{"lease":"\#(mine.lease)"}"#).status == 200)
            try await Self.check(
                api,
                Refusal(
                    what: "a nack after the ack", path: "/v1/consumers/billing/nack",
                    body: #"{"lease":"\#(mine.lease)","jobs":["\#(own)"]}"#,
                    status: 409, code: "conflict", words: ["acked"]))
        }
    }

    @Test func f_acksOfALeaseThatRanOutSayWhatToDo() async throws {
        try await ConsumerTests.withConsumers { api, store in
            try await ConsumerTests.commit(store, cycle: 1, keys: ["a"])
            let late = try await ConsumerTests.fetch(api, #"{"visibility":1}"#)
            let next = try await ConsumerTests.fetch(api, #"{"wait":60,"visibility":600}"#)
            #expect(next.jobs.count == 1)
            for (word, more) in [("ack", ""), ("nack", ""), ("extend", #","visibility":60"#)] {
                try await Self.check(
                    api,
                    Refusal(
                        what: word, path: "/v1/consumers/billing/\(word)", body: #"{"lease":"\#(late.lease)"\#(more)}"#, status: 409,
                        code: "fenced", words: ["the lease ran out", "Nothing was changed", "extend the lease in time"]))
            }
            try await Self.check(
                api,
                Refusal(
                    what: "ack with the next fetch", path: "/v1/consumers/billing/fetch", body: #"{"ack":"\#(late.lease)"}"#, status: 409,
                    code: "fenced", words: ["the lease ran out"]))
            #expect(await Self.standing(api).contains(#""in_hand":1"#), "the other still has it")
        }
    }

    @Test func f_aPositionPastRetentionSaysHowToGoOn() async throws {
        try await Fixture.withAPI { api, store in
            let manifest = ConsumerTests.manifest.replacing(", destinations: [billing, stock]", with: "")
            #expect(await api.apply(manifest).status == 200)
            try await ConsumerTests.commit(store, cycle: 1, keys: ["a", "b", "c"])
            let first = try JSONDocument(Array(await api.ask("GET", "/v1/jobs", query: [("limit", "1")]).text.utf8)).root
            let token = try #require(first["next"]?.string)
            // All of them are past their time.
            let policy = RetentionPolicy(jobs: .days(1), pendingDeliveries: .days(1), rowsPerBatchMax: 100)
            let report = try await store.prune(policy, at: Timestamp(milliseconds: 1_800_000_000_000) + .days(5))
            #expect(report.jobs == 3)
            for path in ["/v1/jobs", "/v1/jobs/stream"] {
                let answer = await api.ask("GET", path, query: [("after", token)])
                let error = try JSONDocument(Array(answer.text.utf8)).root["error"]
                #expect(answer.status == 410 && error?["code"]?.string == "past_retention", "\(path): \(answer.text)")
                #expect(error?["message"]?.string?.contains("go on with the token `next`") == true, "\(answer.text)")
                let next = try #require(error?["context"]?["next"]?.string)
                #expect(await api.ask("GET", "/v1/jobs", query: [("after", next)]).status == 200, "as it says")
            }
        }
    }

    /// One address of each range of the guard, as it may be written in a URL: refused before anything is stored, with the way out.
    @Test(
        arguments: [
            ("http://127.0.0.1/", "allow_private"), ("http://127.9.9.9:8080/", "allow_private"), ("http://10.1.2.3/", "allow_private"),
            ("http://172.16.0.1/", "allow_private"), ("http://192.168.1.1/", "allow_private"), ("http://100.64.0.1/", "allow_private"),
            ("http://169.254.1.1/", "allow_private"), ("http://169.254.169.254/latest/meta-data/", "allow_networks"),
            ("http://100.100.100.200/", "allow_networks"), ("http://192.0.2.1/", "allow_private"), ("http://198.18.0.1/", "allow_private"),
            ("http://0.0.0.0/", "correct the URL"), ("http://224.0.0.1/", "correct the URL"),
            ("http://255.255.255.255/", "correct the URL"),
            ("http://[::1]/", "allow_private"), ("http://[::ffff:127.0.0.1]/", "allow_private"),
            ("http://[::ffff:10.0.0.1]/", "allow_private"), ("http://[::ffff:169.254.169.254]/", "allow_networks"),
            ("http://[fc00::1]/", "allow_private"), ("http://[fd00:ec2::254]/", "allow_networks"), ("http://[fe80::1]/", "allow_private"),
            ("http://[64:ff9b::7f00:1]/", "allow_private"), ("http://[2002:7f00:1::]/", "allow_private"),
            ("http://[2001::1]/", "allow_private"), ("http://[ff02::1]/", "correct the URL"), ("http://[::]/", "correct the URL"),
            ("http://[2001:db8::1]/", "allow_private"),
        ])
    func f_privateAddressesAreRefusedWithTheWayOut(_ url: String, _ words: String) async throws {
        try await Fixture.withAPI { api, store in
            let secret = "whsec_Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5"
            let answer = await api.apply("destinations:\n  out: {kind: push, url: \"\(url)\", secret: \(secret)}\n")
            let text = String(decoding: answer.body, as: UTF8.self)
            let error = try JSONDocument(answer.body).root["error"]
            #expect(answer.status == 400 && error?["code"]?.string == "invalid", "\(text)")
            let message = error?["message"]?.string ?? ""
            #expect(message.contains("which is not a public one") && message.contains(words) && message.contains("line 2"), "\(message)")
            #expect(try await store.definitions(.default).destinations.isEmpty, "nothing was stored")
            // As it says, where there is a way.
            guard words == "allow_private" else { return }
            let open = await api.apply("destinations:\n  out: {kind: push, url: \"\(url)\", secret: \(secret), allow_private: true}\n")
            #expect(open.status == 200, "\(String(decoding: open.body, as: UTF8.self))")
        }
    }
}
