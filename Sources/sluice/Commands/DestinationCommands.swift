import ArgumentParser
import SluiceCore
import SluiceServer

struct DestinationCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "destination", abstract: "Where jobs go, and how that goes.",
        subcommands: [List.self, ShowOne.self, RotateSecret.self, Pause.self, Resume.self, Remove.self], aliases: ["destinations"])

    /// A trigger's name, and what is special about what it delivers there.
    private static func attachment(_ row: JSONView) -> String {
        var notes: [String] = []
        if let filter = row["filter"]?.string { notes.append("filter: \(Show.brief(filter, 40))") }
        if let fields = row["fields"]?.elements, !fields.isEmpty { notes.append("\(fields.count) fields") }
        if let position = row["catching_up_at"]?.int64 { notes.append("catching up, at position \(position)") }
        return Show.text(row["trigger"]) + (notes.isEmpty ? "" : " (\(notes.joined(separator: "; ")))")
    }

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Destinations, and the triggers that deliver to them.")
        @OptionGroup var reach: Reach
        @OptionGroup var listing: Listing

        func run() async throws {
            try await reach.connected { caller in
                listing.show(
                    try await caller.get("/v1/destinations", listing.query), "destinations",
                    [
                        Column("name", "name"), Column("kind", "kind"), Column("state", "state"), Column("url", "url"),
                        Column("triggers") { row in
                            let all = row["attachments"]?.elements ?? []
                            return all.isEmpty ? "-" : all.map(DestinationCommands.attachment).joined(separator: ", ")
                        },
                        Column("reason") { Show.brief(Show.text($0["reason"])) },
                    ], none: "There are no destinations: define one in sluice.yaml, or read jobs with `sluice jobs list`.")
            }
        }
    }

    struct ShowOne: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "show", abstract: "One destination: its limits and keys, what waits for it, what holds it up.")
        @OptionGroup var reach: Reach
        @OptionGroup var single: Single
        @Argument(help: "The destination, as `destination list` names it.") var name: String

        func run() async throws {
            try await reach.connected { caller in
                single.show(
                    try await caller.get("/v1/destinations/\(Percent.encoded(name))"),
                    first: [
                        "name", "kind", "state", "reason", "since", "url", "breaker", "failures_in_row", "rests_until", "last_error",
                        "blocked_by", "pending", "dead_letters", "counted_up_to", "next_attempt_at",
                    ])
            }
        }
    }

    struct RotateSecret: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "rotate-secret", abstract: "Make a new secret and show it once; the former ones sign beside it for a while.")
        @OptionGroup var reach: Reach
        @OptionGroup var single: Single
        @Option(parsing: .unconditional, help: "For how long the former ones go on signing.") var overlap = "24h"
        @Option(help: "v1 (a shared secret) or v1a (ed25519: the receiver gets a public key only). As before unless given.")
        var signature: String?
        @Argument(help: "The destination, as `destination list` names it.") var name: String

        func run() async throws {
            try await reach.connected { caller in
                let answer = try await caller.post("/v1/destinations/\(Percent.encoded(name))/rotate-secret") { writer in
                    writer.member("overlap", overlap)
                    if let signature { writer.member("signature", signature) }
                }
                single.show(answer)
                if !single.json {
                    let forReceiver = answer["public_key"]?.string == nil ? "it" : "the public key, and only that,"
                    Terminal.error(
                        "Note: the secret is shown once. Give \(forReceiver) to the receiver, and put the secret where sluice.yaml reads it from."
                    )
                }
            }
        }
    }

    struct Named: ParsableArguments {
        @OptionGroup var reach: Reach
        @OptionGroup var single: Single
        @Argument(help: "The destination, as `destination list` names it.") var name: String

        func send(_ word: String) async throws {
            try await reach.connected { caller in
                single.showChange(try await caller.post("/v1/destinations/\(Percent.encoded(name))/\(word)"), of: name)
            }
        }
    }

    struct Pause: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Carry nothing there; deliveries wait, nothing is lost.")
        @OptionGroup var named: Named
        func run() async throws { try await named.send("pause") }
    }

    struct Resume: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Go on, also after it was gone (HTTP 410) or its breaker opened.")
        @OptionGroup var named: Named
        func run() async throws { try await named.send("resume") }
    }
}
