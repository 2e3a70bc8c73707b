import ArgumentParser
import SluiceCore
import SluiceServer

struct SubscriptionCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "subscription", abstract: "Webhooks that providers were asked to send, one subscription a trigger.",
        subcommands: [List.self, Check.self, RemoveLeftBehind.self], aliases: ["subscriptions"])

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "All subscriptions, and those that were left behind at a provider.")
        @OptionGroup var reach: Reach
        @OptionGroup var listing: Listing
        @Option(help: "Only these: subscribing, active, unsubscribing or left_behind.") var state: String?
        @Option(help: "Only those of this trigger.") var trigger: String?

        func run() async throws {
            try await reach.connected { caller in
                let answer = try await caller.get("/v1/subscriptions", listing.query + [("state", state), ("trigger", trigger)])
                listing.show(
                    answer, "subscriptions",
                    [
                        Column("number", "number"), Column("trigger", "trigger"), Column("state", "state"), Column("expires", "expires_at"),
                        Column("checked", "checked_at"), Column("found", "last_check"), Column("attempts", "attempts"),
                        Column("trouble") { Show.brief(Show.text($0["last_error"])) }, Column("url", "url"),
                    ], none: "There are no subscriptions.")
            }
        }
    }

    struct Check: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Compare with what the providers have, at once. `subscription list` shows what was found.")
        @OptionGroup var reach: Reach
        @OptionGroup var single: Single
        @Argument(help: "A trigger; all unless given.") var trigger: String?

        func run() async throws {
            try await reach.connected { caller in
                single.show(
                    try await caller.post("/v1/subscriptions/check") { writer in
                        if let trigger { writer.member("trigger", trigger) }
                    })
            }
        }
    }

    struct RemoveLeftBehind: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "remove-left-behind",
            abstract: "Remove what was left behind at a provider; forget it here where its name there is not known.")
        @OptionGroup var reach: Reach
        @OptionGroup var single: Single
        @Argument(help: "Its number, as `subscription list` shows it.") var number: Int64

        func run() async throws {
            try await reach.connected { caller in
                single.show(try await caller.post("/v1/subscriptions/\(number)/remove-left-behind"))
            }
        }
    }
}
