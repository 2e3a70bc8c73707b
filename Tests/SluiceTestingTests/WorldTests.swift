import SluiceCore
import Testing

@testable import SluiceTesting

/// The stand-in provider's rules, without a clock or a socket.
struct WorldTests {
    static let start = Timestamp(seconds: 1_767_225_600)

    /// A world after `changes` changes, `stepMilliseconds` apart.
    static func world(
        _ settings: ProviderWorld.Settings = .init(), changes: Int, stepMilliseconds: Int64 = 100, seed: UInt64 = 7
    ) -> ProviderWorld {
        var world = ProviderWorld(settings: settings)
        var random = ProviderRandom(seed: seed)
        for index in 0..<changes { world.makeChange(at: start + .milliseconds(Int64(index) * stepMilliseconds), using: &random) }
        return world
    }

    /// Everything that the API lists of a resource, page by page.
    static func readAll(_ world: inout ProviderWorld, _ resource: String, limit: Int, at now: Timestamp, deleted: Bool = false) -> [[UInt8]]
    {
        var records: [[UInt8]] = []
        var place = ProviderWorld.Place(updatedAtSeconds: -1, number: Int.max - 1)
        for _ in 0..<10_000 {
            let page = world.list(resource, behind: place, limit: limit, includeDeleted: deleted, at: now)
            records += page.records
            guard page.hasMore, let last = page.last else { return records }
            place = last
        }
        return records
    }

    @Test func sameSeedMakesTheSameChanges() {
        let first = WorldTests.world(changes: 300).changes.map { ProviderLog.line($0) }
        #expect(first == WorldTests.world(changes: 300).changes.map { ProviderLog.line($0) })
        #expect(first != WorldTests.world(changes: 300, seed: 8).changes.map { ProviderLog.line($0) })
    }

