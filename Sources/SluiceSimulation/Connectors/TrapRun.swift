import SluiceConnectors
import SluiceCore

/// One connector against one stand-in, by the server's rules: pages are committed with their dedup keys and the cursor, an
/// open cycle goes on from its last page, keys are forgotten as `DedupRetention` says, failures are tried again.
struct TrapRun {
    /// Where the process dies.
    struct Crash: Equatable {
        var page: Int
        var isAfterCommit: Bool
    }

    enum End: Equatable {
        case done
        case crashed
        /// The poll failed for good, or five times in a row.
        case failed(String)
        case endless
        /// It asks for the same page again, in these words.
        case repeats(String)
    }

    private struct Key {
        var mark: Int64?
        var lastCycle: Int64
    }

    private static let pagesMaxLeast = 80
    static let triesMax = 5

    let connector: any Connector
    let type: TriggerTypeDefinition
    let standIn: StandIn
    let connection: JSONDocument
    let input: JSONDocument
    let recordsMax: Int
    /// Whether requests are held after the poll that connects, until one brings nothing.
    let holds: Bool
    /// How far this machine's clock is ahead of the provider's, in milliseconds.
    var skew: Int64 = 0

    // What is durable.
    private(set) var cursor: [UInt8]?
    private var cursorMark: Int64?
    private(set) var pageState: [UInt8]?
    private var isOpen = false
    private var keys: [[UInt8]: Key] = [:]
    private var cyclesCompleted: Int64 = 0
    private var floor: Int64?

    /// How many jobs each version of a record became.
    private(set) var jobs: [Int: Int] = [:]
    private(set) var unrecognised = 0
    /// Records that `dedup` gave a key, and those that it gave none.
    private(set) var keyed = 0
    private(set) var quarantined = 0
    /// Why the first of these was set aside.
    private(set) var setAsideReason: String?
    /// Records that `version_seconds` is about, and those of them that `record_time` gave a time.
    private(set) var toBeDated = 0
    private(set) var dated = 0
    private(set) var warnings: [String] = []
    private(set) var cycles = 0
    /// Pages of the cycle so far, over crashes.
    private(set) var pagesRead = 0
    /// How many pages a cycle may have that comes to an end: by what is listed when it begins, and by how little a page shows.
    private(set) var pagesMax = TrapRun.pagesMaxLeast
    /// What is asked for next is to be held.
    private var isHolding = false
    private var broughtNothing = false
    /// Cycles that ended while the list had more.
    private(set) var endedEarly = 0

    init(
        _ connector: any Connector, _ type: TriggerTypeDefinition, _ standIn: StandIn, connection: JSONDocument, input: JSONDocument,
        recordsMax: Int, holds: Bool = false
    ) {
        self.holds = holds
        (self.connector, self.type, self.standIn) = (connector, type, standIn)
        (self.connection, self.input, self.recordsMax) = (connection, input, recordsMax)
    }

    /// Reads pages until there are no more, or the process dies.
    mutating func cycle(dying crash: Crash? = nil) async -> End {
        cycles += 1
        let number = cycles
        let listed = await standIn.change { feed in
            feed.begin(cycle: number)
            return feed.items.count
        }
        pagesRead = 0
        isHolding = false
        var tries = 0
        var page = 0
        while true {
            do {
                let more = try await step(page: page, crash)
                tries = 0
                guard let more else { return .crashed }
                page += 1
                if !more {
                    if !holds || isHolding && broughtNothing { break }
                    isHolding = true
                }
                let size = await standIn.change { $0.smallestPage }
                // What moves while it is read comes once more, and so does all of it where the reader begins again.
                pagesMax = max(TrapRun.pagesMaxLeast, 4 * (listed + StandInFeed.shiftsPerCycleMax) / max(1, size))
                if page >= pagesMax { return .endless }
            } catch let failure as PollFailure where failure.kind == .badCursor {
                return .failed(failure.error.message)
            } catch {
                tries += 1
                if let failure = error as? PollFailure, failure.kind == .pageStateExpired {
                    pageState = nil
                    isOpen = false
                }
                isHolding = false
                guard tries >= TrapRun.triesMax else { continue }
                let message = TrapRun.message(error)
                return TrapRun.code(error) == .pagingNeverEnds ? .repeats(message) : .failed(message)
            }
        }
        let current = cycles
        let exchanges = await standIn.change { feed in feed.exchanges.filter { $0.cycle == current } }
        if exchanges.last?.hasMore == true { endedEarly += 1 }
        return .done
    }

