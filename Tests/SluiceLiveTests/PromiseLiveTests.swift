import Foundation
import SluiceCore
import SluiceTesting
import Testing

extension Live {
    /// The promises, kept by the real server in real time.
    @Suite(.serialized) struct PromiseLiveTests {
        static let quiet = WebhookMischief.Rates(dropped: 0, doubled: 0, late: 0, forged: 0, spoofed: 0)

        /// The stand-in and a server that polls it, webhooks connected.
        static func together(
            _ settings: StandInProvider.Settings, safety: String = "12h", arguments: [String] = [],
            _ body: @Sendable @escaping (StandInProvider, SluiceProcess) async throws -> Void
        ) async throws {
            try await withTemporaryDirectory { directory in
                try await StandInProvider.with(settings) { provider in
                    let sluice = try SluiceProcess(
                        .init(
                            directory: directory, configuration: Chargebee.configuration(provider.baseURL, safety: safety),
                            environment: Chargebee.environment, arguments: arguments))
                    defer { sluice.kill9() }
                    try await sluice.start()
                    let url = try await sluice.webhookURL("demo")
                    provider.setWebhookTarget(.init(url: url, user: Chargebee.user, password: Chargebee.password))
                    try await body(provider, sluice)
                }
            }
        }

        static func settings(_ rates: WebhookMischief.Rates, perSecond: Double = 0) -> StandInProvider.Settings {
            StandInProvider.Settings(apiKey: Chargebee.apiKey, changesPerSecond: perSecond, rates: rates)
        }

        /// P5, in real time: 100 webhooks over 60 s cost 4 or 5 polls, the last of which starts after the last webhook.
        @Test func P5_hundredWebhooksInAMinuteCostFourOrFivePolls() async throws {
            var settings = Self.settings(Self.quiet)
            settings.world.visibilityLagMax = .zero
            settings.world.updateShare = 0
            try await Self.together(settings) { provider, sluice in
                try await waitUntil("the polls on start", seconds: 20) { provider.reads.count >= 3 }
                let before = try await Self.polls(sluice, "subscriptions")
                let begun = ContinuousClock.now
                for number in 1...100 {
                    provider.makeChanges(1, resource: "subscription")
                    try await Task.sleep(until: begun + .milliseconds(600 * number), clock: .continuous)
                }
                try await waitUntil("100 webhooks", seconds: 60) { provider.counts.realSent >= 100 && provider.counts.pending == 0 }
                let elapsed = begun.duration(to: .now)
                let lastWebhook = try #require(provider.lastWebhookSentAt)
                try await waitUntil("100 jobs", seconds: 60) { try await sluice.jobs(trigger: "subscriptions").count >= 100 }
                try await waitUntil("nothing left to cover", seconds: 60) {
                    let trigger = try await sluice.trigger("subscriptions")
                    return trigger["covered_sequence"]?.int64 == trigger["signal_sequence"]?.int64
                }
                let webhookPolls = try await Self.polls(sluice, "subscriptions") - before
                // One every 20 s at most, the first at once and one after the end: five, where the webhooks took no longer than they should.
                let most = max(5, Int(elapsed.components.seconds / 20) + 2)
                #expect((4...most).contains(webhookPolls), "\(webhookPolls) polls in \(elapsed)")
                let starts = provider.reads.filter { $0.resource == "subscription" && !$0.hasOffset }.map(\.at)
                let last = try #require(starts.max())
                #expect(last >= lastWebhook, "the last poll starts after the last webhook")
                #expect(provider.counts.realAccepted == 100 && provider.counts.realSent == 100, "\(provider.counts.statuses)")
                #expect(try await Chargebee.verdict(provider, sluice).isClean)
            }
        }

        static func polls(_ sluice: SluiceProcess, _ trigger: String) async throws -> Int {
            Int(try await sluice.trigger(trigger)["polls_by_cause"]?["webhook"]?.int64 ?? 0)
        }

        /// P6: down while webhooks were lost; after the restart everything is there within the catch-up window, though the
        /// safety interval is twelve hours.
        @Test func P6_whatWasLostWhileDownIsThereAfterTheRestart() async throws {
            try await Self.together(Self.settings(Self.quiet)) { provider, sluice in
                provider.makeChanges(20)
                try await waitUntil("20 jobs", seconds: 40) { try await sluice.jobs().count >= 20 }
                sluice.kill9()
                provider.makeChanges(30)
                try await waitUntil("the webhooks are lost", seconds: 20) { provider.counts.realSent >= 50 }
                try await sluice.start()
                let verdict = try await Chargebee.settled(provider, sluice, seconds: 120)
                #expect(verdict.isClean, "\(verdict)")
                #expect(verdict.jobs >= 50)
            }
        }

        /// P7 and P4: pausing keeps signals and doubles nothing.
        @Test func P7_pausingLosesNothing() async throws {
            try await Self.together(Self.settings(Self.quiet)) { provider, sluice in
                provider.makeChanges(9)
                try await waitUntil("9 jobs", seconds: 40) { try await sluice.jobs().count >= 9 }
                for name in ["subscriptions", "customers", "invoices"] {
                    #expect(try await sluice.send("POST", "/v1/triggers/\(name)/pause").status == 200)
                }
                // A poll that was under way when its trigger was paused may still ask.
                try await waitUntil("no poll reads any more", seconds: 60) {
                    let reads = provider.reads.count
                    try await Task.sleep(for: .seconds(1))
                    return provider.reads.count == reads
                }
                let reads = provider.reads.count
                provider.makeChanges(30)
                try await waitUntil("the webhooks are in", seconds: 20) { provider.counts.realSent >= 39 }
                #expect(provider.reads.count == reads, "a paused trigger polls nothing")
                #expect(try await sluice.jobs().count == 9)
                for name in ["subscriptions", "customers", "invoices"] {
                    #expect(try await sluice.send("POST", "/v1/triggers/\(name)/resume").status == 200)
                }
                #expect(try await Chargebee.settled(provider, sluice, seconds: 120).isClean)
            }
        }

        /// Show a, shorter: a hostile provider, nothing missing, nothing doubled, every forged webhook refused, by a checker
        /// that trusts neither side.
        @Test func a_hostileProviderLosesNothing() async throws {
            let rates = WebhookMischief.Rates(dropped: 0.3, doubled: 0.3, late: 0.2, forged: 0.1, spoofed: 0.1)
            var settings = Self.settings(rates, perSecond: 10)
            settings.faults = .init(shares: [(.serverError, 0.02), (.html, 0.02), (.slow(milliseconds: 500), 0.02)])
            try await Self.together(settings, safety: "8s") { provider, sluice in
                try await Task.sleep(for: .seconds(30))
                try await waitUntil("more than 200 changes", seconds: 120) { provider.changes.count > 200 }
                provider.setPaused(true)
                provider.setFaults(.none)
                var observer = try Chargebee.observer(provider, sluice)
                let report = try await observer.settle(seconds: 120)
                #expect(report.isGood, "\(report)")
                #expect(report.verdict.changes > 200)
                #expect(report.counts.planned.dropped > 0 && report.counts.planned.doubled > 0 && report.counts.planned.forged > 0)
                #expect(report.forgedNotRefused == 0)
                let log = try sluice.log()
                #expect(!log.contains(Chargebee.password) && !log.contains(Chargebee.apiKey), "no secret in the log")
            }
        }
    }
}
