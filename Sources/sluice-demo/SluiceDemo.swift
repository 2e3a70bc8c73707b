import ArgumentParser

/// What surrounds Sluice in the demo, each in a process of its own: a hostile provider, a checker that trusts neither
/// side, and a view of both.
@main
struct SluiceDemo: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sluice-demo", abstract: "A hostile stand-in provider for Sluice, and a checker of what came of it.",
        subcommands: [ProviderCommand.self, CheckCommand.self, WatchCommand.self])
}
