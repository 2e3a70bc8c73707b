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
        try await reach.connected(absentData: dryRun ? .isTemporary : .isMade) { caller in
            caller.noteAbsentConnectors()
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
            if single.json {
                single.show(status)
            } else {
                let alarms = try await caller.get("/v1/alarms")["alarms"]?.elements ?? []
                Terminal.out(StatusText.text(status, alarms))
            }
            if status["being_missed"]?.elements?.isEmpty == false { throw ExitCode(1) }
        }
    }
}

/// The status for people: states that no trigger is in are left out, and each thing that is missed and each alarm has a line.
enum StatusText {
    /// What is missed because of an alarm is said once, by the alarm.
    static func text(_ status: JSONView, _ alarms: [JSONView]) -> String {
        let said = Set(alarms.map { "\($0["subject"]?.string ?? ""): \($0["message"]?.string ?? "")" })
        let lines = alarms.map { alarm in
            "ALARM \(Show.text(alarm["kind"]))  \(Show.text(alarm["subject"])): \(Show.text(alarm["message"])) "
                + "(since \(Show.text(alarm["since"])))"
        }
        return ([text(status, without: said)] + lines).joined(separator: "\n")
    }

    private static func text(_ status: JSONView, without said: Set<String>) -> String {
        let width = (status.members ?? []).map(\.key.count).max() ?? 0
        return (status.members ?? []).map { member in
            let lines: [String]
            switch member.key {
            case "triggers":
                let states = (member.value.members ?? []).filter { $0.value.int64 != 0 }
                lines = [states.map { "\(Show.text($0.value)) \($0.key)" }.joined(separator: ", ")]
            case "being_missed":
                let all = member.value.elements ?? []
                let others = all.filter { !said.contains($0.string ?? "") }
                lines = others.count < all.count && others.isEmpty ? ["see below"] : others.map { Show.text($0) }
            default: lines = [Show.text(member.value)]
            }
            let shown = lines.allSatisfy(\.isEmpty) ? ["-"] : lines
            return member.key.padded(width) + "  " + shown.joined(separator: "\n" + String(repeating: " ", count: width + 2))
        }.joined(separator: "\n")
    }
}
