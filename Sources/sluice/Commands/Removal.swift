import ArgumentParser
import SluiceServer

/// `remove NAME`, the same for triggers, destinations and connections.
struct Removal: ParsableArguments {
    @OptionGroup var reach: Reach
    @OptionGroup var single: Single
    @Flag(help: "Even if jobs were not delivered, or are dead letters: they are lost.") var discardUndelivered = false
    @Argument(help: "Its name, as `list` has it.") var name: String

    /// `things`: as the API's path has them.
    func remove(_ things: String) async throws {
        try await reach.connected { caller in
            let query: [(name: String, value: String)] = discardUndelivered ? [("discard_undelivered", "true")] : []
            let answer = try await caller.ask(APIRequest("DELETE", "/v1/\(things)/\(Percent.encoded(name))", query: query))
            single.show(answer, asText: "\(name): removed")
            if !single.json { Terminal.error("Note: where sluice.yaml still names it, the next `sluice apply` makes it anew.") }
        }
    }
}

extension TriggerCommands {
    struct Remove: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Remove a stopped one, with its cursor, jobs and deliveries.")
        @OptionGroup var removal: Removal
        func run() async throws { try await removal.remove("triggers") }
    }
}

extension DestinationCommands {
    struct Remove: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Remove one that no trigger delivers to.")
        @OptionGroup var removal: Removal
        func run() async throws { try await removal.remove("destinations") }
    }
}

extension ConnectionCommands {
    struct Remove: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Remove one without triggers, with its webhook URLs.")
        @OptionGroup var removal: Removal
        func run() async throws { try await removal.remove("connections") }
    }
}
