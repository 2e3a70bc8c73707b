import Foundation
import SluiceCore
import SluiceTesting
import Testing

extension Live {
    /// Show e: the life of a subscription against a provider whose subscriptions end, with the plug pulled at each step.
    @Suite(.serialized) struct SubscriptionLiveTests {
        @Test(arguments: [Hooks.Form.data, .lambdas])
        func e_aSubscriptionIsMadeRefreshedCheckedAndRemoved(form: Hooks.Form) async throws {
            try await withTemporaryDirectory { directory in
                try await SubscriptionProvider.with(lifetime: .seconds(30)) { provider in
                    let sluice = try Hooks.server(directory, provider, form)
                    defer { sluice.kill9() }
                    try await sluice.start()
                    try await Hooks.waitForOne(provider, sluice, "after the start")
                    try await waitUntil("the trigger runs") { try await Hooks.state(sluice) == "running" }
                    try await Hooks.waitForStartPoll(sluice)
                    #expect(await provider.makeRecord() == [200], "its webhooks are verified with the subscription's own secret")
                    try await waitUntil("the record's job", seconds: 60) { try await sluice.jobs().count == 1 }
                    #expect(try await sluice.trigger("records")["polls_by_cause"]?["webhook"]?.int64 ?? 0 >= 1)
                    try await waitUntil("a refresh", seconds: 60) { provider.count(.refresh) >= 1 }
                    #expect(provider.hooks.count == 1 && provider.count(.create) == 1)

                    // Somebody deletes it, makes a second one, and one with a URL that nobody knows.
                    let url = try #require(provider.hooks.first?.url)
                    provider.setLifetime(nil)
                    for hook in provider.hooks { provider.remove(hook.id) }
                    await provider.makeRecord()
                    try await sluice.send("POST", "/v1/subscriptions/check")
                    try await Hooks.waitForOne(provider, sluice, "after it was deleted at the provider")
                    try await waitUntil("the record that no webhook told of", seconds: 60) { try await sluice.jobs().count == 2 }
                    provider.add(url: url)
                    let stray = provider.add(
                        url: url.split(separator: "/").dropLast().joined(separator: "/").replacing("http:/", with: "http://") + "/unknown")
                    try await sluice.send("POST", "/v1/subscriptions/check", body: #"{"trigger":"records"}"#)
                    try await waitUntil("the second one is removed and the stray one shown", seconds: 60) {
                        let states = try await Hooks.subscriptions(sluice).map(\.state)
                        return provider.hooks.count == 2 && states.sorted() == ["active", "left_behind"]
                    }
                    #expect(try await Hooks.alarms(sluice).contains("subscription_left_behind"))
                    let number = try #require(try await Hooks.subscriptions(sluice).first { $0.state == "left_behind" }?.number)
                    #expect(try await sluice.send("POST", "/v1/subscriptions/\(number)/remove-left-behind").status == 202)
                    try await Hooks.waitForOne(provider, sluice, "after the stray one was removed")
                    #expect(!provider.hooks.contains { $0.id == stray })
                    try await waitUntil("the alarm is gone") { try await Hooks.alarms(sluice).isEmpty }

                    // Another input that matters, and one that does not.
                    let created = provider.count(.create)
                    let other = Hooks.configuration(provider.baseURL, form, topic: "some")
                    #expect(try await sluice.send("POST", "/v1/apply", body: Self.order(other)).status == 200)
                    try await waitUntil("a subscription of the other topic", seconds: 60) { provider.hooks.contains { $0.topic == "some" } }
                    try await Hooks.waitForOne(provider, sluice, "of another topic")
                    #expect(provider.hooks.first?.topic == "some" && provider.count(.create) == created + 1)
                    let noted = other.replacing("topic: some", with: "topic: some, note: hello")
                    #expect(try await sluice.send("POST", "/v1/apply", body: Self.order(noted)).status == 200)
                    try await Task.sleep(for: .seconds(2))
                    #expect(provider.count(.create) == created + 1, "what does not matter to it changes nothing")

                    #expect(try await sluice.send("POST", "/v1/triggers/records/pause").status == 200)
                    #expect(provider.hooks.count == 1, "P7: a paused trigger keeps its subscription")
                    provider.refuse([.delete])
                    #expect(try await sluice.send("POST", "/v1/triggers/records/stop").status == 200)
                    try await waitUntil("it tries to unsubscribe", seconds: 60) { provider.count(.delete) >= 4 }
                    #expect(try await Hooks.state(sluice) == "stopping")
                    provider.refuse([])
                    try await waitUntil("it is unsubscribed and stopped", seconds: 90) {
                        let state = try await Hooks.state(sluice)
                        return provider.hooks.isEmpty && state == "stopped"
                    }
                    #expect(try await Hooks.subscriptions(sluice).isEmpty)
                }
            }
        }

        static func order(_ manifest: String) -> String {
            var writer = JSONWriter()
            writer.object { writer in
                writer.member("manifest", manifest)
                writer.key("references")
                writer.object { $0.member("env:HOOKS_KEY", SubscriptionProvider.apiKey) }
            }
            return writer.string
        }

        @Test func e_aFailedRefreshRaisesTheAlarmBeforeTheEndAndAnotherOneIsMadeAfterIt() async throws {
            try await withTemporaryDirectory { directory in
                try await SubscriptionProvider.with(lifetime: .seconds(40)) { provider in
                    let sluice = try Hooks.server(directory, provider, .data)
                    defer { sluice.kill9() }
                    try await sluice.start()
                    try await Hooks.waitForOne(provider, sluice, "after the start")
                    let first = try #require(provider.hooks.first?.url)
                    provider.refuse([.refresh, .create])
                    try await waitUntil("the alarm before the end", seconds: 60) {
                        try await Hooks.alarms(sluice).contains("subscription_lapsing")
                    }
                    #expect(provider.hooks.count == 1, "the alarm comes before the end")
                    try await waitUntil("the alarm after the end", seconds: 60) {
                        try await Hooks.alarms(sluice).contains("subscription_lapsed")
                    }
                    #expect(provider.hooks.isEmpty)
                    #expect(await provider.makeRecord().isEmpty, "nobody is told of this record")
                    provider.refuse([])
                    try await Hooks.waitForOne(provider, sluice, "once the provider is well again")
                    #expect(provider.hooks.first?.url != first, "each subscription has a URL of its own")
                    try await waitUntil("the record that no webhook told of", seconds: 60) { try await sluice.jobs().count == 1 }
                    try await waitUntil("no alarm is left") { try await Hooks.alarms(sluice).isEmpty }
                }
            }
        }

        static let moments: [SubscriptionProvider.Moment] = [
            .before(.create), .after(.create), .before(.refresh), .after(.refresh), .before(.list), .after(.list), .before(.delete),
            .after(.delete),
        ]

        /// Killed at each step, it ends with exactly one subscription, or none once it is stopped.
        @Test(arguments: [Hooks.Form.data, .lambdas])
        func P11_killedAtEachStepItEndsWithExactlyOneSubscription(form: Hooks.Form) async throws {
            for moment in Self.moments {
                try await withTemporaryDirectory { directory in
                    try await SubscriptionProvider.with(lifetime: .seconds(15)) { provider in
                        let sluice = try Hooks.server(directory, provider, form)
                        defer { sluice.kill9() }
                        provider.hold(moment)
                        try await sluice.start()
                        if moment.call != .create { try await waitUntil("a subscription", seconds: 60) { provider.hooks.count == 1 } }
                        if moment.call == .list { try await sluice.send("POST", "/v1/subscriptions/check") }
                        if moment.call == .delete {
                            try await Hooks.waitForOne(provider, sluice, "before the stop")
                            try await sluice.send("POST", "/v1/triggers/records/stop")
                        }
                        try await waitUntil("a request held \(moment)", seconds: 90) { provider.isHolding }
                        sluice.kill9()
                        provider.letGo()
                        if moment.call == .delete {
                            // Its stop was asked for and goes on; the file that is applied at the start must not start it again.
                            let stopped = Hooks.configuration(provider.baseURL, form).replacing("input:", with: "state: stopped, input:")
                            try Data(stopped.utf8).write(to: URL(filePath: directory + "/sluice.yaml"))
                        }
                        try await sluice.start()
                        guard moment.call == .delete else {
                            try await Hooks.waitForOne(provider, sluice, "after a crash \(moment)")
                            return
                        }
                        try await waitUntil("no subscription after a crash \(moment)", seconds: 90) {
                            let state = try await Hooks.state(sluice)
                            return provider.hooks.isEmpty && state == "stopped"
                        }
                    }
                }
            }
        }

        /// A provider that does not tell what it has: the second subscription cannot be seen, so people are told.
        @Test func P11_whereTheProviderTellsNothingAPossibleOrphanIsShown() async throws {
            try await withTemporaryDirectory { directory in
                try await SubscriptionProvider.with { provider in
                    let sluice = try Hooks.server(directory, provider, .bare)
                    defer { sluice.kill9() }
                    provider.hold(.after(.create))
                    try await sluice.start()
                    try await waitUntil("a subscription without an answer", seconds: 60) { provider.isHolding }
                    sluice.kill9()
                    provider.letGo()
                    try await sluice.start()
                    try await waitUntil("another one, and the alarm", seconds: 60) {
                        let alarms = try await Hooks.alarms(sluice)
                        return provider.hooks.count == 2 && alarms.contains("subscription_left_behind")
                    }
                    #expect(
                        try await sluice.send("GET", "/v1/subscriptions").json()["subscriptions"]?.elements?.first?["may_be_doubled"]?.bool
                            == true)
                }
            }
        }

