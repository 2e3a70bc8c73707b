import ArgumentParser
import Foundation
import SluiceCore
import SluiceServer

struct DeadLetterCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "dead-letter", abstract: "Deliveries that were given up: look at them, deliver them again, or put them aside.",
        subcommands: [List.self, ShowOne.self, Replay.self, Discard.self], aliases: ["dead-letters"])

    /// Which are meant.
    struct Selection: ParsableArguments {
        @Option(help: "Only of this destination.") var destination: String?
        @Option(help: "Only of this trigger.") var trigger: String?
        @Option(help: "Only those given up for this: exhausted, gone, expired, filter, detached, refused, too_large, removed.") var reason:
            String?
        @Option(parsing: .unconditional, help: "Only what died then or later: 2026-01-31T09:05:00Z, or how long ago: 2h.") var since:
            String?
        @Option(help: "Only what died before then.") var until: String?

        var query: [(name: String, value: String?)] {
            [("destination", destination), ("trigger", trigger), ("reason", reason), ("since", since), ("until", until)]
        }
        var isEmpty: Bool { query.allSatisfy { $0.value == nil } }
    }

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Dead letters, the ones that died last first.")
        @OptionGroup var reach: Reach
        @OptionGroup var listing: Listing
        @OptionGroup var selection: Selection
        @Flag(help: "Those that were discarded, instead.") var discarded = false

        func run() async throws {
            try await reach.connected { caller in
                let answer = try await caller.get(
                    "/v1/dead-letters", listing.query + selection.query + [("discarded", discarded ? "true" : nil)])
                let columns = [
                    Column("id", "id"), Column("died", "died_at"), Column("destination", "destination"), Column("trigger", "trigger"),
                    Column("position", "position"), Column("reason", "reason"), Column("attempts", "attempts"),
                ]
                let last =
                    discarded
                    ? [Column("discarded", "discarded_at"), Column("by", "discarded_by"), Column("because", "discarded_because")]
                    : [Column("last error") { Show.brief(Show.text($0["last_error"])) }]
                listing.show(
                    answer, "dead_letters", columns + last,
                    none: discarded
                        ? "Nothing was discarded." : selection.isEmpty ? "There are no dead letters." : "There are none of these.")
            }
        }
    }

    struct ShowOne: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "show", abstract: "One dead letter with each attempt, what was answered, and its job.")
        @OptionGroup var reach: Reach
        @OptionGroup var single: Single
        @Argument(help: "Its number.") var id: Int64

        func run() async throws {
            try await reach.connected { DeadLetterCommands.show(try await $0.get("/v1/dead-letters/\(id)"), single) }
        }
    }

    /// A delivery with its attempts, one after the other.
    static func show(_ answer: JSONView, _ single: Single) {
        if single.json { return single.show(answer) }
        for member in answer.members ?? [] where member.key != "history" && member.key != "job" && !member.value.isNull {
            Terminal.out("\(member.key.padded(18))  \(Show.text(member.value))")
        }
        for attempt in answer["history"]?.elements ?? [] {
            Terminal.out("\nattempt \(Show.text(attempt["at"]))  \(outcome(attempt, of: answer))")
            if let error = attempt["error"]?.string { Terminal.out("  \(error)") }
            if let response = attempt["response"]?.string, !response.isEmpty {
                Terminal.out(
                    "  answer: " + response.split(separator: "\n", omittingEmptySubsequences: false).joined(separator: "\n          "))
            }
        }
        if let job = answer["job"] { Terminal.out("\njob  " + String(decoding: job.bytes, as: UTF8.self)) }
    }

    /// What an attempt came to, in the words of the destination's kind. Where nothing was sent there is no answer to speak of.
    private static func outcome(_ attempt: JSONView, of delivery: JSONView) -> String {
        let time = "\(Show.text(attempt["duration_ms"])) ms"
        let status = attempt["status"]?.int64
        // A filter is asked before anything is sent: nothing was, also by the clock.
        let isLast = attempt["at"]?.string == delivery["history"]?.elements?.last?["at"]?.string
        if delivery["reason"]?.string == "filter", isLast, status == nil, attempt["duration_ms"]?.int64 == 0 { return "not sent" }
        if delivery["kind"]?.string == "command" {
            if let status { return "exit code \(status), \(time)" }
            return (attempt["error"]?.string?.hasPrefix("the program had not ended") == true ? "ended by its time limit" : "no exit code")
                + ", \(time)"
        }
        if delivery["kind"]?.string == "push" || status != nil { return (status.map { "status \($0)" } ?? "no answer") + ", \(time)" }
        return time
    }

    /// Asks again and again until all that is meant is done, telling how far it is.
    static func run(
        _ caller: Caller, _ path: String, _ word: String, _ numbers: [Int64], _ selection: Selection, all: Bool, json: Bool,
        _ more: (inout JSONWriter) -> Void
    ) async throws {
        var (done, after, until, refused): (Int64, String?, String?, [JSONView]) = (0, nil, selection.until, [])
        var detached: Int64 = 0
        repeat {
            let answer = try await caller.post(path) { writer in
                more(&writer)
                if let after { writer.member("after", after) }
                if !numbers.isEmpty {
                    writer.key("deliveries")
                    return writer.array { writer in for number in numbers { writer.value(number) } }
                }
                for item in selection.query where item.name != "until" { if let value = item.value { writer.member(item.name, value) } }
                if let until { writer.member("until", until) }
                if all { writer.member("all", true) }
            }
            done += answer[word]?.int64 ?? 0
            refused += answer["refused"]?.elements ?? []
            detached += answer["detached"]?.int64 ?? 0
            // What dies again meanwhile is not meant.
            until = answer["until"]?.string ?? until
            after = answer["next"]?.string
            if after != nil { Terminal.progress("\(done) \(word)…") }
        } while after != nil && !Task.isCancelled
        Terminal.progress("")
        var writer = JSONWriter()
        writer.object { writer in
            writer.member(word, done)
            writer.key("refused")
            writer.array { writer in for one in refused { writer.raw(one.bytes) } }
            writer.member("detached", detached)
        }
        if json { return Terminal.out(writer.string) }
        Terminal.out("\(done) \(word).")
        for one in refused {
            Terminal.error("Not \(Show.text(one["id"])): \(one["state"]?.string.map { "it is \($0)" } ?? "there is no such delivery").")
        }
        if detached > 0 {
            Terminal.error(
                "\(detached) left alone: their trigger no longer delivers there. Attach it again and replay, or discard them.")
        }
    }

    struct Replay: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Deliver dead letters again: new attempts of the same jobs, from the first wait of the schedule.",
            discussion: "By number, also those that were discarded. Mend what made them fail first: the others die again.")
        @OptionGroup var reach: Reach
        @Argument(help: "Numbers, as `dead-letter list` shows them.") var numbers: [Int64] = []
        @OptionGroup var selection: Selection
        @Flag(help: "All dead letters.") var all = false
        @Flag(help: "Print the result as JSON.") var json = false

        func validate() throws { try DeadLetterCommands.validate(numbers, selection, all) }

        func run() async throws {
            try await reach.connected { caller in
                try await DeadLetterCommands.run(
                    caller, "/v1/dead-letters/replay", "replayed", numbers, selection, all: all, json: json
                ) { _ in }
            }
        }
    }

    struct Discard: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Say of dead letters that nobody is to deliver them. They stay visible for as long as jobs are kept.")
        @OptionGroup var reach: Reach
        @Argument(help: "Numbers, as `dead-letter list` shows them.") var numbers: [Int64] = []
        @OptionGroup var selection: Selection
        @Flag(help: "All dead letters.") var all = false
        @Option(help: "Why: it is kept with them.") var because: String
        @Flag(help: "Print the result as JSON.") var json = false

        func validate() throws { try DeadLetterCommands.validate(numbers, selection, all) }

        func run() async throws {
            try await reach.connected { caller in
                try await DeadLetterCommands.run(
                    caller, "/v1/dead-letters/discard", "discarded", numbers, selection, all: all, json: json
                ) { writer in
                    writer.member("because", because)
                    if let user = reach.environment["USER"], !user.isEmpty { writer.member("by", user) }
                }
            }
        }
    }

    static func validate(_ numbers: [Int64], _ selection: Selection, _ all: Bool) throws {
        if numbers.isEmpty, selection.isEmpty, !all {
            throw ValidationError("Say which: numbers, --destination, --trigger, --reason, --since, --until, or --all.")
        }
        if !numbers.isEmpty, !selection.isEmpty || all {
            throw ValidationError("Say either numbers, or which ones by what they have in common.")
        }
        if numbers.count > 1000 { throw ValidationError("At most 1000 numbers at once; say what they have in common instead.") }
    }
}
