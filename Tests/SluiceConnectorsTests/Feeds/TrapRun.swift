import SluiceCore

@testable import SluiceConnectors

/// Follows a `TrapFeed` as the polling service would: keys, jobs and cursor in one commit, keys forgotten by the service's
/// rules, crashes before and after commits.
struct TrapRun {
    let rules: Incremental
    let feed: TrapFeed
    var random: TrapRandom
    var cursor: [UInt8]?
    var pageState: [UInt8]?
    /// How often each record's version became a job.
    private(set) var jobs: [String: Int] = [:]
    private(set) var quarantined = 0
    private(set) var warnings: [String] = []
    private var keys: [String: (mark: Int64?, cycle: Int64)] = [:]
    private var cursorMark: Int64?
    private var cycles: Int64 = 0
    var crashes = true

    init(_ rules: Incremental, _ feed: TrapFeed, seed: UInt64) {
        (self.rules, self.feed) = (rules, feed)
        random = TrapRandom(seed &+ 7)
    }

    var doubled: [String] { jobs.filter { $0.value > 1 }.keys.sorted() }
    func lost(_ expected: Set<String>) -> [String] { expected.filter { jobs[$0] == nil }.sorted() }

    private func request() throws -> PollRequest {
        // This machine's clock is off.
        PollRequest(
            triggerType: "x", connection: try JSONDocument(Array("{}".utf8)), input: try JSONDocument(Array("{}".utf8)), cursor: cursor,
            pageState: pageState, readBound: Timestamp(milliseconds: feed.change { $0.now } + 5000))
    }

    /// Reads until the cycle ends, through crashes and expired tokens.
    mutating func cycle(pagesMax: Int = 2000) async throws {
        for _ in 0..<pagesMax {
            if crashes, random.chance(0.005) { pageState = nil }
            let page: PollPage
            do {
                page = try await rules.run(try request(), http: feed)
            } catch let failure as PollFailure where failure.kind == .pageStateExpired {
                pageState = nil
                continue
            }
            // It died between the answer and the commit.
            if crashes, random.chance(0.05) { continue }
            commit(page)
            if !page.more { return }
        }
        throw PollFailure(.permanent, SluiceError(.connector, "the cycle does not end"))
    }

    private mutating func commit(_ page: PollPage) {
        for (index, key) in (page.keys ?? rules.dedupKeys(records: page.records)).enumerated() {
            guard case .success(let bytes) = key else {
                quarantined += 1
                continue
            }
            let text = String(decoding: bytes, as: UTF8.self)
            let mark = index < page.marks.count ? page.marks[index] : nil
            if keys.updateValue((mark, cycles), forKey: text) == nil { jobs[text, default: 0] += 1 }
        }
        warnings += page.warnings
        if let cursor = page.cursor { self.cursor = cursor }
        if let mark = page.cursorMark { cursorMark = mark }
        pageState = page.pageState
        guard !page.more else { return }
        cycles += 1
        let floor = DedupRetention.floor(committedMark: cursorMark, lookback: rules.lookback)
        keys = keys.filter {
            !DedupRetention.forgets(mark: $0.value.mark, lastCycle: $0.value.cycle, floor: floor, cyclesCompleted: cycles)
        }
    }
}

extension TrapFeed.Style {
    /// A keyset by id is refused where the list's order changes with its records.
    var timeField: String { paging == .keyset ? "created_at" : "updated_at" }

    /// The description of this list, as a connector's file would hold it.
    func rules() throws -> Incremental {
        let cursor: String = {
            var members = [#""field":"\#(timeField)""#, #""type":"\#(form.rawValue)""#, #""order":"\#(order.rawValue)""#]
            if isBounded { members.append(#""parameter":"since""#) }
            if isBounded, isStrict { members.append(#""exclusive":true"#) }
            if form == .date || form == .strftime { members.append(#""zone":"utc""#) }
            if form == .strftime { members.append(#""pattern":"%d/%m/%Y %Hh%M""#) }
            if traps.contains(.late) { members.append(#""lookback_seconds":\#(Self.lateMillisecondsMax / 1000)"#) }
            return "{" + members.joined(separator: ",") + "}"
        }()
        let pages =
            switch paging {
            case .offset: #"{"offset":{"parameter":"offset"}}"#
            case .page:
                order == .ascending
                    ? #"{"page":{"parameter":"page","total":"total"}}"# : #"{"page":{"parameter":"page","total":"total","stable":true}}"#
            case .token: #"{"token":{"from":"next","parameter":"token","has_more":"has_more"}}"#
            case .bodyToken: #"{"token":{"from":"next","parameter":"paging.after","in":"body","has_more":"has_more"}}"#
            case .keyset: #"{"keyset":{"from":"id","parameter":"after_id","has_more":"has_more"}}"#
            case .nextURL, .relativeURL: #"{"next_url":{"from":"next"}}"#
            case .nextPageHeader: #"{"next_url":{"header":"Next-Page"}}"#
            case .link: #"{"link":true}"#
            }
        let method = paging == .bodyToken ? "POST" : "GET"
        return try Incremental(
            json: JSONDocument(
                Array(
                    """
                    {"base_url":"https://api.test","path":"/list","method":"\(method)","records":"list","cursor":\(cursor),
                     "pagination":\(pages),"page_size":{"parameter":"limit","value":\(pageSize)},"dedup":{"id":"id","version":"v"}}
                    """.utf8)))
    }
}

/// What is often written by hand: the newest time seen, asked for strictly, saved with every page; a short page is the last.
struct NaiveRun {
    let feed: TrapFeed
    private var since: String?
    private(set) var jobs: Set<String> = []

    init(_ feed: TrapFeed) { self.feed = feed }

    mutating func cycle() async throws {
        var position: String?
        for _ in 0..<100 {
            var query = ["limit=\(feed.style.pageSize)"] + (since.map { ["since=\(HTTPRequestPlan.percentEncoded($0))"] } ?? [])
            var body = ""
            if let position {
                switch feed.style.paging {
                case .offset: query.append("offset=\(position)")
                case .page: query.append("page=\(position)")
                case .keyset: query.append("after_id=\(position)")
                case .bodyToken: body = #"{"paging":{"after":"\#(position)"}}"#
                default: query.append("token=\(position)")
                }
            }
            let reply = try await feed.send(
                HTTPRequestPlan(url: "https://api.test/list?" + query.joined(separator: "&"), body: Array(body.utf8)))
            guard reply.status == 200, let root = try? reply.json().root, let records = root["list"]?.elements else { return }
            for record in records { jobs.insert("\(record["id"]?.text ?? "")@\(record["v"]?.text ?? "")") }
            if let last = records.last?[feed.style.timeField]?.text { since = last }
            guard records.count == feed.style.pageSize else { return }
            switch feed.style.paging {
            case .offset: position = String((Int(position ?? "0") ?? 0) + records.count)
            case .page: position = String((Int(position ?? "1") ?? 1) + 1)
            case .keyset: position = records.last?["id"]?.text
            default: position = root["next"]?.text.map { String($0.split(separator: "=").last ?? "") }
            }
            if position == nil { return }
        }
    }
}