        /// Webhooks carry everything: what comes to the subscription's URL becomes jobs, with what the provider gave at hand.
        @Test func aSubscribedTriggerWithoutAPollReadsItsOwnWebhooks() async throws {
            try await withTemporaryDirectory { directory in
                try await SubscriptionProvider.with { provider in
                    let sluice = try Hooks.server(directory, provider, .notified)
                    defer { sluice.kill9() }
                    try await sluice.start()
                    try await Hooks.waitForOne(provider, sluice, "after the start")
                    let id = try #require(provider.hooks.first?.id)
                    for _ in 0..<3 { #expect(await provider.makeRecord() == [200]) }
                    try await waitUntil("a job for each webhook", seconds: 60) { try await sluice.jobs().count == 3 }
                    let records = try await sluice.jobs().map { String(decoding: $0.record, as: UTF8.self) }
                    #expect(records.allSatisfy { $0.contains("\"hook\":\(id)") }, "\(records)")
                }
            }
        }

        @Test func aServerThatProvidersCannotReachSaysSoAndPolls() async throws {
            try await withTemporaryDirectory { directory in
                try await SubscriptionProvider.with { provider in
                    let sluice = try Hooks.server(directory, provider, .data, hasPublicURL: false)
                    defer { sluice.kill9() }
                    await provider.makeRecord()
                    try await sluice.start()
                    try await waitUntil("it polls all the same", seconds: 60) { try await sluice.jobs().count == 1 }
                    try await waitUntil("it runs") { try await Hooks.state(sluice) == "running" }
                    let shown = try await sluice.trigger("records")["subscription"]
                    #expect(shown?["problem"]?.string?.contains("--public-url") == true && shown?["state"]?.string == "none")
                    #expect(provider.hooks.isEmpty && provider.count(.create) == 0)
                    // Without webhooks it polls every five minutes, not every twelve hours: once the first cycle has ended.
                    try await waitUntil("the next poll is one of the interval") {
                        try await sluice.trigger("records")["next_cause"]?.string == "interval"
                    }
                }
            }
        }
    }
}
