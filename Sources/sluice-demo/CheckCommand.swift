import ArgumentParser
import FoundationEssentials
import SluiceCore
import SluiceTesting

/// Where both sides are reached.
struct Sides: ParsableArguments {
    @Option(help: "The stand-in provider, for example http://127.0.0.1:9000.") var provider: String
    @Option(help: "Sluice's API, for example http://127.0.0.1:8081.") var api: String
    @Option(help: "A file with a token for Sluice's API.") var tokenFile: String
    @Option(help: "Judge only these triggers, separated by commas.") var triggers: String?

    func observer() throws -> DeliveryObserver {
        guard let token = try? String(contentsOfFile: tokenFile, encoding: .utf8) else {
            throw ValidationError("The token file \(tokenFile) cannot be read.")
        }
        func trimmed(_ url: String) -> String { url.hasSuffix("/") ? String(url.dropLast()) : url }
        return DeliveryObserver(
            providerURL: trimmed(provider), apiURL: trimmed(api), token: token.trimmingCharacters(in: .whitespacesAndNewlines),
            triggers: triggers.map { Set($0.split(separator: ",").map(String.init)) })
    }
}

/// `sluice-demo check`: compares the provider's change log with `/v1/jobs`.
struct CheckCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check", abstract: "Compare the provider's change log with Sluice's jobs.",
        discussion: """
            Exits with 0 only if every record that the provider created has a job, every record's last version has one, no \
            version has two, every job's record is byte for byte what the provider served, and every forged webhook was \
            refused; otherwise with 1 and the first offenders. Only changes that were visible when the check began can be \
            missing, and they get --settle-seconds to arrive.
            """)

    @OptionGroup var sides: Sides
    @Option(help: "Wait at most this long for what is missing.") var settleSeconds = 10.0
    @Flag(help: "Print one JSON object.") var json = false

    func run() async throws {
        var observer = try sides.observer()
        let report = try await observer.settle(seconds: settleSeconds)
        say(json ? Summary.json(report) : Summary.text(report))
        if !report.isGood { throw ExitCode(1) }
    }
}
