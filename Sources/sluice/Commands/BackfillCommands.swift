import ArgumentParser
import SluiceCore
import SluiceServer

struct BackfillCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "backfill", abstract: "A window of a trigger's provider, read again beside the live polls.",
        subcommands: [Start.self, List.self, ShowOne.self, Pause.self, Resume.self, Cancel.self], aliases: ["backfills"])

    /// What is read again.
    struct Window: ParsableArguments {
        @Argument(help: "The trigger, as `trigger list` names it.") var trigger: String
        @Option(parsing: .unconditional, help: "Where the window begins, with its zone: 2026-01-31T09:00:00Z.") var from: String
        @Option(parsing: .unconditional, help: "Where it ends, itself not included; now if left out.") var to: String?
        @Option(help: "Where to begin, by hand, as JSON: for lists that cannot be read by time.") var cursor: String?
        @Flag(help: "Even where retention removed what there was: records of it may become jobs again.") var beyondRetention = false

        /// Throws where `--cursor` is not JSON.
        func checkCursor() throws -> [UInt8]? {
            guard let cursor else { return nil }
            guard (try? JSONDocument(Array(cursor.utf8))) != nil else {
                throw ValidationError(
                    "--cursor is JSON, as `sluice trigger cursor show \(trigger)` prints it: a text stands in quotes of its own")
            }
            return Array(cursor.utf8)
        }

        func write(_ cursor: [UInt8]?, to writer: inout JSONWriter) {
            writer.member("trigger", trigger)
            if let cursor {
                writer.key("cursor")
                writer.raw(cursor)
            }
            writer.member("from", from)
            if let to { writer.member("to", to) }
            if beyondRetention { writer.member("beyond_retention", true) }
        }
    }

    struct Start: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Begin one.",
            discussion: """
                missing-only  a record whose job is unknown becomes a job
                replay-all    that, and what is known is delivered again, with the same ids
                dry-run       nothing but the difference is written down
                """)
        @OptionGroup var reach: Reach
        @OptionGroup var window: Window
        @Option(help: "missing-only, replay-all or dry-run.") var mode: String
        @Flag(help: "Wait until it has ended.") var wait = false
        @Flag(help: "Print the API's answer as JSON.") var json = false

        func run() async throws {
            let cursor = try window.checkCursor()
            try await reach.connected { caller in
                let started = try await caller.post("/v1/backfills") { writer in
                    window.write(cursor, to: &writer)
                    writer.member("mode", mode)
                }
                try await BackfillCommands.follow(started, caller, waits: wait, json: json)
            }
        }
    }

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "All that are kept, the newest first.")
        @OptionGroup var reach: Reach
        @OptionGroup var listing: Listing
        @Option(help: "Only of this trigger.") var trigger: String?
        @Flag(help: "Only those that have not ended.") var unfinished = false

        func run() async throws {
            try await reach.connected { caller in
                let answer = try await caller.get(
                    "/v1/backfills", listing.query + [("trigger", trigger), ("unfinished", unfinished ? "true" : nil)])
                listing.show(
                    answer, "backfills",
                    [
                        Column("number", "id"), Column("trigger", "trigger"),
                        Column("mode") { $0["audit"]?.bool == true ? "audit" : Show.text($0["mode"]) },
                        Column("from", "from"), Column("to", "to"), Column("state", "state"),
                        Column("records") { Show.text($0["counts"]?["provider"]) },
                        Column("missing") { Show.text($0["counts"]?["missing"]) },
                        Column("repaired") { Show.text($0["counts"]?["repaired"]) },
                        Column("trouble") { Show.brief(Show.text($0["waits_for"]?.isNull == false ? $0["waits_for"] : $0["last_error"])) },
                    ], none: "There are no backfills.")
            }
        }
    }

    struct ShowOne: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "show", abstract: "One of them: how far it is, what it found; with --differences, which records.")
        @OptionGroup var reach: Reach
        @Argument(help: "Its number, as `backfill list` shows it.") var number: Int64
        @Option(help: "Which records differ: missing, extra or key_only.") var differences: String?
        @OptionGroup var listing: Listing

        func run() async throws {
            try await reach.connected { caller in
                guard let differences else {
                    let answer = try await caller.get("/v1/backfills/\(number)")
                    return BackfillCommands.show(answer, json: listing.json)
                }
                let answer = try await caller.get("/v1/backfills/\(number)/differences", listing.query + [("kind", differences)])
                listing.show(
                    answer, "differences", [Column("position", "position"), Column("dedup key", "dedup_key"), Column("job", "job_id")],
                    none: "There are none.")
            }
        }
    }

    struct Numbered: ParsableArguments {
        @OptionGroup var reach: Reach
        @Argument(help: "Its number, as `backfill list` shows it.") var number: Int64
        @Flag(help: "Print the API's answer as JSON.") var json = false

        func send(_ command: BackfillCommand) async throws {
            try await reach.connected { caller in
                let answer = try await caller.post("/v1/backfills/\(number)/\(command.rawValue)")
                if json { return BackfillCommands.show(answer, json: true) }
                Terminal.out("backfill \(number): \(Show.text(answer["state"]))")
            }
        }
    }

    struct Pause: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Stop for now: it goes on where it was.")
        @OptionGroup var numbered: Numbered
        func run() async throws { try await numbered.send(.pause) }
    }

    struct Resume: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Go on; one that waits tries again at once.")
        @OptionGroup var numbered: Numbered
        func run() async throws { try await numbered.send(.resume) }
    }

    struct Cancel: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "End it. Jobs that it made stay.")
        @OptionGroup var numbered: Numbered
        func run() async throws { try await numbered.send(.cancel) }
    }

    // MARK: What people see

    static func show(_ backfill: JSONView, json: Bool) {
        if json { return Terminal.out(String(decoding: backfill.bytes, as: UTF8.self)) }
        Terminal.out(
            Show.members(backfill, first: ["id", "trigger", "state", "waits_for", "waits_until", "statement", "mode", "from", "to"]))
    }

    /// Shows what was begun or, once it has ended, what came of it. Exit code 1 if it did not come to its end, or something that the
    /// provider has is still missing.
    static func follow(_ started: JSONView, _ caller: Caller, waits: Bool, json: Bool) async throws {
        var backfill = started
        let number = Show.text(started["id"])
        guard waits else {
            if json { return show(backfill, json: true) }
            return Terminal.out("backfill \(number) begins: see `sluice backfill show \(number)`")
        }
        while let state = backfill["state"]?.string, state == "running" {
            let reason = backfill["waits_for"]?.string.map { ", waits for: \($0)" } ?? ""
            let counts = backfill["counts"]
            Terminal.progress(
                "backfill \(number), \(Show.text(backfill["phase"])): \(Show.text(counts?["provider"])) records, "
                    + "\(Show.text(counts?["missing"])) missing\(reason)")
            try await Task.sleep(for: .milliseconds(300))
            backfill = try await caller.get("/v1/backfills/\(number)")
        }
        Terminal.progress("")
        if json {
            show(backfill, json: true)
        } else {
            Terminal.out(backfill["statement"]?.string ?? "backfill \(number): \(Show.text(backfill["state"]))")
        }
        if !json, let error = backfill["last_error"]?.string { Terminal.error(error) }
        let counts = backfill["counts"]
        let has = (counts?["kept"]?.int64 ?? 0) + (counts?["key_only"]?.int64 ?? 0)
        guard backfill["state"]?.string == "done", has == counts?["provider"]?.int64 else { throw ExitCode(1) }
    }
}

struct AuditCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "audit",
        abstract: "Compare a trigger's jobs with its provider: what it had from T1 to T2, what Sluice has, what is missing.",
        discussion: "Exit code 1 if something is missing that was not repaired.")
    @OptionGroup var reach: Reach
    @OptionGroup var window: BackfillCommands.Window
    @Flag(help: "Make jobs of what is missing.") var repair = false
    @Flag(help: "Do not wait for its end: `backfill show` has the statement then.") var background = false
    @Flag(help: "Print the API's answer as JSON.") var json = false

    func run() async throws {
        let cursor = try window.checkCursor()
        try await reach.connected { caller in
            let started = try await caller.post("/v1/backfills") { writer in
                window.write(cursor, to: &writer)
                writer.member("audit", true)
                if repair { writer.member("repair", true) }
            }
            try await BackfillCommands.follow(started, caller, waits: !background, json: json)
        }
    }
}
