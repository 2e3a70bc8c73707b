import ArgumentParser
import SluiceCore
import SluiceServer

struct FilterCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "filter", abstract: "Which jobs of a trigger a destination gets, and what of them.", subcommands: [Try.self],
        aliases: ["filters"])

    struct Try: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Try a filter and a projection on past jobs. Nothing is stored or delivered.",
            discussion: """
                A filter is an expression in Lua, such as 'record.amount > 100', or a body with `return`. What is not given here \
                comes from what the destination has now.
                """)
        @OptionGroup var reach: Reach
        @Flag(help: "Print the API's answer as JSON.") var json = false
        @Argument(help: "The trigger, as `trigger list` names it.") var trigger: String
        @Option(help: "The filter to try.") var filter: String?
        @Option(help: "Fields to keep, with commas between them: id,customer.email.") var fields: String?
        @Option(help: "Try what this destination has.") var destination: String?
        @Option(parsing: .unconditional, help: "How many jobs, 1 to 1000.") var last = 20
        @Option(parsing: .unconditional, help: "From this position on, instead of the last ones.") var from: Int64?

        func validate() throws {
            if filter == nil, fields == nil, destination == nil {
                throw ValidationError("Say what to try: --filter EXPRESSION, --fields PATHS, or --destination NAME.")
            }
        }

        func run() async throws {
            try await reach.connected { caller in
                let answer = try await caller.post("/v1/triggers/\(Percent.encoded(trigger))/filter/try") { writer in
                    if let filter { writer.member("filter", filter) }
                    if let destination { writer.member("destination", destination) }
                    if let fields {
                        writer.key("fields")
                        writer.array { writer in for path in fields.split(separator: ",") { writer.value(String(path)) } }
                    }
                    writer.member("last", Int64(last))
                    if let from { writer.member("from", from) }
                }
                if json { return Terminal.out(String(decoding: answer.bytes, as: UTF8.self)) }
                show(answer)
            }
        }

        private func show(_ answer: JSONView) {
            let rows = (answer["jobs"]?.elements ?? []).map { job in
                [
                    Show.text(job["position"]), Show.text(job["result"]), Show.brief(Show.text(job["dedup_key"]), 30),
                    Show.brief(Show.text(job["result"]?.string == "error" ? job["error"] : job["record"]), 100),
                ]
            }
            if rows.isEmpty { return Terminal.out("0 jobs: \(nothing(answer))") }
            Terminal.out(Table.text(["position", "result", "dedup key", "record or error"], rows))
            let (passed, skipped, failed) = (Show.text(answer["passed"]), Show.text(answer["skipped"]), Show.text(answer["failed"]))
            let fate = failed == "0" ? "" : "; those that fail would be dead letters"
            Terminal.out("\(rows.count) jobs: \(passed) pass, \(skipped) are left out, \(failed) fail\(fate).")
            let absent = (answer["absent"]?.elements ?? []).map { Show.text($0) }
            if !absent.isEmpty { Terminal.out("No job had: \(absent.joined(separator: ", ")).") }
        }

        private func nothing(_ answer: JSONView) -> String {
            guard let last = answer["last_position"]?.int64, last > 0 else { return "\(trigger) has made none yet." }
            guard let from, from > last else { return "those of \(trigger) up to position \(last) are kept no longer." }
            return "the last position of \(trigger) is \(last)."
        }
    }
}
