import SluiceTesting
import Testing

/// The check behind promise P1, on logs made by hand.
struct SyncOrderTests {
    /// Numbers the lines.
    static func log(_ lines: String...) -> String {
        lines.enumerated().map { "\($0.offset + 1) \($0.element)" }.joined(separator: "\n") + "\n"
    }

    static let one = "sluice-marker-00000001"
    static let two = "sluice-marker-00000002"
    static let wal = "/data dir/sluice.db-wal"

    @Test(arguments: [
        log("R 9 \(one)", "W \(wal) \(one)", "S \(wal) 2", "A 9 200"),
        // One sync for two who wait.
        log("R 9 \(one)", "R 8 \(two)", "W \(wal) \(one)", "W \(wal) \(two)", "S \(wal) 4", "A 8 200", "A 9 200"),
        // The same socket again, and a repeated delivery that was durable before.
        log("R 9 \(one)", "W \(wal) \(one)", "S \(wal) 2", "A 9 200", "R 9 \(one)", "A 9 200"),
        // Pipelined, each answered in its turn.
        log("R 9 \(one)", "R 9 \(two)", "W \(wal) \(one)", "S \(wal) 3", "A 9 200", "W \(wal) \(two)", "S \(wal) 6", "A 9 200"),
        // A marker twice in one request; a refusal; an answer to what carried no marker.
        log(
            "R 9 \(one)", "R 9 \(one)", "W \(wal) \(one)", "S \(wal) 3", "A 9 204", "R 9 \(two)", "A 9 503", "R 9 \(two)", "C 9", "A 9 200",
            "A 5 200"),
    ])
    func P1_aLogInOrderHasNoViolation(_ log: String) {
        #expect(SyncOrder.violations(log) == [])
        #expect(SyncOrder.successCount(log) > 0)
    }

    @Test(arguments: [
        (log("R 9 \(one)", "A 9 200"), "never written"),
        (log("R 9 \(one)", "W \(wal) \(one)", "A 9 200"), "not synced"),
        (log("R 9 \(one)", "A 9 200", "W \(wal) \(one)", "S \(wal) 3"), "never written"),
        // Another file was synced.
        (log("R 9 \(one)", "W \(wal) \(one)", "S /data/sluice.db 2", "A 9 200"), "not synced"),
        // The sync began before the write.
        (log("R 9 \(one)", "W \(wal) \(one)", "S \(wal) 1", "A 9 200"), "not synced"),
        (log("W \(wal) \(two)", "R 9 \(one)", "S \(wal) 2", "W \(wal) \(one)", "A 9 200"), "not synced"),
        // Only the other's marker is durable.
        (log("R 9 \(one)", "R 8 \(two)", "W \(wal) \(one)", "S \(wal) 3", "A 9 200", "A 8 200"), "\(two) was never written"),
        (log("R 9 \(one)", "R 9 \(two)", "W \(wal) \(one)", "S \(wal) 3", "A 9 200", "A 9 200"), "\(two) was never written"),
        ("2 A 9 200\n", "out of order"), ("1 X 9 200\n", "unreadable"), ("nonsense\n", "unreadable"),
    ])
    func P1_aLogOutOfOrderIsFound(_ log: String, _ what: String) {
        let violations = SyncOrder.violations(log)
        #expect(violations.count == 1)
        #expect(violations.first?.contains(what) == true, "\(violations)")
    }
}
