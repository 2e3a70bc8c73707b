import SluiceCore
import Synchronization

@testable import SluiceConnectors

/// Answers requests as a test says, and remembers them.
final class Replies: HTTPSending {
    private let answer: @Sendable (HTTPRequestPlan, Int) throws -> HTTPReply
    private let state = Mutex<[HTTPRequestPlan]>([])

    /// `answer` is given the request and its number from 1.
    init(_ answer: @escaping @Sendable (HTTPRequestPlan, Int) throws -> HTTPReply) { self.answer = answer }

    var requests: [HTTPRequestPlan] { state.withLock { $0 } }

    func send(_ request: HTTPRequestPlan) async throws -> HTTPReply {
        let number = state.withLock { requests in
            requests.append(request)
            return requests.count
        }
        return try answer(request, number)
    }

    static let now: Int64 = 1_700_000_000

    static func ok(_ body: String, _ headers: [String: String] = [:], status: Int = 200, at seconds: Int64 = now) -> HTTPReply {
        HTTPReply(
            status: status, headers: [FakeProvider.date(seconds)] + headers.map { HTTPField($0.key, $0.value) }, body: Array(body.utf8))
    }
}

/// Polls with a description, as the polling service does, and keeps what became of the records.
struct Reader {
    var rules: Incremental
    var http: any HTTPSending
    var connection = #"{"key":"k1","secret":"s3cret"}"#
    var input = "{}"
    var nowSeconds = Replies.now
    var cursor: [UInt8]?
    var pageState: [UInt8]?
    var forgottenBelow: Int64?
    var dedupFloor: Int64?
    private(set) var jobs: [(key: String, record: Record)] = []
    private(set) var quarantined: [(reason: String, bytes: String)] = []
    private(set) var warnings: [String] = []
    private(set) var pages = 0

    init(_ json: String, _ http: any HTTPSending) throws {
        rules = try Incremental(json: JSONDocument(Array(json.utf8), depthMax: 80))
        self.http = http
    }

    var keys: [String] { jobs.map(\.key) }
    var records: [String] { jobs.map { String(decoding: $0.record.bytes, as: UTF8.self) } }
    var mark: Int64? { cursor.flatMap { try? JSONDocument($0).root["mark"]?.int64 } }
    var cursorText: String { cursor.map { String(decoding: $0, as: UTF8.self) } ?? "" }

    func request() throws -> PollRequest {
        var request = PollRequest(
            triggerType: "t", connection: try JSONDocument(Array(connection.utf8)), input: try JSONDocument(Array(input.utf8)),
            cursor: cursor, pageState: pageState, readBound: Timestamp(seconds: nowSeconds))
        (request.forgottenBelow, request.dedupFloor) = (forgottenBelow, dedupFloor)
        return request
    }

    /// As the store does with keys below its floor.
    mutating func forgetKeys(_ condition: (String) -> Bool) { jobs.removeAll { condition($0.key) } }

    mutating func cycle(pagesMax: Int = 50) async throws {
        for _ in 0..<pagesMax {
            let page = try await rules.run(try request(), http: http)
            pages += 1
            for (index, key) in (page.keys ?? rules.dedupKeys(records: page.records)).enumerated() {
                switch key {
                case .success(let bytes):
                    let text = String(decoding: bytes, as: UTF8.self)
                    if !jobs.contains(where: { $0.key == text }) { jobs.append((text, page.records[index])) }
                case .failure(let error):
                    quarantined.append((error.message, String(decoding: page.records[index].bytes, as: UTF8.self)))
                }
            }
            warnings += page.warnings
            cursor = page.cursor ?? cursor
            pageState = page.pageState
            if !page.more { return }
        }
    }
}

/// The message with which a description is refused.
func refusal(_ json: String) -> String? {
    do {
        _ = try Incremental(json: JSONDocument(Array(json.utf8), depthMax: 80))
        return nil
    } catch {
        return (error as? SluiceError)?.message ?? "\(error)"
    }
}

/// A description of `GET https://api.test/items` with what a test adds.
func items(_ extra: String = "", cursor: String? = nil, dedup: String = #"{"id":"id","version":"at"}"#) -> String {
    let rule = cursor ?? #"{"field":"at","parameter":"since","type":"unix_seconds","order":"none"}"#
    return
        #"{"base_url":"https://api.test","path":"/items","records":"items","dedup":\#(dedup),"cursor":\#(rule)\#(extra.isEmpty ? "" : ",")\#(extra)}"#
}
