import ArgumentParser
import SluiceCore
import SluiceServer

struct ConsumerCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "consumer", abstract: "Who fetches jobs by name and acks them.",
        subcommands: [List.self, ShowOne.self, Fetch.self, Ack.self, Nack.self, Extend.self, Seek.self], aliases: ["consumers"])

    static func path(_ name: String, _ rest: String = "") -> String { "/v1/consumers/\(Percent.encoded(name))\(rest)" }

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Consumers, and how far they have come.")
        @OptionGroup var reach: Reach
        @OptionGroup var listing: Listing

        func run() async throws {
            try await reach.connected { caller in
                listing.show(
                    try await caller.get("/v1/consumers", listing.query), "consumers",
                    [
                        Column("name", "name"), Column("triggers", "triggers"),
                        Column("waiting") { Show.text($0["waiting"]) + ($0["waiting_is_more"]?.bool == true ? "+" : "") },
                        Column("unacked", "unacked"), Column("in hand", "in_hand"), Column("oldest", "oldest_at"),
                    ], none: "There are no consumers: a destination of the kind pull is one.")
            }
        }
    }

    struct ShowOne: AsyncParsableCommand {
        static let configuration = CommandConfiguration(commandName: "show", abstract: "One consumer, what it has in hand and who asks.")
        @OptionGroup var reach: Reach
        @OptionGroup var single: Single
        @Argument(help: "Its name.") var name: String

        func run() async throws {
            try await reach.connected { single.show(try await $0.get(ConsumerCommands.path(name))) }
        }
    }

    struct Fetch: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Take jobs on loan. Prints the API's answer: ack the lease, or they come again.")
        @OptionGroup var reach: Reach
        @Argument(help: "The consumer.") var name: String
        @Option(parsing: .unconditional, help: "How many at most.") var max: Int?
        @Option(parsing: .unconditional, help: "Wait for jobs for up to so long: 0 to 60s. A plain number is seconds.") var wait: Seconds?
        @Option(parsing: .unconditional, help: "For how long nobody else gets them: 30s, 5m. A plain number is seconds.")
        var visibility: Seconds?
        @Option(help: "What you call yourself.") var worker: String?
        @Option(help: ArgumentHelp("The lease of the fetch before, all of whose jobs are done: acks it first.", valueName: "lease"))
        var ack: String?
        @Flag(help: "Print the API's answer as JSON, as it does without.") var json = false

        func run() async throws {
            try await reach.connected { caller in
                let answer = try await caller.post(ConsumerCommands.path(name, "/fetch")) { writer in
                    if let max { writer.member("max", Int64(max)) }
                    if let wait { writer.member("wait", wait.count) }
                    if let visibility { writer.member("visibility", visibility.count) }
                    if let worker { writer.member("worker", worker) }
                    if let ack { writer.member("ack", ack) }
                }
                Terminal.out(String(decoding: answer.bytes, as: UTF8.self))
            }
        }
    }

    /// Whole seconds: `90`, or with a unit as in sluice.yaml.
    struct Seconds: ExpressibleByArgument {
        var count: Int64
        init?(argument: String) {
            if let plain = Int64(argument) {
                count = plain
            } else if let span = Durations.span(argument), span.milliseconds % 1000 == 0 {
                count = span.milliseconds / 1000
            } else {
                return nil
            }
        }
    }

    /// Which jobs of which lease.
    struct Leased: ParsableArguments {
        @Argument(help: "The consumer.") var name: String
        @Argument(help: "The `lease` of a fetch.") var lease: String
        @Argument(help: "Ids (job_…) or seq_tokens; without any, all of the lease.") var jobs: [String] = []

        func write(to writer: inout JSONWriter) {
            writer.member("lease", lease)
            guard !jobs.isEmpty else { return }
            writer.key("jobs")
            writer.array { writer in for job in jobs { writer.value(job) } }
        }
    }

    struct Ack: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "These jobs are done.")
        @OptionGroup var reach: Reach
        @OptionGroup var single: Single
        @OptionGroup var leased: Leased

        func run() async throws {
            try await reach.connected { caller in
                single.show(try await caller.post(ConsumerCommands.path(leased.name, "/ack")) { leased.write(to: &$0) })
            }
        }
    }

    struct Nack: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "These jobs failed: they come again.")
        @OptionGroup var reach: Reach
        @OptionGroup var single: Single
        @OptionGroup var leased: Leased
        @Option(parsing: .unconditional, help: "In so long: 30s, 5m; otherwise in 1 s, twice as long with each attempt.") var delay:
            Seconds?
        @Option(help: "Why: kept if they become dead letters.") var reason: String?

        func run() async throws {
            try await reach.connected { caller in
                single.show(
                    try await caller.post(ConsumerCommands.path(leased.name, "/nack")) { writer in
                        leased.write(to: &writer)
                        if let delay { writer.member("delay", delay.count) }
                        if let reason { writer.member("reason", reason) }
                    })
            }
        }
    }

    struct Extend: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "More time for a lease, from now.")
        @OptionGroup var reach: Reach
        @OptionGroup var single: Single
        @Argument(help: "The consumer.") var name: String
        @Argument(help: "The `lease` of a fetch.") var lease: String
        @Option(parsing: .unconditional, help: "How long: 30s, 5m. A plain number is seconds.") var visibility: Seconds?

        func run() async throws {
            try await reach.connected { caller in
                single.show(
                    try await caller.post(ConsumerCommands.path(name, "/extend")) { writer in
                        writer.member("lease", lease)
                        if let visibility { writer.member("visibility", visibility.count) }
                    })
            }
        }
    }

    struct Seek: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Go on from another place, as if all before it were acked and nothing after it. Says what it skips.")
        @OptionGroup var reach: Reach
        @OptionGroup var single: Single
        @Argument(help: "The consumer.") var name: String
        @Option(help: "oldest, or now.") var to: String?
        @Option(help: "Behind the job of this token.") var after: String?
        @Option(help: "Before the first job made at this time or later: 2026-01-31T09:05:00Z, or how long ago: 2h.") var time: String?

        func validate() throws {
            if [to, after, time].compactMap({ $0 }).count != 1 { throw ValidationError("Say where to: one of --to, --after and --time.") }
        }

        func run() async throws {
            try await reach.connected { caller in
                single.show(
                    try await caller.post(ConsumerCommands.path(name, "/position"), method: "PUT") { writer in
                        if let to { writer.member("to", to) }
                        if let after { writer.member("after", after) }
                        if let time { writer.member("time", time) }
                    })
            }
        }
    }
}