    /// One page: fetched, keyed, committed. Nil: the process died; otherwise whether there is more.
    private mutating func step(page number: Int, _ crash: Crash?) async throws -> Bool? {
        let now = await standIn.change { $0.now }
        let request = PollRequest(
            triggerType: type.name, connection: connection, input: input, cursor: cursor, pageState: isOpen ? pageState : nil,
            readBound: Timestamp(milliseconds: now + skew), recordsMax: recordsMax)
        let page =
            isHolding ? try await connector.longPoll(request, http: standIn) : try await connector.poll(request, http: standIn)
        broughtNothing = page.records.isEmpty
        if page.records.count > recordsMax { throw SluiceError(.connector, "the poll returned more records than a page may have") }
        for state in [page.cursor, page.pageState].compactMap(\.self) where state.count > PollLimits.cursorBytesMax {
            throw SluiceError(.connector, "the poll returned a cursor of \(state.count) bytes")
        }
        let results = try page.keys ?? connector.dedupKeys(triggerType: type.name, records: page.records)
        if crash == Crash(page: number, isAfterCommit: false) { return nil }
        commit(page, results, versions: await versions(page, results))
        pagesRead += 1
        if crash == Crash(page: number, isAfterCommit: true) { return nil }
        return page.more
    }

    /// Which version each record is, where that can be told.
    private func versions(_ page: PollPage, _ results: [Result<[UInt8], SluiceError>]) async -> [Int?] {
        let versions = page.records.map(TrapRun.version)
        guard versions.contains(nil) else { return versions }
        let keys = Set(results.compactMap { try? $0.get() })
        let found = await standIn.change { $0.versions(ofKeys: keys) }
        return versions.indices.map { index in versions[index] ?? (try? results[index].get()).flatMap { found[$0] } }
    }

    /// Whether the key is new; one that came again stays for longer.
    private mutating func note(_ key: [UInt8], _ mark: Int64?) -> Bool {
        let known = keys[key]
        let highest = if let before = known?.mark, let mark { max(before, mark) } else { mark ?? known?.mark }
        keys[key] = Key(mark: highest, lastCycle: cyclesCompleted + 1)
        return known == nil
    }

    private mutating func commit(_ page: PollPage, _ results: [Result<[UInt8], SluiceError>], versions: [Int?]) {
        for (index, result) in results.enumerated() {
            guard case .success(let own) = result, !own.isEmpty else {
                quarantined += 1
                if setAsideReason == nil, case .failure(let error) = result { setAsideReason = error.message }
                continue
            }
            keyed += 1
            let key = page.wholeKey(own)
            let mark = index < page.marks.count ? page.marks[index] : nil
            let state = index < page.states.count ? page.states[index] : nil
            let keyed = KeyedRecord(record: page.records[index], dedupKey: key, mark: mark, state: state)
            let isNew = note(key, mark)
            if isNew {
                if state?.isOpen == true { for key in [keyed.openKey] + [keyed.stateKey].compactMap(\.self) { _ = note(key, mark) } }
            } else if let state, let stateKey = keyed.stateKey, keys[keyed.openKey] != nil {
                let isLater = note(stateKey, mark)
                if state.isOpen { _ = note(keyed.openKey, mark) } else { keys[keyed.openKey] = nil }
                if !isLater { continue }
            } else {
                continue
            }
            if let version = versions[index] { jobs[version, default: 0] += 1 } else { unrecognised += 1 }
        }
        if type.versionSpan != nil {
            toBeDated += page.records.count
            dated += page.states.count { $0 != nil }
        }
        if let next = page.cursor { cursor = next }
        if let mark = page.cursorMark { cursorMark = mark }
        pageState = page.more ? page.pageState : nil
        isOpen = page.more
        warnings += page.warnings
        guard !page.more else { return }
        floor = DedupRetention.floor(committedMark: cursorMark, lookback: type.lookback) ?? floor
        cyclesCompleted += 1
        keys = keys.filter { _, key in
            !DedupRetention.forgets(mark: key.mark, lastCycle: key.lastCycle, floor: floor, cyclesCompleted: cyclesCompleted)
        }
    }

    /// The process is gone; what is durable stays. `forgetsPage`: another version of the connector goes on, which begins the
    /// cycle again from the cursor.
    mutating func restart(forgetsPage: Bool) { if forgetsPage { pageState = nil } }

    /// Which version of which record this is: by the mark that the stand-in puts into each.
    private static func version(_ record: Record) -> Int? {
        let needle = Array("\"\(StandInFeed.versionKey)\":".utf8)
        let bytes = record.bytes
        guard bytes.count > needle.count else { return nil }
        for start in bytes.startIndex...(bytes.endIndex - needle.count)
        where bytes[start] == needle[0] && bytes[start...].starts(with: needle) {
            let digits = bytes[(start + needle.count)...].drop { $0 == 0x20 }.prefix { $0 &- 0x30 < 10 }
            return Int(String(decoding: digits, as: UTF8.self))
        }
        return nil
    }

    private static func code(_ error: any Error) -> SluiceError.Code? {
        switch error {
        case let failure as PollFailure: failure.error.code
        case let error as SluiceError: error.code
        default: nil
        }
    }

    static func message(_ error: any Error) -> String {
        switch error {
        case let failure as PollFailure: failure.error.message
        case let error as SluiceError: error.message
        default: "\(error)"
        }
    }
}
