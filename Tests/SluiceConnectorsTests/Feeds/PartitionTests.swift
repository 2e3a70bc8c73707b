import SluiceCore
import Synchronization
import Testing

@testable import SluiceConnectors

/// One trigger over many lists, each with a cursor of its own.
@Suite struct PartitionTests {
    /// Repositories with issues, as GitHub has them.
    final class Forge: HTTPSending {
        struct State: Sendable {
            var issues: [String: [(id: Int, at: Int64)]] = [:]
            /// What a repository's list answers instead.
            var status: [String: Int] = [:]
            var listStatus = 200
            var now = Replies.now
            /// Repositories list their issues the other way round, and all of them.
            var isNewestFirst = false
            var requests: [String] = []
        }
        private let state = Mutex(State())
        func change<Result: Sendable>(_ body: (inout sending State) -> sending Result) -> Result { state.withLock { body(&$0) } }
        var requests: [String] { state.withLock { $0.requests } }
        func add(_ repository: String, _ id: Int, _ at: Int64) { change { $0.issues[repository, default: []].append((id, at)) } }

        func send(_ request: HTTPRequestPlan) async throws -> HTTPReply {
            try state.withLock { state in
                let path = String(request.url.dropFirst("https://api.test".count))
                state.requests.append(path)
                let query = FakeProvider.query(request.url)
                if path.hasPrefix("/repos?") {
                    if state.listStatus != 200 { throw PollFailure(.transient, SluiceError(.providerStatus, "down")) }
                    let names = state.issues.keys.sorted()
                    let skip = Int(query["skip"] ?? "0") ?? 0
                    let page = names.dropFirst(skip).prefix(2).map { #"{"full_name":"acme/\#($0)","key":{"short":"\#($0)"},"size":17}"# }
                    return Replies.ok(
                        #"{"repos":[\#(page.joined(separator: ","))],"next":\#(skip + 2 < names.count ? "\"\(skip + 2)\"" : "null")}"#,
                        at: state.now)
                }
                let name = String(path.dropFirst("/repos/".count).prefix { $0 != "/" })
                switch state.status[name] ?? 200 {
                case 200: break
                case 403: throw PollFailure(.unauthorized, SluiceError(.providerAuth, "no").with("status", "403"))
                case 401: throw PollFailure(.unauthorized, SluiceError(.providerAuth, "no").with("status", "401"))
                case 429: throw PollFailure(.rateLimited, SluiceError(.rateLimited, "slow"))
                case 500: throw PollFailure(.transient, SluiceError(.providerStatus, "down"))
                case let status: return Replies.ok("{}", status: status, at: state.now)
                }
                let since = Int64(query["since"] ?? "0") ?? 0
                var listed = (state.issues[name] ?? []).filter { $0.at >= since }.sorted { ($0.at, $0.id) < ($1.at, $1.id) }
                if state.isNewestFirst { listed.reverse() }
                let skip = Int(query["o"] ?? "0") ?? 0
                let page = listed.dropFirst(skip).prefix(2).map { #"{"id":\#($0.id),"at":\#($0.at)}"# }
                let next = skip + 2 < listed.count ? "\"\(skip + 2)\"" : "null"
                return Replies.ok(#"{"items":[\#(page.joined(separator: ","))],"next":\#(next)}"#, at: state.now)
            }
        }
    }

    private let t0 = Replies.now

    private func json(_ extra: String = "", partitions: String? = nil) -> String {
        let list =
            #"{"list":{"path":"/repos","query":{"n":"2"},"records":"repos","pagination":{"token":{"from":"next","parameter":"skip"}}},"id":"full_name"\#(extra)}"#
        return
            #"{"base_url":"https://api.test","path":"/repos/{partition.key.short}/issues","records":"items","dedup":{"id":"id","version":"at"},"#
            + #""cursor":{"field":"at","parameter":"since","type":"unix_seconds","order":"asc"},"default_since_seconds_ago":3600,"#
            + #""pagination":{"token":{"from":"next","parameter":"o"}},"partitions":\#(partitions ?? list)}"#
    }

    private func forge(_ names: String...) -> Forge {
        let forge = Forge()
        for (index, name) in names.enumerated() {
            for number in 0..<3 { forge.add(name, number, t0 - 100 + Int64(index * 10 + number)) }
        }
        return forge
    }

    private func position(_ reader: Reader, _ name: String) throws -> Int64? {
        let cursor = try #require(reader.cursor)
        return try JSONDocument(cursor).root["partitions"]?["acme/\(name)"]?["mark"]?.int64
    }

    @Test func P4_eachPartitionHasACursorOfItsOwn() async throws {
        let forge = forge("a", "b", "c")
        var reader = try Reader(json(), forge)
        try await reader.cycle()
        #expect(reader.keys.count == 9)
        #expect(reader.keys.contains("acme%2Fb/1@\(t0 - 89)"), "the same id in two partitions is two records")
        #expect([try position(reader, "a"), try position(reader, "b"), try position(reader, "c")] == [t0 - 98, t0 - 88, t0 - 78])
        forge.add("b", 9, t0 - 5)
        try await reader.cycle()
        #expect(reader.keys.count == 10)
        #expect(try position(reader, "b") == t0 - 5)
        #expect(try position(reader, "a") == t0 - 98)
        #expect(forge.requests.last { $0.hasPrefix("/repos/c/") }?.contains("since=\(t0 - 78)") == true)
    }

    @Test func P3_aCycleGoesOnWhereItDied() async throws {
        for died in 1...9 {
            let forge = forge("a", "b", "c")
            var reader = try Reader(json(), forge)
            try await reader.cycle(pagesMax: died)
            var second = try Reader(json(), forge)
            (second.cursor, second.pageState) = (reader.cursor, reader.pageState)
            try await second.cycle()
            #expect(Set(reader.keys).union(second.keys).count == 9, "died after page \(died)")
        }
    }

    @Test func P4_aPartitionFoundLaterBeginsWhereTheTriggerBegan() async throws {
        let forge = forge("a")
        var reader = try Reader(json(), forge)
        try await reader.cycle()
        // Hours pass without a poll. A repository was made soon after the trigger began, longer ago than the default start.
        forge.change { $0.now += 20_000 }
        reader.nowSeconds += 20_000
        forge.add("new", 1, t0 + 10)
        forge.add("new", 2, t0 - 3700)
        try await reader.cycle()
        #expect(reader.keys.contains("acme%2Fnew/1@\(t0 + 10)"))
        #expect(!reader.keys.contains { $0.hasPrefix("acme%2Fnew/2") }, "what was there before the trigger is not its business")
    }

    @Test func P4_aRemovedPartitionKeepsItsCursorForAWhile() async throws {
        let forge = forge("a", "b")
        var reader = try Reader(json(#","keep_removed_seconds":600"#), forge)
        try await reader.cycle()
        let issues = forge.change { $0.issues.removeValue(forKey: "b") }
        try await reader.cycle()
        #expect(try position(reader, "b") == t0 - 88)
        #expect(reader.cursorText.contains("removed"))
        forge.change { state in
            state.issues["b"] = issues
            state.now += 500
        }
        try await reader.cycle()
        #expect(!reader.cursorText.contains("removed"))
        #expect(forge.requests.last?.contains("since=\(t0 - 88)") == true)
        forge.change { $0.issues["b"] = nil }
        for _ in 0..<2 {
            try await reader.cycle()
            forge.change { $0.now += 700 }
        }
        try await reader.cycle()
        #expect(try position(reader, "b") == nil)
        #expect(reader.cursorText.hasSuffix(#""resting":{"acme/b":{"mark":\#(t0 - 88),"value":"\#(t0 - 88)"}}}"#))
    }

    /// Gone for longer than its position is kept, and its dedup keys with it: what was read does not come again.
    @Test(arguments: [#""parameter":"since","order":"asc""#, #""parameter":"since","order":"none""#, #""order":"desc""#])
    func P4_aPartitionThatComesBackLateDoublesNothing(_ cursor: String) async throws {
        let forge = forge("a", "b")
        forge.change { $0.isNewestFirst = cursor.contains("desc") }
        let rule = #""cursor":{"field":"at","type":"integer","unique":true,\#(cursor)}"#
        let plain = #""cursor":{"field":"at","parameter":"since","type":"unix_seconds","order":"asc"},"default_since_seconds_ago":3600"#
        var reader = try Reader(json().replacing(plain, with: rule), forge)
        try await reader.cycle()
        #expect(reader.keys.count == 6)
        let issues = try #require(forge.change { $0.issues.removeValue(forKey: "b") })
        for day in 1...9 {
            forge.add("a", 100 + day, t0 + Int64(day) * 86_400 - 50)
            forge.change { $0.now += 86_400 }
            reader.nowSeconds += 86_400
            try await reader.cycle()
        }
        let before = reader.jobs.count
        #expect(before == 15 && reader.cursorText.contains(#""resting":{"acme/b""#))
        // The keys lie below the mark of all that is listed.
        reader.forgetKeys { $0.hasPrefix("acme%2Fb/") }
        forge.change { $0.issues["b"] = issues + [(50, t0 - 60), (51, t0 + 8 * 86_400)] }
        for _ in 0..<2 { try await reader.cycle() }
        let back = reader.keys.filter { $0.hasPrefix("acme%2Fb/") }.sorted()
        #expect(back == ["acme%2Fb/50@\(t0 - 60)", "acme%2Fb/51@\(t0 + 8 * 86_400)"], "what is new, and nothing twice")
        #expect(reader.warnings.contains { $0.contains("acme/b is listed again") })
        #expect(!reader.cursorText.contains("resting") && !reader.cursorText.contains("removed"))
    }

    /// Of a second that was not over when it was read, more may have come since: what was read of it comes again, with a warning.
    @Test func P3_aPartitionThatComesBackIsReadFromItsLastSecond() async throws {
        let forge = forge("a", "b")
        var reader = try Reader(json(#","keep_removed_seconds":0"#), forge)
        try await reader.cycle()
        let issues = try #require(forge.change { $0.issues.removeValue(forKey: "b") })
        for _ in 0..<2 {
            forge.change { $0.now += 10 }
            reader.nowSeconds += 10
            try await reader.cycle()
        }
        reader.forgetKeys { $0.hasPrefix("acme%2Fb/") }
        forge.change { $0.issues["b"] = issues + [(50, t0 - 88)] }
        try await reader.cycle()
        let back = reader.keys.filter { $0.hasPrefix("acme%2Fb/") }.sorted()
        #expect(back == ["acme%2Fb/2@\(t0 - 88)", "acme%2Fb/50@\(t0 - 88)"])
        #expect(reader.warnings.contains { $0.contains("acme/b is listed again") && $0.contains("some of it may come again") })
    }

    /// Where records may show up late, those are looked for rather than passed over.
    @Test func P3_aPartitionThatComesBackIsReadFromItsLookback() async throws {
        let forge = forge("a", "b")
        let late = json(#","keep_removed_seconds":0"#).replacing(#""order":"asc""#, with: #""order":"none","lookback":60"#)
        var reader = try Reader(late, forge)
        try await reader.cycle()
        let issues = try #require(forge.change { $0.issues.removeValue(forKey: "b") })
        for _ in 0..<2 {
            forge.change { $0.now += 10 }
            reader.nowSeconds += 10
            try await reader.cycle()
        }
        forge.change { $0.issues["b"] = issues + [(50, t0 - 100)] }
        try await reader.cycle()
        #expect(reader.keys.contains("acme%2Fb/50@\(t0 - 100)"))
    }

    @Test func P10_partitionsThatRestAreBounded() async throws {
        let forge = forge("a")
        forge.change { state in for index in 0..<250 { state.issues["gone\(1000 + index)"] = [(1, t0 - 5)] } }
        var reader = try Reader(json(#","keep_removed_seconds":0,"max":300"#), forge)
        try await reader.cycle(pagesMax: 1000)
        #expect(reader.keys.count == 253)
        forge.change { state in state.issues = state.issues.filter { $0.key == "a" } }
        for _ in 0..<3 {
            forge.change { $0.now += 10 }
            try await reader.cycle(pagesMax: 1000)
        }
        let resting = try JSONDocument(try #require(reader.cursor)).root["resting"]?.members ?? []
        #expect(resting.count == PartitionCursor.restingMax)
        #expect(reader.warnings.count { $0.contains("is forgotten") } == 50)
        #expect(try JSONDocument(try #require(reader.cursor)).root["removed"]?.members?.count == PartitionCursor.restingMax)
    }

    @Test(arguments: [404, 403, 400]) func P12_aPartitionThatIsRefusedDoesNotBlockTheOthers(_ status: Int) async throws {
        let forge = forge("a", "b", "c")
        forge.change { $0.status["a"] = status }
        var reader = try Reader(json(), forge)
        try await reader.cycle()
        #expect(reader.keys.count == 6)
        #expect(reader.warnings.contains { $0.contains("partition acme/a is left out of this cycle") })
        #expect(forge.requests.count { $0.hasPrefix("/repos/a/") } == 1)
        #expect(reader.warnings.last?.hasPrefix("left out: the provider refuses 1 of 3 partitions") == true)
        #expect(reader.warnings.last?.contains("acme/a") == true)
        forge.change { $0.status = [:] }
        let before = reader.warnings.count
        try await reader.cycle()
        #expect(reader.keys.count == 9)
        #expect(!reader.warnings.dropFirst(before).contains { $0.hasPrefix("left out:") })
    }

    /// One that is gone and one that is down: the trouble of the second passes, and the first is no reason to fail for good.
    @Test func P12_aPartitionThatIsGoneBesideOneThatIsDownFailsNothingForGood() async throws {
        let forge = forge("a", "b")
        forge.change { $0.status = ["a": 404, "b": 503] }
        var reader = try Reader(json(), forge)
        for _ in 0..<6 {
            #expect(await failure { try await reader.cycle() }?.kind == .pageStateExpired)
            reader.pageState = nil
        }
        forge.change { $0.status = ["a": 404] }
        try await reader.cycle()
        #expect(reader.keys.count == 3, "b is read")
        #expect(reader.warnings.last?.hasPrefix("left out:") == true)
    }

    /// What was left out is known at the end of the cycle, whichever process ends it.
    @Test func P12_whatWasLeftOutIsToldAfterACrashToo() async throws {
        let forge = forge("a", "b", "c")
        forge.change { $0.status["a"] = 404 }
        for died in 1...6 {
            var reader = try Reader(json(), forge)
            try await reader.cycle(pagesMax: died)
            var second = try Reader(json(), forge)
            (second.cursor, second.pageState) = (reader.cursor, reader.pageState)
            try await second.cycle()
            #expect(second.warnings.last?.hasPrefix("left out:") == true, "died after page \(died)")
        }
    }

    /// Nothing was refused: what cannot be read would be skipped for ever, and nobody would see it.
    @Test func P2_aPartitionThatCannotBeReadFailsTheCycleAfterTheOthers() async throws {
        let http = Replies { request, _ in
            let time = request.url.contains("repo=a") ? "2026-07-01T10:00:00" : "2026-07-01T10:00:00Z"
            return Replies.ok(#"{"items":[{"id":1,"at":"\#(time)"}]}"#)
        }
        let json = items(
            #""query":{"repo":"{partition}"},"partitions":{"values":["a","b"]}"#,
            cursor: #"{"field":"at","parameter":"since","type":"rfc3339"}"#)
        var reader = try Reader(json, http)
        let failed = await failure { try await reader.cycle() }
        #expect(failed?.kind == .pageStateExpired)
        #expect(failed?.error.message.contains("partition a") == true, "\(failed?.error.message ?? "it succeeded")")
        #expect(reader.keys.count == 1, "b was read")
        // Where none can be read, the fault is said as it is.
        let garbage = Replies { _, _ in Replies.ok(#"{"items":{}}"#) }
        var none = try Reader(json, garbage)
        #expect(await failure { try await none.cycle() }?.kind == .permanent)
    }

    /// An error in an answer that is otherwise well is the provider's no, as a 404 is.
    @Test func P12_anErrorInAnAnswerLeavesThePartitionOut() async throws {
        let http = Replies { request, _ in
            request.url.contains("repo=a") ? Replies.ok(#"{"error":"not_in_channel"}"#) : Replies.ok(#"{"items":[{"id":1,"at":5}]}"#)
        }
        var reader = try Reader(
            items(#""query":{"repo":"{partition}"},"partitions":{"values":["a","b"]},"error":{"path":"error"}"#), http)
        try await reader.cycle()
        #expect(reader.keys == ["b/1@5"])
        #expect(reader.warnings.last?.contains("not_in_channel") == true)
    }

    @Test func aFaultOfAllIsNotOneOfThePartitions() async throws {
        let forge = forge("a", "b")
        forge.change { $0.status = ["a": 404, "b": 404] }
        var reader = try Reader(json(), forge)
        #expect(await failure { try await reader.cycle() }?.kind == .permanent)
        // Mended in between: all are read, the first one too.
        forge.change { $0.status = [:] }
        try await reader.cycle()
        #expect(reader.keys.count == 6)
        for (status, kind) in [(401, PollFailure.Kind.unauthorized), (429, .rateLimited)] {
            forge.change { $0.status = ["a": status] }
            #expect(await failure { try await reader.cycle() }?.kind == kind)
            reader.pageState = nil
        }
    }

    /// A partition that is down must not be taken for read: the cycle fails, after the others were read.
    @Test func P2_aPartitionThatIsDownFailsTheCycleAfterTheOthers() async throws {
        let forge = forge("a", "b", "c")
        forge.change { $0.status["a"] = 500 }
        var reader = try Reader(json(), forge)
        let failed = await failure { try await reader.cycle() }
        #expect(failed?.kind == .pageStateExpired, "the cycle begins anew, so that the others go on being read")
        #expect(failed?.error.message.contains("acme/a") == true)
        #expect(reader.keys.count == 6)
        forge.change { $0.status = [:] }
        reader.pageState = nil
        try await reader.cycle()
        #expect(reader.keys.count == 9)
        // In passing: once more behind the others is enough.
        forge.change { $0.status["b"] = 500 }
        try await reader.cycle(pagesMax: 4)
        forge.change { $0.status = [:] }
        try await reader.cycle()
        #expect(reader.pageState == nil)
    }

    @Test func P10_partitionsAreBounded() async throws {
        let forge = forge("a", "b", "c", "d")
        var reader = try Reader(json(#","max":3"#), forge)
        #expect(await failure { try await reader.cycle() }?.error.message.contains("more than 3 partitions") == true)
        let many = Forge()
        let long = String(repeating: "n", count: 120)
        many.change { state in for index in 0..<700 { state.issues["\(long)\(index)"] = [] } }
        var large = try Reader(json(#","max":1000"#), many)
        let failed = await failure { try await large.cycle(pagesMax: 2000) }
        #expect(failed?.kind == .permanent)
        #expect(failed?.error.message.contains("at most 65536 are kept") == true, "\(failed?.error.message ?? "")")
    }

    /// Keys go when no partition can return them again, and not before.
    @Test func P4_theLowestMarkOfAllDecidesWhatIsForgotten() async throws {
        let forge = forge("a", "b")
        var reader = try Reader(json(), forge)
        var page = try await reader.rules.run(try reader.request(), http: forge)
        var marks: [Int64?] = []
        while page.more {
            (reader.cursor, reader.pageState) = (page.cursor ?? reader.cursor, page.pageState)
            marks.append(page.cursorMark)
            page = try await reader.rules.run(try reader.request(), http: forge)
        }
        #expect(page.cursorMark == t0 - 98, "a's, the lower one; before b was begun a's alone")
        reader.cursor = page.cursor
        // An idle partition follows the server's clock a day behind, so that it does not hold the keys of all others for ever.
        forge.change { $0.now += 30 * 86_400 }
        reader.nowSeconds += 30 * 86_400
        forge.add("b", 77, t0 + 30 * 86_400 - 10)
        reader.pageState = nil
        try await reader.cycle()
        #expect(try position(reader, "a") == t0 + 29 * 86_400)
        #expect(try position(reader, "b") == t0 + 30 * 86_400 - 10)
    }

    @Test func partitionsComeFromTheInputOrStandInTheDescription() async throws {
        for (rule, input) in [
            (#"{"input":"repos"}"#, #"{"repos":["x y","z"]}"#), (#"{"input":"repos"}"#, #"{"repos":"x y, z"}"#),
            (#"{"values":["x y","z"]}"#, "{}"),
            (#"{"input":"repos","id":"n"}"#, #"{"repos":[{"n":"x y"},{"n":"z"}]}"#),
        ] {
            let http = Replies { _, _ in Replies.ok(#"{"items":[{"id":1,"at":5}]}"#) }
            let json = items(#""query":{"repo":"{partition}"},"partitions":\#(rule)"#)
            var reader = try Reader(json, http)
            reader.input = input
            try await reader.cycle()
            #expect(reader.keys == ["x%20y/1@5", "z/1@5"], "\(rule)")
        }
        let http = Replies { _, _ in Replies.ok(#"{"items":[{"id":1,"at":5}]}"#) }
        var global = try Reader(
            items(
                #""query":{"repo":"{partition}"},"partitions":{"values":["x","z"]}"#, dedup: #"{"id":"id","version":"at","global":true}"#),
            http)
        try await global.cycle()
        #expect(global.keys == ["1@5"])
    }

    /// A longer lookback does not reach below what is forgotten; but a partition that was found later has all of its keys.
    @Test func P4_aLongerLookbackReadsAgainOnlyWhatIsKnown() async throws {
        let forge = forge("a")
        var reader = try Reader(json(), forge)
        try await reader.cycle()
        let forgotten = t0 - 120
        reader.forgottenBelow = forgotten
        forge.change { $0.issues["b"] = [(1, t0 - 3000), (2, t0 - 50)] }
        try await reader.cycle()
        #expect(reader.cursorText.contains(#""below":{"acme/b":[\#(forgotten),\#(t0 - 3600)]}"#), "\(reader.cursorText)")
        let longer = json().replacing(#""order":"asc""#, with: #""order":"asc","lookback":5000"#)
        reader.rules = try Reader(longer, forge).rules
        func asked(_ name: String, since: Int64) async throws -> Bool {
            forge.change { $0.requests = [] }
            try await reader.cycle()
            return forge.requests.contains { $0.contains("/repos/\(name)/") && $0.contains("since=\(since)") }
        }
        // It shows late, in a partition that has its keys from below that mark on.
        forge.add("b", 3, t0 - 3001)
        #expect(try await asked("b", since: t0 - 3600))
        #expect(reader.keys.contains("acme%2Fb/3@\(t0 - 3001)"))
        #expect(try await asked("a", since: forgotten))
        // What is forgotten of it meanwhile stays so when the floor falls again, as it does with a longer lookback.
        reader.dedupFloor = t0 - 600
        #expect(try await asked("b", since: t0 - 600))
        reader.dedupFloor = t0 - 4000
        #expect(try await asked("b", since: t0 - 600))
        // Once more is forgotten than when it was found, its keys are as well.
        reader.forgottenBelow = forgotten + 20
        #expect(try await asked("b", since: forgotten + 20))
        #expect(!reader.cursorText.contains("below"), "\(reader.cursorText)")
    }

    /// Which partitions were read from further back is not known of a cursor that a former version kept: nothing is passed over.
    @Test func P3_aCursorOfAFormerVersionHoldsNothingBackUntilMoreIsForgotten() async throws {
        let forge = forge("a")
        let longer = json().replacing(#""order":"asc""#, with: #""order":"asc","lookback":5000"#)
        var reader = try Reader(longer, forge)
        let position = #"{"mark":\#(t0 - 98),"value":"\#(t0 - 98)"}"#
        reader.cursor = Array(#"{"origin":\#(position),"partitions":{"acme/a":\#(position)}}"#.utf8)
        reader.forgottenBelow = t0 - 120
        try await reader.cycle()
        #expect(forge.requests.last?.contains("since=\(t0 - 5098)") == true, "\(forge.requests)")
        reader.forgottenBelow = t0 - 110
        try await reader.cycle()
        #expect(forge.requests.last?.contains("since=\(t0 - 110)") == true, "\(forge.requests)")
    }

    /// The bound is met where the last partition has been read to its end, or where a page token is added to the queue: nothing is taken.
    @Test func P10_aCursorThatGrowsTooLargeTakesNothing() async throws {
        let forge = Forge()
        let rules = json(#","max":400"#).replacing("{partition.key.short}", with: "{partition}")
        var reader = try Reader(rules, forge)
        var count = 0
        func grow(by more: Int) async throws -> Int {
            forge.change { state in
                for index in count..<count + more { state.issues["n\(1000 + index)" + String(repeating: "x", count: 195)] = [] }
            }
            count += more
            try await reader.cycle(pagesMax: 2000)
            return reader.cursorText.utf8.count
        }
        let first = try await grow(by: 200)
        let second = try await grow(by: 1)
        let room = (PollLimits.cursorBytesMax - second) / (second - first)
        let before = reader.cursor
        let failure = await #expect(throws: PollFailure.self) { _ = try await grow(by: room + 1) }
        #expect(
            failure?.kind == .permanent && failure?.error.message.contains("the cursors of \(count) partitions") == true,
            "\(failure as Any)")
        #expect(reader.cursor != before, "those before it are read")

        let names = (0..<30).map { "\"\($0)" + String(repeating: "y", count: 240) + "\"" }.joined(separator: ",")
        let http = Replies { _, _ in
            Replies.ok(#"{"items":[{"id":1,"at":5}],"next":"\#(String(repeating: "t", count: 30_000))"}"#)
        }
        let rest =
            #""query":{"repo":"{partition}"},"pagination":{"token":{"from":"next","parameter":"o"}},"partitions":{"values":[\#(names)]}"#
        var paged = try Reader(items(rest, cursor: #"{"field":"at","parameter":"since","type":"integer","order":"asc"}"#), http)
        let tooMuch = await #expect(throws: PollFailure.self) { try await paged.cycle() }
        #expect(tooMuch?.error.message.contains("the open cycle of 30 partitions") == true, "\(tooMuch as Any)")
        #expect(paged.cursor == nil && paged.jobs.isEmpty)
    }

    /// A feed that begins with the first record there is: its later pages are asked for as the first one was, though the cursor moves.
    @Test(arguments: [true, false]) func P3_withoutABeginningEachPageIsAskedForAsTheFirst(_ isPartitioned: Bool) async throws {
        let http = Replies { request, _ in
            let query = FakeProvider.query(request.url)
            let (since, skip) = (Int(query["since"] ?? "0") ?? 0, Int(query["o"] ?? "0") ?? 0)
            let listed = (1...7).filter { $0 >= since }
            let page = listed.dropFirst(skip).prefix(2).map { #"{"id":\#($0),"at":\#($0)}"# }.joined(separator: ",")
            return Replies.ok(#"{"items":[\#(page)],"next":\#(skip + 2 < listed.count ? "\"\(skip + 2)\"" : "null")}"#)
        }
        let partitions = isPartitioned ? #","query":{"list":"{partition}"},"partitions":{"values":["a"]}"# : ""
        let rule = #"{"field":"at","parameter":"since","type":"integer","order":"asc"}"#
        var reader = try Reader(items(#""pagination":{"token":{"from":"next","parameter":"o"}}\#(partitions)"#, cursor: rule), http)
        try await reader.cycle()
        #expect(reader.jobs.map { String(decoding: $0.record.bytes, as: UTF8.self) } == (1...7).map { #"{"id":\#($0),"at":\#($0)}"# })
    }

    /// What one feed read is known for as long as the position of a partition that is not listed would be kept.
    @Test func P4_whatWasReadBeforeThereWerePartitionsIsKnownForAWhile() async throws {
        let before = #"{"mark":\#(t0 - 90),"value":"\#(t0 - 90)"}"#
        let forge = forge("a")
        var reader = try Reader(json(#","keep_removed_seconds":600"#), forge)
        reader.cursor = Array(before.utf8)
        try await reader.cycle()
        let rule = try #require(reader.rules.cursor)
        func lowest() throws -> Int64? { try PartitionCursor(json: try #require(reader.cursor)).lowestMark(rule) }
        forge.add("a", 9, t0 + 50)
        forge.change { $0.now += 100 }
        try await reader.cycle()
        #expect(try lowest() == t0 - 90, "a partition that is found now begins there")
        #expect(!reader.warnings.contains { $0.contains("may come again") })
        forge.change { state in
            state.now += 700
            state.issues["late"] = [(1, t0 - 90), (2, t0)]
        }
        try await reader.cycle()
        #expect(
            reader.warnings.contains { $0.hasPrefix("partition acme/late is found after the dedup keys") && $0.contains("may come again") })
        #expect(reader.keys.contains("acme%2Flate/1@\(t0 - 90)"), "nothing of it is passed over")
        #expect(try lowest() == t0)
        let count = reader.warnings.count
        try await reader.cycle()
        #expect(reader.warnings.count == count)
    }

    @Test func aCursorFromBeforeThereWerePartitionsIsWhereAllBegin() async throws {
        let forge = forge("a", "b")
        var reader = try Reader(json(), forge)
        reader.cursor = Array(#"{"mark":\#(t0 - 99),"value":"\#(t0 - 99)"}"#.utf8)
        try await reader.cycle()
        #expect(reader.keys.count == 5)
        reader.cursor = Array("{}".utf8)
        #expect(await failure { try await reader.cycle() }?.kind == .badCursor)
    }

    @Test(arguments: [
        (#"{"values":["a"],"input":"b"}"#, "/x/{partition}", "one of the three"),
        (#"{"list":{"path":"/x"}}"#, "/x/{partition}", "id is missing"),
        (#"{"values":["a"]}"#, "/x", "would all read the same list"), ("null", "/x/{partition}", "there are none"),
        (#"{"values":["a"],"max":5000}"#, "/x/{partition}", "from 1 to 1000"),
    ])
    func partitionsThatCannotWorkAreRefused(_ rule: String, _ path: String, _ words: String) {
        let message = refusal(#"{"base_url":"https://a.test","path":"\#(path)","dedup":{"id":"id"},"partitions":\#(rule)}"#)
        #expect(message?.contains(words) == true, "\(message ?? "taken")")
    }
}
