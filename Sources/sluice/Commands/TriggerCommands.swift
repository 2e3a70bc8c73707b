import ArgumentParser
import SluiceCore
import SluiceServer

struct TriggerCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "trigger", abstract: "What is watched: its state, its cursor, its polls.",
        subcommands: [
            List.self, ShowOne.self, Start.self, Pause.self, Resume.self, Poll.self, Stop.self, Remove.self, Quarantine.self, Cursor.self,
        ],
        aliases: ["triggers"])

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "All triggers.")
        @OptionGroup var reach: Reach
        @OptionGroup var listing: Listing

        func run() async throws {
            try await reach.connected { caller in
                let answer = try await caller.get("/v1/triggers", listing.query)
                listing.show(
                    answer, "triggers",
                    [
                        Column("name", "name"), Column("state", "state"), Column("connection", "connection"), Column("type", "type"),
                        Column("jobs", "jobs"), Column("news", "news_waiting"), Column("last success", "last_success_at"),
                        Column("trouble") { row in
                            Show.brief(Show.text(row["reason"]?.isNull == false ? row["reason"] : row["last_error"]))
                        },
                    ], none: "There are no triggers: define one in sluice.yaml and `sluice apply -f sluice.yaml`.")
            }
        }
    }

    struct ShowOne: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "show", abstract: "One trigger: its progress, its next poll, what it waits for and until when.")
        @OptionGroup var reach: Reach
        @OptionGroup var single: Single
        @Argument(help: "The trigger, as `trigger list` names it.") var name: String

        func run() async throws {
            try await reach.connected { caller in
                // What one looks for first: its state, what it waits for, how far it is.
                single.show(
                    try await caller.get("/v1/triggers/\(Percent.encoded(name))"),
                    first: [
                        "name", "state", "reason", "polling_now", "next_due_at", "next_cause", "waits_for", "waits_until", "news_waiting",
                        "subscription", "last_start_at", "last_success_at", "failures", "last_error", "quarantined", "jobs", "cursor",
                    ])
            }
        }
    }

    struct Named: ParsableArguments {
        @OptionGroup var reach: Reach
        @OptionGroup var single: Single
        @Argument(help: "The trigger, as `trigger list` names it.") var name: String

        func send(_ command: TriggerCommand) async throws {
            try await reach.connected { caller in
                let answer = try await caller.post("/v1/triggers/\(Percent.encoded(name))/\(command.rawValue)")
                let polls = command == .poll
                single.showChange(answer, of: name, saysAlready: !polls, more: polls && caller.isServer ? "; a poll is due now" : "")
            }
        }
    }

    struct Start: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Start it: it polls at once.")
        @OptionGroup var named: Named
        func run() async throws { try await named.send(.start) }
    }

    struct Pause: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Stop polling; webhooks are kept, nothing is lost.")
        @OptionGroup var named: Named
        func run() async throws { try await named.send(.pause) }
    }

    struct Resume: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Go on from the cursor, at once.")
        @OptionGroup var named: Named
        func run() async throws { try await named.send(.resume) }
    }

    struct Poll: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Poll now.")
        @OptionGroup var named: Named
        func run() async throws { try await named.send(.poll) }
    }

    struct Stop: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Stop it: webhooks are no longer kept for it, its data stays.")
        @OptionGroup var named: Named
        func run() async throws { try await named.send(.stop) }
    }

    struct Quarantine: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Records that could not become jobs, and why; --retry makes jobs of them by the connector as it is now, --discard "
                + "gives them up.")
        @OptionGroup var reach: Reach
        @Flag(help: "Print the API's answer as JSON.") var json = false
        @Option(parsing: .unconditional, help: "How many at most.") var limit = 50
        @Flag(help: "The connector was mended: try again. What still cannot be read or keyed stays. Exit code 1 if something does.")
        var retry = false
        @Flag(help: "Nothing is to become of them: they are listed no more, and not set aside again. Needs --digest or --all.")
        var discard = false
        @Option(help: ArgumentHelp("With --retry or --discard: only this one; can be repeated.", valueName: "digest"))
        var digest: [String] = []
        @Flag(help: "With --discard: all of them.") var all = false
        @Argument(help: "The trigger, as `trigger list` names it.") var name: String

        func validate() throws {
            if retry, discard { throw ValidationError("--retry makes jobs of records, and --discard gives them up: give one of them") }
            if !digest.isEmpty, !retry, !discard { throw ValidationError("--digest is for --retry and --discard") }
            if all, !discard { throw ValidationError("--all is for --discard") }
            if discard, digest.isEmpty != all { throw ValidationError("--discard needs either --digest or --all") }
        }

        func run() async throws {
            try await reach.connected { caller in
                if retry { return try await tryAgain(caller) }
                if discard { return try await giveUp(caller) }
                let answer = try await caller.get("/v1/triggers/\(Percent.encoded(name))/quarantine", [("limit", String(limit))])
                if json { return Terminal.out(String(decoding: answer.bytes, as: UTF8.self)) }
                let rows = (answer["quarantine"]?.elements ?? []).map {
                    [
                        String(Show.text($0["digest"]).prefix(12)), Show.brief(Show.text($0["reason"])),
                        Show.brief(Show.text($0["record"])),
                    ]
                }
                Terminal.out(rows.isEmpty ? "Nothing is in quarantine." : Table.text(["digest", "reason", "record"], rows))
            }
        }

        /// The server takes a thousand at a time.
        private func giveUp(_ caller: Caller) async throws {
            var discarded: Int64 = 0
            var answer: JSONView
            var more: Bool
            repeat {
                answer = try await caller.post("/v1/triggers/\(Percent.encoded(name))/quarantine/discard") { writer in
                    if all { writer.member("all", true) } else { which(&writer) }
                }
                let count = answer["discarded"]?.int64 ?? 0
                discarded += count
                more = all && count > 0 && answer["left"]?.int64 ?? 0 > 0
                if more { Terminal.progress("\(discarded) discarded, \(Show.text(answer["left"])) still set aside") }
            } while more
            Terminal.progress("")
            if json {
                var writer = JSONWriter()
                writer.object { writer in
                    writer.member("trigger", name)
                    writer.member("discarded", discarded)
                    writer.member("left", answer["left"]?.int64 ?? 0)
                }
                return Terminal.out(String(decoding: writer.bytes, as: UTF8.self))
            }
            Terminal.out("\(name): \(discarded) discarded, \(Show.text(answer["left"])) still set aside")
        }

        private func which(_ writer: inout JSONWriter) {
            guard !digest.isEmpty else { return }
            writer.key("digests")
            writer.array { writer in for text in digest { writer.value(text) } }
        }

        private func tryAgain(_ caller: Caller) async throws {
            let answer = try await caller.post("/v1/triggers/\(Percent.encoded(name))/quarantine/retry") { which(&$0) }
            let left = answer["left"]?.elements ?? []
            if json {
                Terminal.out(String(decoding: answer.bytes, as: UTF8.self))
            } else {
                Terminal.out("\(name): \(Show.text(answer["jobs"])) jobs made; \(Show.text(answer["removed"])) set aside no longer")
                for part in left { Terminal.out("  \(Show.text(part["digest"]).prefix(12))  \(Show.text(part["reason"]))") }
            }
            if !left.isEmpty { throw ExitCode(1) }
        }
    }

    struct Cursor: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "cursor", abstract: "How far its polls have come.",
            subcommands: [ShowCursor.self, SetCursor.self, ResetCursor.self])
    }

    struct ShowCursor: AsyncParsableCommand {
        static let configuration = CommandConfiguration(commandName: "show", abstract: "The cursor, and how far back dedup keys are kept.")
        @OptionGroup var reach: Reach
        @OptionGroup var single: Single
        @Argument(help: "The trigger, as `trigger list` names it.") var name: String
        func run() async throws {
            try await reach.connected { single.show(try await $0.get("/v1/triggers/\(Percent.encoded(name))/cursor")) }
        }
    }

    struct SetCursor: AsyncParsableCommand {
        static let configuration = CommandConfiguration(commandName: "set", abstract: "Poll from another cursor.")
        @OptionGroup var reach: Reach
        @OptionGroup var single: Single
        @Argument(help: "The trigger, as `trigger list` names it.") var name: String
        @Argument(help: "The cursor as JSON, as `cursor show` prints it.") var cursor: String
        @Flag(help: "Even if records that were jobs may become jobs again.") var confirm = false

        func validate() throws {
            if (try? JSONDocument(Array(cursor.utf8))) == nil {
                throw ValidationError("The cursor must be JSON, as `cursor show` prints it; quote a text: '\"…\"'.")
            }
        }

        func run() async throws {
            try await reach.connected { caller in
                single.show(
                    try await caller.post("/v1/triggers/\(Percent.encoded(name))/cursor", method: "PUT") { writer in
                        writer.key("cursor")
                        writer.raw(cursor.utf8)
                        writer.member("confirm", confirm)
                    })
            }
        }
    }

    struct ResetCursor: AsyncParsableCommand {
        static let configuration = CommandConfiguration(commandName: "reset", abstract: "Poll as if for the first time.")
        @OptionGroup var reach: Reach
        @OptionGroup var single: Single
        @Argument(help: "The trigger, as `trigger list` names it.") var name: String
        @Flag(help: "Even if records that were jobs may become jobs again.") var confirm = false

        func run() async throws {
            try await reach.connected { caller in
                let query: [(name: String, value: String)] = confirm ? [("confirm", "true")] : []
                single.show(try await caller.ask(APIRequest("DELETE", "/v1/triggers/\(Percent.encoded(name))/cursor", query: query)))
            }
        }
    }
}
