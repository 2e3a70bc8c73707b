import Foundation
import SluiceCore
import SluiceTesting
import Synchronization
import Testing

extension Live {
    /// Show e: the plug is pulled 200 times at random moments under load.
    @Suite(.serialized) struct CrashLiveTests {
        /// The ids of webhooks that got a 2xx.
        final class Accepted: Sendable {
            private let held = Mutex<Set<String>>([])
            var ids: Set<String> { held.withLock { $0 } }
            func insert(_ id: String) { held.withLock { _ = $0.insert(id) } }
        }

        static let kills = ProcessInfo.processInfo.environment["SLUICE_KILLS"].flatMap(Int.init) ?? 200

        @Test func e_killedTwoHundredTimesNothingIsLost() async throws {
            let settings = PromiseLiveTests.settings(PromiseLiveTests.quiet)
            try await withTemporaryDirectory { directory in
                try await StandInProvider.with(settings) { provider in
                    let sluice = try SluiceProcess(
                        .init(
                            directory: directory, configuration: Chargebee.configuration(provider.baseURL, safety: "5s"),
                            environment: Chargebee.environment))
                    defer { sluice.kill9() }
                    try await sluice.start()
                    let url = try await sluice.webhookURL("demo")
                    let accepted = Accepted()
                    var generator = SystemRandomNumberGenerator()
                    for round in 0..<Self.kills {
                        if round > 0 { try await sluice.start() }
                        let span = Int.random(in: 5...400, using: &generator)
                        try await withThrowingTaskGroup(of: Void.self) { group in
                            for lane in 0..<4 {
                                group.addTask { await Self.load(provider, url, "\(round)-\(lane)", accepted) }
                            }
                            try await Task.sleep(for: .milliseconds(span))
                            sluice.kill9()
                            group.cancelAll()
                            try await group.waitForAll()
                        }
                    }
                    try await sluice.start()
                    let verdict = try await Chargebee.settled(provider, sluice, seconds: 90)
                    #expect(verdict.isClean, "\(verdict)")
                    let sent = accepted.ids
                    let kept = try await Self.inbox(sluice)
                    #expect(sent.count > Self.kills, "the load was real: \(sent.count) webhooks got a 2xx")
                    #expect(sent.subtracting(kept).isEmpty, "P1: each webhook that got a 2xx is in the inbox")
                    for name in ["subscriptions", "customers", "invoices"] {
                        let positions = try await sluice.jobs(trigger: name).map(\.position)
                        #expect(positions == Array(1...Int64(max(1, positions.count))), "positions of \(name) have no gap")
                    }
                }
            }
        }

        /// Webhooks, each about a change that the provider has just made, until the server is gone.
        static func load(_ provider: StandInProvider, _ url: String, _ lane: String, _ accepted: Accepted) async {
            let credentials = Data("\(Chargebee.user):\(Chargebee.password)".utf8).base64EncodedString()
            for number in 0..<1000 where !Task.isCancelled {
                if number % 4 == 0 { provider.makeChanges(1) }
                let id = "ev_\(lane)-\(number)"
                let kind = ["subscription", "customer", "invoice"][number % 3]
                let body = #"{"id":"\#(id)","event_type":"\#(kind)_changed","content":{}}"#
                guard let status = await Web.post(url, Array(body.utf8), headers: [("Authorization", "Basic \(credentials)")]) else {
                    return
                }
                if (200..<300).contains(status) { accepted.insert(id) }
            }
        }

        static func inbox(_ sluice: SluiceProcess) async throws -> Set<String> {
            var ids: Set<String> = []
            var before: Int64?
            for _ in 0..<10_000 {
                let answer = try await sluice.send("GET", "/v1/inbox?limit=1000" + (before.map { "&before=\($0)" } ?? ""))
                let rows = try answer.json()["webhooks"]?.elements ?? []
                for row in rows { if let id = row["delivery_id"]?.string { ids.insert(id) } }
                guard let last = rows.last?["sequence"]?.int64 else { return ids }
                before = last
            }
            return ids
        }
    }
}