    @Test func everyRecordIsValidAndSaysItsVersion() throws {
        let world = WorldTests.world(.init(updateShare: 0.3, deleteShare: 0.05), changes: 600)
        var keys: Set<String> = []
        for change in world.changes {
            let record = try JSONDocument(change.record).root
            #expect(record.bytes.count == change.record.count)
            #expect(record["id"]?.string == change.id)
            #expect(record["updated_at"]?.int64 == change.madeAt.seconds)
            #expect(record["resource_version"]?.int64 == change.madeAt.milliseconds)
            #expect(record["deleted"]?.bool == (change.kind == .deleted))
            #expect(keys.insert(change.key).inserted, "\(change.key) names two versions")
        }
        #expect(world.changes.contains { $0.kind == .updated } && world.changes.contains { $0.kind == .deleted })
        let all = world.changes.map { String(decoding: $0.record, as: UTF8.self) }.joined()
        for spoilt in ["9007199254740993", "1.10", "1.0E+2", "🚰", #"\u2019"#] { #expect(all.contains(spoilt), "\(spoilt)") }
    }

    @Test(arguments: [1, 7, 100])
    func pagesTogetherHoldTheNewestVisibleVersionOfEachRecordOnce(limit: Int) {
        var world = WorldTests.world(.init(updateShare: 0.4, deleteShare: 0.05), changes: 700)
        for seconds in [0, 20, 40, 69, 80] as [Int64] {
            let now = WorldTests.start + .seconds(seconds)
            for resource in world.settings.resources {
                var newest: [String: ProviderChange] = [:]
                for change in world.changes where change.resource == resource && change.visibleAt <= now { newest[change.id] = change }
                let order = newest.values.sorted { ($0.updatedAtSeconds, $0.id) < ($1.updatedAtSeconds, $1.id) }
                let listed = WorldTests.readAll(&world, resource, limit: limit, at: now, deleted: true)
                #expect(Set(listed) == Set(order.map(\.record)))
                #expect(listed.count == order.count)
                let times = listed.compactMap { try? JSONDocument($0).root["updated_at"]?.int64 }
                #expect(times == order.map(\.updatedAtSeconds), "ordered by updated_at")
                let undeleted = WorldTests.readAll(&world, resource, limit: limit, at: now)
                #expect(undeleted.count == order.filter { $0.kind != .deleted }.count)
            }
        }
    }

    @Test func lateChangesAppearBehindAReaderWithinTheLag() {
        let settings = ProviderWorld.Settings(resources: ["customer"], updateShare: 0.2, lagShare: 0.5, visibilityLagMax: .seconds(3))
        var world = WorldTests.world(settings, changes: 400)
        let lags = world.changes.map { ($0.visibleAt - $0.madeAt).milliseconds }
        #expect(lags.contains { $0 > 1000 } && lags.contains(0) && lags.allSatisfy { $0 >= 0 && $0 <= 3000 })
        let end = WorldTests.start + .milliseconds(399 * 100)
        let early = WorldTests.readAll(&world, "customer", limit: 100, at: end)
        let newest = early.last.flatMap { try? JSONDocument($0).root["updated_at"]?.int64 } ?? 0
        let late = WorldTests.readAll(&world, "customer", limit: 100, at: end + .seconds(3)).filter { !early.contains($0) }
        let behind = late.compactMap { try? JSONDocument($0).root["updated_at"]?.int64 }.filter { $0 < newest }
        #expect(!behind.isEmpty, "a reader that goes on from \(newest) must be able to lose something")
    }

    @Test func logLinesKeepTheRecordsBytes() throws {
        let changes = WorldTests.world(.init(deleteShare: 0.1), changes: 100).changes
        let text: [UInt8] = changes.flatMap { (change) -> [UInt8] in ProviderLog.line(change) + [0x0A] }
        let read = try ProviderLog.parse(text)
        #expect(read.map(\.record) == changes.map(\.record))
        #expect(read.map(\.key) == changes.map(\.key))
        #expect(read.map(\.visibleAt) == changes.map(\.visibleAt))
        #expect(throws: (any Error).self) { try ProviderLog.parse(Array("{\"seq\":1}\n".utf8)) }
    }

    @Test func mischiefKeepsItsRates() {
        let changes = WorldTests.world(changes: 4000).changes
        var mischief = WebhookMischief(rates: .hostile)
        var random = ProviderRandom(seed: 3)
        let planned = changes.flatMap { mischief.plan($0, at: $0.madeAt, using: &random) }
        let counts = mischief.counts
        func near(_ count: Int, _ share: Double, of total: Int) -> Bool { abs(Double(count) / Double(total) - share) < 0.04 }
        #expect(near(counts.dropped, 0.3, of: 4000) && near(counts.forged, 0.1, of: 4000))
        #expect(near(counts.doubled, 0.3, of: 4000 - counts.dropped))
        #expect(near(counts.late + counts.reordered, 0.2, of: 4000 - counts.dropped))
        #expect(planned.filter { $0.kind == .real }.count == counts.real)
        #expect(counts.real == 4000 - counts.dropped + counts.doubled)
        #expect(planned.filter { $0.kind == .forged }.allSatisfy { $0.credentials != .right })
        #expect(planned.filter { $0.kind == .real }.allSatisfy { $0.credentials == .right })
        #expect(planned.allSatisfy { (try? JSONDocument($0.body)) != nil })
    }

    @Test func queueSendsByTime() {
        var queue = WebhookQueue()
        for delay in [5, 1, 3, 1, 9] as [Int64] {
            _ = queue.insert(
                PlannedWebhook(kind: .real, credentials: .right, sendAt: WorldTests.start + .seconds(delay), body: [UInt8(delay)]))
        }
        #expect(queue.takeDue(at: WorldTests.start, limit: 9).isEmpty)
        #expect(queue.takeDue(at: WorldTests.start + .seconds(4), limit: 2).map(\.body) == [[1], [1]])
        #expect(queue.takeDue(at: WorldTests.start + .seconds(4), limit: 2).map(\.body) == [[3]])
        #expect(queue.count == 2)
    }
}
