import SluiceCore
import Testing

@testable import SluiceTesting

struct DeliveryObserverTests {
    static let job = """
        {"id":"job_a","trigger":"t","position":1,"seq_token":"x","created_at":"2026-01-01T00:00:00.000Z","created_at_ms":1767225600000,\
        "dedup_key":"r1@5","derived":false,"cause":"webhook","record":{ "amount":9007199254740993, "x":[1.10]}}
        """

    @Test func readsAPageAndKeepsTheRecordsBytes() throws {
        let page = try JobsPage(Array("{\"jobs\":[\(DeliveryObserverTests.job)],\"next\":\"t1\",\"more\":true}".utf8))
        #expect(page.next == "t1" && page.hasMore)
        let job = try #require(page.jobs.first)
        #expect(String(decoding: job.record, as: UTF8.self) == #"{ "amount":9007199254740993, "x":[1.10]}"#)
        #expect(job.id == "job_a" && job.trigger == "t" && job.position == 1 && job.dedupKey == "r1@5")
        #expect(job.createdAt == Timestamp(milliseconds: 1_767_225_600_000))
        let empty = try JobsPage(Array(#"{"jobs":[],"next":null,"more":false}"#.utf8))
        #expect(empty.jobs.isEmpty && empty.next == nil && !empty.hasMore)
    }

    @Test(arguments: [
        "{}", #"{"jobs":[],"next":"x"}"#, #"{"jobs":[],"more":true}"#, #"{"jobs":[{"id":"job_a"}],"next":"x","more":false}"#, "<html>",
    ])
    func refusesWhatIsNotAPage(body: String) {
        #expect(throws: (any Error).self) { try JobsPage(Array(body.utf8)) }
    }

    @Test func pollsAreSummedOverTriggers() {
        let body = #"{"triggers":[{"polls_by_cause":{"webhook":3,"safety":1}},{"name":"b"},{"polls_by_cause":{"webhook":2}}]}"#
        #expect(DeliveryObserver.pollsByCause(Array(body.utf8)) == ["webhook": 5, "safety": 1])
        #expect(DeliveryObserver.pollsByCause(Array("no".utf8)).isEmpty)
    }

    @Test func oneAcceptedForgeryIsEnoughToFail() throws {
        var verdict = DeliveryChecker.Verdict()
        verdict.changes = 1
        verdict.jobs = 1
        var counts = ProviderCounts()
        counts.planned.forged = 12
        #expect(!DeliveryObserver.Report(verdict: verdict, counts: counts, pollsByCause: [:]).isGood, "none was refused")
        counts.statuses[.forged] = ["401": 9, "503": 1, "failed": 2]
        #expect(DeliveryObserver.Report(verdict: verdict, counts: counts, pollsByCause: [:]).isGood)
        counts.statuses[.forged]?["200"] = 1
        #expect(!DeliveryObserver.Report(verdict: verdict, counts: counts, pollsByCause: [:]).isGood)
        counts.statuses[.forged]?["200"] = nil
        verdict.changes = 0
        #expect(!DeliveryObserver.Report(verdict: verdict, counts: counts, pollsByCause: [:]).isGood, "nothing to judge is no success")
    }

    @Test func targetIsReadFromItsFile() {
        #expect(StandInProvider.WebhookTarget(file: "") == nil)
        #expect(StandInProvider.WebhookTarget(file: "http://h/p\n") == .init(url: "http://h/p"))
        #expect(StandInProvider.WebhookTarget(file: "http://h/p\r\nme:a:b\n") == .init(url: "http://h/p", user: "me", password: "a:b"))
    }
}
