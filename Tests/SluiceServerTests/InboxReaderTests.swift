import FoundationEssentials
import SluiceConnectors
import SluiceCore
import SluiceLua
import SluiceStore
import SluiceTesting
import Testing

@testable import SluiceServer

/// A connector's file is exchanged for one whose trigger is of another kind: whose webhooks are kept until they are read follows it.
@Suite struct InboxReaderTests {
    private enum Kind: String {
        case hybrid = "poll = function() return { events = {} } end, dedup = function(record) return record.id end"
        case webhook = "webhook_notification = function(request) return request.json end"
    }

    private static func source(_ kind: Kind) -> [UInt8] {
        Array(
            """
            return { name = "shop", title = "Shop", version = "1", connection = { fields = { { name = "site" } } },
              webhook = { scheme = "basic-auth" }, webhook_keys = function(request) return { "k" } end,
              triggers = { record = { webhook_key = function(input) return "k" end, \(kind.rawValue) } } }
            """.utf8)
    }

    private static let manifest = """
        connections:
          main: {connector: shop, fields: {site: acme}, webhook: {secrets: ["user:hook"]}}
        triggers:
          orders: {connection: main, type: record}
        """

    private struct Place: Sendable {
        let api: API
        let store: any Store
        let reloader: ConnectorReloader
        let file: String

        func put(_ kind: Kind) async throws {
            try await offPool { try Data(InboxReaderTests.source(kind)).write(to: URL(filePath: file), options: .atomic) }
        }

        func reload(_ kind: Kind) async throws {
            try await put(kind)
            try await waitUntil("the file is read") { try await reloader.reload().loaded == ["shop"] }
        }

        func append(_ count: Int) async throws {
            let trigger = try await store.orders()
            for number in 0..<count {
                _ = try await store.append(
                    InboxEntry(
                        connection: trigger.connection, receivedAt: api.parts.clock.now(), headers: [],
                        body: Array("{\"n\":\(number)}".utf8),
                        topics: trigger.topics))
            }
        }

        func unread() async throws -> Int { try await store.unreadWebhooks(.default, countMax: 100).values.reduce(0, +) }

        /// Half a year later.
        func prune() async throws {
            for _ in 0..<20 {
                if try await !store.prune(RetentionPolicy(), at: api.parts.clock.now() + .days(180)).isPartial { return }
            }
        }

        func command(_ word: String) async { #expect(await api.ask("POST", "/v1/triggers/orders/\(word)").status == 200) }
    }

    /// With a running trigger of this kind.
    private static func with(_ kind: Kind, _ body: @escaping @Sendable (Place) async throws -> Void) async throws {
        try await withTemporaryDirectory("sluice-inbox") { directory in
            let file = directory + "/shop/connector.lua"
            try await offPool {
                try FileManager.default.createDirectory(atPath: directory + "/shop", withIntermediateDirectories: true)
                try Data(source(kind)).write(to: URL(filePath: file))
            }
            let connector = try LuaConnector.load(source: source(kind), name: "shop", path: file)
            try await Fixture.withAPI(connectors: ["shop": connector]) { api, store in
                let reloader = ConnectorReloader(
                    directory: directory, shelf: api.parts.shelf, store: store, control: NoPollers(), alarms: api.parts.alarms,
                    clock: api.parts.clock, changes: ChangeLock(), logger: .init(label: "inbox readers"))
                let applied = await api.apply(manifest)
                #expect(applied.status == 200, "\(String(decoding: applied.body, as: UTF8.self))")
                try await body(Place(api: api, store: store, reloader: reloader, file: file))
            }
        }
    }

    @Test func P7_whatNowReadsTheInboxLosesNothingInALongPause() async throws {
        try await Self.with(.hybrid) { place in
            #expect(try await !place.store.orders().readsInbox)
            try await place.reload(.webhook)
            #expect(try await place.store.orders().readsInbox)
            await place.command("pause")
            try await place.append(3)
            try await place.prune()
            await place.command("resume")
            let trigger = try await place.store.orders()
            let read = try await place.store.readInbox(
                InboxRead(connection: trigger.connection, topics: trigger.topics, after: .zero, since: trigger.createdAt, limit: 10))
            #expect(read.items.count == 3, "nothing is lost")
        }
    }

    @Test func P7_whatPollsNowFillsNoInboxInALongPause() async throws {
        try await Self.with(.webhook) { place in
            #expect(try await place.store.orders().readsInbox)
            await place.command("pause")
            try await place.append(3)
            #expect(try await place.unread() == 3)
            try await place.reload(.hybrid)
            #expect(try await place.unread() == 0, "they are signals by now, of which the last is enough")
            try await place.prune()
            #expect(try await place.store.inbox(InboxQuery()).isEmpty)
        }
    }

    /// The file was exchanged while no server ran.
    @Test func aStartAndAnApplyFindItAsWell() async throws {
        try await Self.with(.hybrid) { place in
            let changed = try LuaConnector.load(source: Self.source(.webhook), name: "shop", path: place.file)
            _ = place.api.parts.shelf.put(changed)
            let definitions = try await place.store.definitions(.default)
            let changes = ConnectorAdoption.inboxReaders(definitions, connectors: place.api.parts.shelf.connectors)
            guard changes.count == 1, case .readsInbox("orders", true) = changes[0] else {
                Issue.record("\(changes)")
                return
            }
            let applied = String(decoding: await place.api.apply(Self.manifest).body, as: UTF8.self)
            #expect(applied.contains("reads its webhooks from the inbox"), "\(applied)")
            #expect(try await place.store.orders().readsInbox)
            let again = String(decoding: await place.api.apply(Self.manifest).body, as: UTF8.self)
            #expect(again.contains(#""changes":false"#), "\(again)")
        }
    }
}
