import SluiceCore
import SluiceStore
import Testing

@testable import SluiceDelivery

@Suite struct JobJSONTests {
    private func job(key: [UInt8], record: String) -> StoredJob {
        StoredJob(
            trigger: TriggerID(1), position: JobPosition(1), token: "t\"1", dedupKey: key, record: Array(record.utf8), isDerived: false,
            cause: .catchUp, createdAt: Timestamp(milliseconds: 1_767_225_600_000))
    }

    @Test func idsAreFixed() throws {
        // Computed with Python: base64.b32encode(hashlib.sha256(uid + b"\0" + key).digest()).lower()[:20]
        let id = JobIdentity.id(uid: "7Qx2_a", dedupKey: Array("evt_1@1700000000".utf8))
        #expect(id == "job_7Qx2_a_so3skwyktwmcyosm3yb7")
        #expect(JobIdentity.id(uid: "u", dedupKey: []) == "job_u_agmxa7w3n2m6hwdu74ts")
        let parts = try #require(JobIdentity.parse(id))
        #expect(parts.uid == "7Qx2_a")
        #expect(parts.hash == "so3skwyktwmcyosm3yb7")
        #expect(JobIdentity.id(uid: "a", dedupKey: [0, 98]) != JobIdentity.id(uid: "a\0", dedupKey: [98, 0]))
    }

    @Test(arguments: [
        "", "job_", "job__so3skwyktwmcyosm3yb7", "job_u", "job_u_short", "job_u_so3skwyktwmcyosm3yb7x", "evt_u_so3skwyktwmcyosm3yb7",
        "job_u_0000000000000000000A",
    ])
    func refusesOtherIDs(_ id: String) { #expect(JobIdentity.parse(id) == nil) }

    @Test func keepsTheRecordsBytes() throws {
        let record = "{ \"n\" : 1.0e+2,\n\t\"x\":\"\\u00e9é\" , \"big\":123456789012345678901234567890}"
        var bytes: [UInt8] = []
        JobJSON.write(job(key: Array("k\"1@2".utf8), record: record), triggerName: "or\"ders", uid: "u", into: &bytes)
        let id = JobIdentity.id(uid: "u", dedupKey: Array("k\"1@2".utf8))
        #expect(
            String(decoding: bytes, as: UTF8.self)
                == "{\"id\":\"\(id)\",\"trigger\":\"or\\\"ders\",\"position\":1,\"seq_token\":\"t\\\"1\","
                + "\"created_at\":\"2026-01-01T00:00:00.000Z\",\"created_at_ms\":1767225600000,\"dedup_key\":\"k\\\"1@2\",\"derived\":false,"
                + "\"cause\":\"catch_up\",\"record\":\(record)}")
        let push = JobJSON.pushBody(job(key: [0x61], record: record), triggerName: "o", uid: "u")
        #expect(
            String(decoding: push, as: UTF8.self)
                == "{\"type\":\"job\",\"timestamp\":\"2026-01-01T00:00:00.000Z\",\"data\":{\"id\":\"\(JobIdentity.id(uid: "u", dedupKey: [0x61]))\","
                + "\"trigger\":\"o\",\"position\":1,\"created_at\":\"2026-01-01T00:00:00.000Z\",\"dedup_key\":\"a\",\"derived\":false,"
                + "\"cause\":\"catch_up\",\"record\":\(record)}}")
    }

    @Test func repairsKeysThatAreNotText() throws {
        var bytes: [UInt8] = []
        JobJSON.write(job(key: [0x61, 0xFF, 0x0A, 0x00], record: ""), triggerName: "o", uid: "u", into: &bytes)
        let document = try JSONDocument(bytes)
        #expect(document.root["dedup_key"]?.string == "a\u{FFFD}\n\u{0}")
        #expect(document.root["record"] == nil)
    }

    @Test func writesPages() throws {
        var bytes: [UInt8] = []
        let page = JobPage(jobs: [job(key: [0x61], record: "1"), job(key: [0x62], record: "[2]")], next: "n", more: true)
        try JobJSON.write(page, names: { _ in (name: "o", uid: "u") }, into: &bytes)
        let root = try JSONDocument(bytes).root
        #expect(root["more"]?.bool == true)
        #expect(root["next"]?.string == "n")
        #expect(bytes.starts(with: Array("{\"jobs\":[{\"id\":\"job_u_".utf8)))
        #expect(String(decoding: bytes, as: UTF8.self).hasSuffix("\"record\":[2]}],\"next\":\"n\",\"more\":true}"))
        #expect(throws: SluiceError.self) { try JobJSON.write(page, names: { _ in nil }, into: &bytes) }
        var empty: [UInt8] = []
        try JobJSON.write(JobPage(jobs: [], next: "5", more: false), names: { _ in nil }, into: &empty)
        #expect(String(decoding: empty, as: UTF8.self) == "{\"jobs\":[],\"next\":\"5\",\"more\":false}")
    }

    @Test func readsParameters() throws {
        #expect(try JobFeedRequest.parse { _ in nil } == JobFeedRequest())
        let given = ["after": "x", "limit": "1000", "wait": "60", "trigger": "orders"]
        #expect(try JobFeedRequest.parse { given[$0] } == JobFeedRequest(after: "x", limit: 1000, waitSeconds: 60, triggerName: "orders"))
        #expect(try JobFeedRequest.parse { $0 == "after" ? "" : nil }.after == nil)
    }

    @Test(arguments: [
        ("limit", "0"), ("limit", "1001"), ("limit", ""), ("limit", "+5"), ("limit", "5x"), ("limit", "99999999999999999999"),
        ("wait", "61"),
        ("wait", "-1"), ("wait", "1.5"), ("trigger", ""), ("after", String(repeating: "x", count: 513)),
    ]) func refusesParameters(_ name: String, _ value: String) throws {
        let error = #expect(throws: SluiceError.self) { try JobFeedRequest.parse { $0 == name ? value : nil } }
        #expect(error?.code == .invalid)
        #expect(error?.message.hasPrefix(name) == true)
    }
}
