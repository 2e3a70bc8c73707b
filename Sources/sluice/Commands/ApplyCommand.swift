import ArgumentParser
import SluiceCore
import SluiceServer

struct ApplyCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "apply", abstract: "Make what a manifest says, and print what changes.",
        discussion: """
            ${env:NAME} and ${file:PATH} in the file are read here, where the command runs, and never written down. What the \
            file does not name stays as it is.
            """)

    @OptionGroup var reach: Reach
    @Option(name: .shortAndLong, help: "The manifest.") var file = "sluice.yaml"
    @Flag(help: "Only print what would change.") var dryRun = false
    @Flag(help: "Stop triggers that the file does not name; their data stays.") var prune = false
    @Option(help: ArgumentHelp("Let this trigger begin anew where its type or connection changes.", valueName: "trigger")) var reset:
        [String] = []
    @Flag(help: "Print the API's answer as JSON.") var json = false

    func run() async throws {
        let manifest = try ManifestFile.read(file, reach.environment)
        try await reach.connected(makesData: true) { caller in
            var order = ApplyRequest(manifest: manifest.text, references: manifest.references, file: manifest.file)
            order.isDryRun = dryRun
            order.prunes = prune
            order.resets = reset
            let answer = try await caller.ask(order.request)
            Terminal.out(json ? String(decoding: answer.bytes, as: UTF8.self) : PlanText.text(Array(answer.bytes)))
            if !caller.isServer, !dryRun { Terminal.error("Note: no server runs; `sluice serve` takes it up.") }
        }
    }
}

struct StatusCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status", abstract: "Counts, alarms, and whether anything is being missed. Exit code 1 if something is.")
    @OptionGroup var reach: Reach
    @OptionGroup var single: Single

    func run() async throws {
        try await reach.connected { caller in
            let status = try await caller.get("/v1/status")
            single.show(status)
            let alarms = try await caller.get("/v1/alarms")["alarms"]?.elements ?? []
            if !single.json {
                for alarm in alarms {
                    Terminal.out(
                        "ALARM  \(Show.text(alarm["subject"])): \(Show.text(alarm["message"])) (since \(Show.text(alarm["since"])))")
                }
            }
            if status["being_missed"]?.elements?.isEmpty == false { throw ExitCode(1) }
        }
    }
}
