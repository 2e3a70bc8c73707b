import ArgumentParser
import SluiceCore
import SluiceServer

struct JobCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "jobs", abstract: "What the polls found: one job for each new record.",
        subcommands: [List.self, ShowOne.self, Tail.self], aliases: ["job"])

    static let columns = [
        Column("made", "created_at"), Column("trigger", "trigger"), Column("position", "position"), Column("cause", "cause"),
        Column("dedup key") { Show.brief(Show.text($0["dedup_key"]), 40) }, Column("id", "id"),
    ]

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Jobs, the newest first; with --after, oldest first from there.")
        @OptionGroup var reach: Reach
        @OptionGroup var listing: Listing
        @Option(help: "Only of this trigger.") var trigger: String?
        @Flag(help: "The oldest first, from the oldest that is kept.") var oldest = false

        func run() async throws {
            try await reach.connected { caller in
                let isNewest = !oldest && listing.after == nil
                let answer = try await caller.get(
                    "/v1/jobs",
                    listing.query + [("trigger", trigger), ("newest", isNewest ? "true" : nil), ("records", listing.json ? nil : "false")])
                if isNewest, !listing.json {
                    let rows = (answer["jobs"]?.elements ?? []).map { row in JobCommands.columns.map { $0.value(row) } }
                    return Terminal.out(rows.isEmpty ? "There are no jobs yet." : Table.text(JobCommands.columns.map(\.title), rows))
                }
                listing.show(
                    answer, "jobs", JobCommands.columns, none: "There are no jobs" + (listing.after == nil ? " yet." : " after that."))
            }
        }
    }

    struct ShowOne: AsyncParsableCommand {
        static let configuration = CommandConfiguration(commandName: "show", abstract: "One job with its record.")
        @OptionGroup var reach: Reach
        @OptionGroup var single: Single
        @Argument(help: "job_…, or TRIGGER:POSITION.") var id: String

        func run() async throws {
            try await reach.connected { single.show(try await $0.get("/v1/jobs/\(Percent.encoded(id))")) }
        }
    }

    struct Tail: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Jobs as they are made, until Ctrl-C. With --json a line each, with its record.")
        @OptionGroup var reach: Reach
        @Flag(help: "Each job as JSON, on a line of its own.") var json = false
        @Option(help: "Only of this trigger.") var trigger: String?
        @Option(help: "Begin after this token, rather than with what comes now.") var after: String?
        @Flag(help: "Begin with the oldest job that is kept.") var all = false

        func run() async throws {
            try await reach.connected { caller in
                guard caller.isServer else {
                    throw SluiceError(.notFound, "no server runs, so no jobs are made: start one with `sluice serve`")
                }
                var token = all ? nil : after
                if token == nil, !all { token = try await newest(caller) }
                Terminal.progress("waiting for jobs…")
                while !Task.isCancelled {
                    let page = try await caller.get(
                        "/v1/jobs", [("after", token), ("wait", "30"), ("trigger", trigger), ("records", json ? nil : "false")])
                    token = page["next"]?.string ?? token
                    let jobs = page["jobs"]?.elements ?? []
                    if !jobs.isEmpty { Terminal.progress("") }
                    for job in jobs { Terminal.out(json ? String(decoding: job.bytes, as: UTF8.self) : line(job)) }
                }
            }
        }

        /// The token behind the newest job there is.
        private func newest(_ caller: Caller) async throws -> String? {
            let page = try await caller.get("/v1/jobs", [("newest", "true"), ("limit", "1"), ("trigger", trigger), ("records", "false")])
            return page["jobs"]?.elements?.first?["seq_token"]?.string
        }

        private func line(_ job: JSONView) -> String {
            [
                Show.text(job["created_at"]), Show.text(job["trigger"]), "#" + Show.text(job["position"]),
                Show.text(job["cause"]).padded(8),
                Show.text(job["dedup_key"]),
            ].joined(separator: "  ")
        }
    }
}
