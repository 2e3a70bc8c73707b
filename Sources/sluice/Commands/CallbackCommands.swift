import ArgumentParser
import Foundation
import SluiceCore
import SluiceServer

struct CallbackCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "callback", abstract: "Pending operations, such as payments, whose results are waited for.",
        subcommands: [Create.self, List.self, ShowOne.self, Wait.self, Cancel.self], aliases: ["callbacks"])

    struct Create: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Wait for one operation: prints the URL to hand to the provider.")
        @OptionGroup var reach: Reach
        @OptionGroup var single: Single
        @Argument(help: "The connection that knows the provider.") var connection: String
        @Option(help: "The kind of operation, where the connector knows several.") var type: String?
        @Option(help: "What the connector needs to ask for it: a JSON object.") var input: String?
        @Option(help: "When to give up, for example 30m, 12h or 7d.") var expiresIn: String?
        @Option(help: "A destination that the result is carried to; a pull consumer is attached to callbacks:CONNECTION instead.")
        var destination: String?
        @Option(help: ArgumentHelp("In place of --destination: your own URL, which the result is pushed to.", valueName: "url"))
        var push: String?
        @Option(help: ArgumentHelp("File with the secret (whsec_…) with which --push is signed.", valueName: "file"))
        var pushSecretFile: String?
        @Flag(help: "Let --push reach private and loopback addresses.") var allowPrivate = false
        @Option(
            help: ArgumentHelp("Between status polls, in place of the connector's: 5s,15s,1m. The last one repeats.", valueName: "spans"))
        var pauses: String?
        @Option(help: "The same key gives the same callback.") var idempotencyKey: String?

        func validate() throws {
            if (push == nil) != (pushSecretFile == nil) {
                throw ValidationError("--push and --push-secret-file are given together: each push is signed")
            }
            if push != nil, destination != nil { throw ValidationError("give one of --destination and --push") }
            if allowPrivate, push == nil { throw ValidationError("--allow-private is for --push") }
            _ = try pauseSeconds()
        }

        private func pauseSeconds() throws -> [Int64]? {
            try pauses?.split(separator: ",", omittingEmptySubsequences: false).map { text in
                guard let span = ConsumerCommands.Seconds(argument: String(text)) else {
                    throw ValidationError("--pauses is a list such as 5s,15s,1m, of whole seconds; '\(text)' is none")
                }
                return span.count
            }
        }

        private func pushSecret(_ path: String) throws -> String {
            guard let bytes = try SmallFile.read(path), let text = String(validating: bytes, as: UTF8.self) else {
                throw SluiceError(.notFound, "there is no file \(path), or it is not UTF-8").with("file", path)
            }
            return text.trimmingCharacters(in: .whitespacesAndNewlines)
        }

        func run() async throws {
            let pauses = try pauseSeconds()
            let secret = try pushSecretFile.map(pushSecret)
            let input = try self.input.map { text in
                do { return try JSONDocument(Array(text.utf8)) } catch {
                    throw SluiceError(.invalid, "--input is not JSON: it \(error)")
                }
            }
            try await reach.connected { caller in
                let answer = try await caller.post("/v1/callbacks") { writer in
                    writer.member("connection", connection)
                    if let type { writer.member("type", type) }
                    if let input {
                        writer.key("input")
                        writer.raw(input.root.bytes)
                    }
                    if let expiresIn { writer.member("expires_in", expiresIn) }
                    if let destination { writer.member("destination", destination) }
                    if let push, let secret {
                        writer.key("push")
                        writer.object {
                            $0.member("url", push)
                            $0.member("secret", secret)
                            if allowPrivate { $0.member("allow_private", true) }
                        }
                    }
                    if let pauses {
                        writer.key("pauses")
                        writer.array { for seconds in pauses { $0.value(seconds) } }
                    }
                    if let idempotencyKey { writer.member("idempotency_key", idempotencyKey) }
                }
                single.show(answer)
            }
        }
    }

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Callbacks, the newest first.")
        @OptionGroup var reach: Reach
        @OptionGroup var listing: Listing
        @Option(help: "Only these: pending, settled, failed, expired or cancelled.") var state: String?
        @Option(help: "Only those of this connection.") var connection: String?

        func run() async throws {
            try await reach.connected { caller in
                let answer = try await caller.get("/v1/callbacks", listing.query + [("state", state), ("connection", connection)])
                listing.show(
                    answer, "callbacks",
                    [
                        Column("made", "created_at"), Column("id", "id"), Column("connection", "connection"), Column("type", "type"),
                        Column("state", "state"), Column("by", "ended_by"), Column("polls", "polls"), Column("calls", "calls"),
                        Column("expires", "expires_at"), Column("trouble") { Show.brief(Show.text($0["last_error"])) },
                    ], none: "There are no callbacks.")
            }
        }
    }

    struct ShowOne: AsyncParsableCommand {
        static let configuration = CommandConfiguration(commandName: "show", abstract: "One callback, with its URL and its result.")
        @OptionGroup var reach: Reach
        @OptionGroup var single: Single
        @Argument(help: "cb_…") var id: String

        func run() async throws {
            try await reach.connected { single.show(try await $0.get("/v1/callbacks/\(Percent.encoded(id))")) }
        }
    }

    struct Wait: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Wait until a callback is over. Exit code 0: settled, 1: it ended in another way, 3: still pending.")
        @OptionGroup var reach: Reach
        @OptionGroup var single: Single
        @Argument(help: "cb_…") var id: String
        @Option(parsing: .unconditional, help: "For so many seconds at most; without it, until it is over.") var seconds: Int?

        func run() async throws {
            try await reach.connected { caller in
                var left = seconds.map { max(0, $0) }
                while true {
                    let turn = min(left ?? 60, 60)
                    let answer = try await caller.get("/v1/callbacks/\(Percent.encoded(id))", [("wait", String(turn))])
                    left = left.map { $0 - turn }
                    let state = answer["state"]?.string ?? ""
                    if state == "pending", left.map({ $0 > 0 }) ?? true { continue }
                    single.show(answer)
                    if state == "settled" { return }
                    throw ExitCode(state == "pending" ? 3 : 1)
                }
            }
        }
    }

    struct Cancel: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Stop waiting for it. The operation at the provider goes on; a late call is answered and changes nothing.")
        @OptionGroup var reach: Reach
        @OptionGroup var single: Single
        @Argument(help: "cb_…") var id: String
        @Option(help: "Why, for those who look later.") var reason: String?

        func run() async throws {
            try await reach.connected { caller in
                single.show(
                    try await caller.post("/v1/callbacks/\(Percent.encoded(id))/cancel") { writer in
                        if let reason { writer.member("reason", reason) }
                    })
            }
        }
    }
}
