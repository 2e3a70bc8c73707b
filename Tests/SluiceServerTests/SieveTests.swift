import SluiceCore
import SluiceDelivery
import SluiceStore
import Testing

@testable import SluiceServer

@Suite struct SieveTests {
    private static func manifest(_ destinations: String) -> String {
        Fixture.manifest.replacingAll("destinations: [out]", "destinations: \(destinations)")
    }

    private static func job(_ record: String, _ position: Int64 = 1) -> StoredJob {
        StoredJob(
            trigger: TriggerID(1), position: JobPosition(position), token: "t", dedupKey: Array("k\(position)".utf8),
            record: Array(record.utf8),
            isDerived: false, cause: .webhook, createdAt: Timestamp(seconds: 1_767_225_600))
    }

    private static func sieve(_ settings: AttachmentSettings) throws -> AttachmentSieve {
        try AttachmentSieve(settings, trigger: (name: "orders", uid: "u"))
    }

    @Test func aManifestNamesFilterAndFields() throws {
        let text = SieveTests.manifest(#"[{name: out, from: 3, filter: "record.amount > 100", fields: [id, customer.email, [a.b, c]]}]"#)
        let manifest = try ManifestReader.read(text, references: Fixture.references)
        let attachment = try #require(manifest.triggers.first?.destinations?.first)
        #expect(attachment.from == JobPosition(3))
        #expect(attachment.settings.filter == "record.amount > 100")
        #expect(attachment.settings.fields == [JSONPath(["id"]), JSONPath(["customer", "email"]), JSONPath(["a.b", "c"])])
        #expect(AttachmentSettings(json: attachment.settings.json) == attachment.settings)
        #expect(AttachmentSettings().json.isEmpty && AttachmentSettings(json: []) == AttachmentSettings())
    }

    @Test(arguments: [
        (#"{name: out, filter: "record.amount >"}"#, "filter:1:"), (#"{name: out, filter: "os.exit()"}"#, "`os`"),
        (#"{name: out, filter: ""}"#, "empty"), (#"{name: out, filter: [a]}"#, "`filter` is a text"),
        (#"{name: out, fields: id}"#, "`fields` is a list"), (#"{name: out, fields: []}"#, "`fields` is a list"),
        (#"{name: out, fields: [a..b]}"#, "customer.email"), (#"{name: out, fields: [{a: b}]}"#, "customer.email"),
        (#"{name: out, fields: [["a", ""]]}"#, "key in `fields`"), (#"{name: out, filtre: x}"#, "did you mean `filter`?"),
        (#"{name: out, fields: [\#((0..<1000).map { "f\($0)" }.joined(separator: ", "))]}"#, "1 to 200"),
    ])
    func whatIsWrongIsSaidWithItsLine(_ attachment: String, _ part: String) throws {
        let error = try #require(throws: SluiceError.self) {
            try ManifestReader.read(SieveTests.manifest("[\(attachment)]"), references: Fixture.references)
        }
        #expect(error.code == .invalid && error.message.contains(part), "\(error.message)")
        #expect(error.message.contains("line 12") || error.context["line"] == "12" || error.message.contains(":12"), "\(error)")
    }

    @Test func aPlanShowsWhatChangesOfAFilter() async throws {
        try await Fixture.withAPI { api, store in
            func apply(_ destinations: String) async -> String {
                let answer = await api.apply(SieveTests.manifest(destinations))
                #expect(answer.status == 200, "\(String(decoding: answer.body, as: UTF8.self))")
                return PlanText.text(answer.body)
            }
            func settings() async throws -> [AttachmentSettings] {
                try await store.definitions(.default).attachments.map { AttachmentSettings(json: $0.settings) }
            }
            let first = await apply(#"[{name: out, filter: "record.amount > 100", fields: [id, amount]}]"#)
            #expect(first.contains("filter for out: record.amount > 100") && first.contains("fields for out: id, amount"), "\(first)")
            let made = try await settings()
            #expect(made == [AttachmentSettings(filter: "record.amount > 100", fields: [JSONPath(["id"]), JSONPath(["amount"])])])
            let generation = try await store.orders().generation
            #expect(await apply(#"[{name: out, filter: "record.amount > 100", fields: [id, amount]}]"#).contains("Nothing changes"))
            let changed = await apply(#"[{name: out, filter: "record.amount > 200", fields: [id, amount]}]"#)
            #expect(changed.contains("filter for out changes: record.amount > 200") && !changed.contains("fields"), "\(changed)")
            let removed = await apply("[out]")
            #expect(removed.contains("filter for out is removed") && removed.contains("whole records"), "\(removed)")
            let after = try await settings()
            #expect(after == [AttachmentSettings()])
            let now = try await store.orders().generation
            #expect(now == generation, "a filter is the delivery's business: no cycle is fenced by its change")
        }
    }

    @Test func aSieveFiltersThenProjects() throws {
        let sieve = try SieveTests.sieve(AttachmentSettings(filter: "record.n > 1 and job.trigger == 'orders'", fields: [JSONPath(["n"])]))
        #expect(try sieve.sift(SieveTests.job(#"{"id":"x","n":1.50}"#)) == .pass(record: Array(#"{"n":1.50}"#.utf8), isProjected: true))
        #expect(try sieve.sift(SieveTests.job(#"{"id":"x","n":1}"#)) == .skip)
        let failure = try #require(throws: SluiceError.self) { try sieve.sift(SieveTests.job(#"{"id":"x"}"#)) }
        #expect(failure.code == .filter && failure.message.hasPrefix("filter:1:"), "\(failure)")
        let id = JobIdentity.id(uid: "u", dedupKey: Array("k1".utf8))
        #expect(
            try SieveTests.sieve(AttachmentSettings(filter: "job.id == '\(id)'")).sift(SieveTests.job("{}"))
                == .pass(record: Array("{}".utf8), isProjected: false))
        let list = try SieveTests.sieve(AttachmentSettings(fields: [JSONPath(["n"])]))
        #expect(throws: SluiceError.self) { try list.sift(SieveTests.job("[1]")) }
    }

    /// Numbers beyond 64 bits and beyond a float, escapes and spaces: what passes is what came, byte for byte, and so is what is kept of it.
    @Test func whatPassesIsTheSameBytes() throws {
        let record =
            #"{ "big" : 18446744073709551615,"id":9223372036854775807, "low":-9223372036854775808,"huge":1e400,"tiny": -1E-400,"#
            + #""exact":0.10,"#
            + #""text":"\u0041\/\ud83d\ude00","deep":{"a":{"b":[1e400,{"c":18446744073709551616}]}} }"#
        let filter = """
            local big, low, deep = record.big, record.low, record.deep.a.b
            return record.id == 9223372036854775807 and tostring(big) == "18446744073709551615" and low == math.mininteger
              and tostring(record.huge) == "1e400" and tostring(deep[2].c) == "18446744073709551616" and record.exact < 1
              and record.text:sub(1, 2) == "A/"
            """
        let whole = try SieveTests.sieve(AttachmentSettings(filter: filter))
        #expect(try whole.sift(SieveTests.job(record)) == .pass(record: Array(record.utf8), isProjected: false))
        let fields = ["huge", "deep.a", "big", "text", "deep.a.b.c", "missing.x"].compactMap { JSONPath(text: $0) }
        let part = try SieveTests.sieve(AttachmentSettings(filter: filter, fields: fields))
        let kept =
            #"{"big":18446744073709551615,"huge":1e400,"text":"\u0041\/\ud83d\ude00","#
            + #""deep":{"a":{"b":[1e400,{"c":18446744073709551616}]}}}"#
        #expect(try part.sift(SieveTests.job(record)) == .pass(record: Array(kept.utf8), isProjected: true))
    }

    /// What a filter does to itself stays with the job: a dead letter that names its line, and the next job is asked.
    @Test(arguments: [
        ("while true do end", "filter:2: stopped"), ("local s = 'x' while true do s = s .. s end", "filter:2"), ("error({})", "filter:2"),
        ("return 1", "returned a number"), ("return 'false'", "returned a string"), ("return {}", "returned a table"),
        ("return coroutine", "`coroutine`"), ("string.rep('x', 1 << 30) return true", "filter:2"),
    ])
    func aFilterThatFailsIsTheJobsOwn(_ code: String, _ part: String) throws {
        let text =
            "if record.n == 1 then\n\(code.hasSuffix("true") || code.hasPrefix("return") ? "do \(code) end" : code)\nend\nreturn true"
        guard !code.contains("coroutine") else {
            let refused = try #require(throws: SluiceError.self) { try SieveTests.sieve(AttachmentSettings(filter: text)) }
            return #expect(refused.message.contains(part), "\(refused.message)")
        }
        let sieve = try SieveTests.sieve(AttachmentSettings(filter: text, fields: [JSONPath(["n"])]))
        for _ in 0..<2 {
            let failure = try #require(throws: SluiceError.self) { try sieve.sift(SieveTests.job(#"{"n":1}"#)) }
            #expect(failure.code == .filter && failure.message.contains(part), "\(failure.message)")
            #expect(try sieve.sift(SieveTests.job(#"{"n":2}"#)) == .pass(record: Array(#"{"n":2}"#.utf8), isProjected: true))
        }
    }

    @Test func theShelfKeepsWhatStaysTheSame() throws {
        let shelf = SieveShelf()
        let names: [TriggerID: JobJSON.TriggerNames] = [TriggerID(1): (name: "orders", uid: "u")]
        func attachment(_ destination: Int64, _ settings: AttachmentSettings) -> StoredAttachment {
            StoredAttachment(trigger: TriggerID(1), destination: DestinationID(destination), fromPosition: .zero, settings: settings.json)
        }
        let odd = AttachmentSettings(filter: "record.n % 2 == 1")
        #expect(shelf.update([attachment(1, odd), attachment(2, AttachmentSettings())], names: names).isEmpty)
        let first = try #require(shelf.sieve(TriggerID(1), DestinationID(1)) as? AttachmentSieve)
        #expect(shelf.sieve(TriggerID(1), DestinationID(2)) == nil && shelf.sieve(TriggerID(2), DestinationID(1)) == nil)
        shelf.update([attachment(1, odd)], names: names)
        let same = try #require(shelf.sieve(TriggerID(1), DestinationID(1)) as? AttachmentSieve)
        #expect(same.filter === first.filter, "the compiled filter is kept")
        shelf.update([attachment(1, AttachmentSettings(filter: "true"))], names: names)
        #expect(try shelf.sieve(TriggerID(1), DestinationID(1))?.sift(SieveTests.job(#"{"n":2}"#)) != .skip)
        // What cannot be used keeps jobs from a destination that they were not meant for.
        var broken = attachment(1, odd)
        broken.settings = Array(#"{"filter":"record.n %"}"#.utf8)
        let problems = shelf.update([broken], names: names)
        #expect(problems.map(\.trigger) == [TriggerID(1)])
        #expect(throws: SluiceError.self) { try shelf.sieve(TriggerID(1), DestinationID(1))?.sift(SieveTests.job("{}")) }
        shelf.update([], names: names)
        #expect(shelf.sieve(TriggerID(1), DestinationID(1)) == nil)
        // What was read with a claim counts, known already or not.
        #expect(shelf.sieve(TriggerID(1), DestinationID(1), settings: []) == nil)
        let early = try #require(shelf.sieve(TriggerID(1), DestinationID(1), settings: odd.json) as? AttachmentSieve)
        #expect(try early.sift(SieveTests.job(#"{"n":2}"#)) == .skip)
        let again = try #require(shelf.sieve(TriggerID(1), DestinationID(1), settings: odd.json) as? AttachmentSieve)
        #expect(again.filter === early.filter)
        let later = AttachmentSettings(filter: "true").json
        #expect(try shelf.sieve(TriggerID(1), DestinationID(1), settings: later)?.sift(SieveTests.job(#"{"n":2}"#)) != .skip)
    }

    /// What `"projected":true` marks, and the bytes beside it.
    @Test func aProjectedJobSaysSo() {
        let job = SieveTests.job(#"{"n":1.50}"#)
        let body = String(decoding: JobJSON.pushBody(job, triggerName: "orders", uid: "u", isProjected: true), as: UTF8.self)
        #expect(body.contains(#""projected":true,"derived":false"#) && body.contains(#""record":{"n":1.50}"#))
        #expect(!String(decoding: JobJSON.pushBody(job, triggerName: "orders", uid: "u"), as: UTF8.self).contains("projected"))
    }
}
