import ArgumentParser
import SluiceCore
import SluiceServer

struct InboxCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "inbox", abstract: "Webhooks that were accepted.", subcommands: [List.self, ShowOne.self, Redeliver.self],
        aliases: ["webhook", "webhooks"])

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Webhooks, the newest first.")
        @OptionGroup var reach: Reach
        @OptionGroup var listing: Listing
        @Option(help: "Only of this connection.") var connection: String?
        @Flag(help: "Only those that no trigger was waiting for.") var unmatched = false

        func run() async throws {
            try await reach.connected { caller in
                let answer = try await caller.get(
                    "/v1/inbox", listing.query + [("connection", connection), ("unmatched", unmatched ? "true" : nil)])
                listing.show(
                    answer, "webhooks",
                    [
                        Column("number", "sequence"), Column("received", "received_at"), Column("connection", "connection"),
                        Column("bytes", "body_bytes"), Column("delivery id", "delivery_id"),
                        Column("unmatched") { Show.brief(Show.text($0["unmatched_reason"])) },
                    ], none: "No webhook was accepted yet.")
            }
        }
    }

    struct ShowOne: AsyncParsableCommand {
        static let configuration = CommandConfiguration(commandName: "show", abstract: "One webhook with its headers and body.")
        @OptionGroup var reach: Reach
        @OptionGroup var single: Single
        @Argument(help: "Its number.") var number: Int

        func run() async throws {
            try await reach.connected { caller in
                let answer = try await caller.get("/v1/inbox/\(number)")
                if single.json { return single.show(answer) }
                for member in answer.members ?? [] where member.key != "headers" && member.key != "body" {
                    Terminal.out("\(member.key.padded(16))  \(Show.text(member.value))")
                }
                for header in answer["headers"]?.elements ?? [] {
                    Terminal.out("\(Show.text(header["name"])): \(Show.text(header["value"]))")
                }
                Terminal.out("\n" + (answer["body"]?.string ?? Show.text(answer["body_hex"])))
            }
        }
    }
}

extension InboxCommands {
    struct Redeliver: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Send a webhook through again as if it had just come, even if it is a repetition.",
            discussion: "For one that could not be matched or read, once the connector can. It becomes no job that it was before.")
        @OptionGroup var reach: Reach
        @OptionGroup var single: Single
        @Argument(help: "Its number.") var number: Int

        func run() async throws {
            try await reach.connected { caller in
                single.show(try await caller.post("/v1/inbox/\(number)/redeliver") { _ in })
            }
        }
    }
}

struct DeliveryCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "delivery", abstract: "Jobs on their way to destinations; what was given up is under `dead-letter`.",
        subcommands: [List.self, ShowOne.self], aliases: ["deliveries"])

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Deliveries, the newest first.")
        @OptionGroup var reach: Reach
        @OptionGroup var listing: Listing
        @Option(help: "Only to this destination.") var destination: String?
        @Option(help: "pending, delivered, dead, filtered or discarded.") var state: String?

        func run() async throws {
            try await reach.connected { caller in
                let answer = try await caller.get("/v1/deliveries", listing.query + [("destination", destination), ("state", state)])
                listing.show(
                    answer, "deliveries",
                    [
                        Column("id", "id"), Column("destination", "destination"), Column("trigger", "trigger"),
                        Column("position", "position"),
                        Column("state", "state"), Column("attempts", "attempts"), Column("status", "last_status"),
                        Column("next attempt", "next_attempt_at"), Column("reason") { Show.brief(Show.text($0["reason"])) },
                    ], none: "There are no deliveries.")
            }
        }
    }

    struct ShowOne: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "show", abstract: "One delivery with each attempt, what was answered, and its job.")
        @OptionGroup var reach: Reach
        @OptionGroup var single: Single
        @Argument(help: "Its number.") var id: Int64

        func run() async throws {
            try await reach.connected { DeadLetterCommands.show(try await $0.get("/v1/deliveries/\(id)"), single) }
        }
    }
}

struct TokenCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "token", abstract: "Who may use the API.", subcommands: [Create.self, List.self, Revoke.self],
        aliases: ["tokens"])

    struct Create: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Make a token. It is shown this once.")
        @OptionGroup var reach: Reach
        @Flag(help: "Print the API's answer as JSON.") var json = false
        @Argument(help: "What to call it.") var name: String

        func run() async throws {
            try await reach.connected(absentData: .isMade) { caller in
                let answer = try await caller.post("/v1/tokens") { $0.member("name", name) }
                Terminal.out(json ? String(decoding: answer.bytes, as: UTF8.self) : Show.text(answer["token"]))
                if !json { Terminal.error("Keep it: only its hash is stored.") }
            }
        }
    }

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "The tokens' names.")
        @OptionGroup var reach: Reach
        @OptionGroup var listing: Listing

        func run() async throws {
            try await reach.connected { caller in
                let answer = try await caller.get("/v1/tokens", listing.query)
                listing.show(answer, "tokens", [Column("name", "name"), Column("made", "created_at")], none: "There are no tokens.")
            }
        }
    }

    struct Revoke: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Make a token worthless.")
        @OptionGroup var reach: Reach
        @OptionGroup var single: Single
        @Argument(help: "The token, as `token list` names it.") var name: String

        func run() async throws {
            try await reach.connected { caller in
                single.show(try await caller.ask(APIRequest("DELETE", "/v1/tokens/\(Percent.encoded(name))")))
            }
        }
    }
}
