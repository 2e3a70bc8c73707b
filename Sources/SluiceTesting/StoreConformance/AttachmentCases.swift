import SluiceCore
import SluiceStore

extension StoreConformance {
    static let attachments: [ConformanceCase] = [
        ConformanceCase("anAttachmentKeepsItsSettings", settings)
    ]

    private static func settings(_ bench: inout StoreBench) async throws {
        _ = try await bench.makeTrigger()
        let filter = StoreBench.bytes("{\"filter\":\"record.a\"}")
        try await bench.apply([
            StoreBench.destination("hook"), StoreBench.destination("other"), .attach(trigger: "orders", destination: "hook", from: nil),
            .attach(trigger: "orders", destination: "other", from: nil),
            .setAttachment(trigger: "orders", destination: "hook", settings: filter),
        ])
        try await bench.reopen()
        let stored = try await bench.store.definitions(.default).attachments
        try expectEqual(stored.map(\.settings), [filter, []], "settings of each attachment")
        try await bench.apply([.attach(trigger: "orders", destination: "hook", from: nil)])
        try expectEqual(try await bench.store.definitions(.default).attachments[0].settings, filter, "attached again: they stay")
        let here = bench
        try await expectError(.notFound, "settings of what is not attached") {
            try await here.apply([
                .detach(trigger: "orders", destination: "other"),
                .setAttachment(trigger: "orders", destination: "other", settings: filter),
            ])
        }
        try expectEqual(try await bench.store.definitions(.default).attachments.count, 2, "nothing of a failed change stays")
        try await bench.apply([.setAttachment(trigger: "orders", destination: "hook", settings: [])])
        try expectEqual(try await bench.store.definitions(.default).attachments[0].settings, [], "removed")
        try await bench.apply([
            .setAttachment(trigger: "orders", destination: "hook", settings: filter), .detach(trigger: "orders", destination: "hook"),
            .attach(trigger: "orders", destination: "hook", from: nil),
        ])
        try expectEqual(try await bench.store.definitions(.default).attachments[0].settings, [], "an attachment made anew has none")
    }
}
