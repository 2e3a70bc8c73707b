import ArgumentParser
import Foundation
import SluiceConnectors
import SluiceCore
import SluiceServer

struct ConnectorCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "connector", abstract: "What services can be connected to, and tools for writing more.",
        subcommands: [List.self, Reload.self, New.self, Check.self, Try.self, SimulateTraps.self, ShowTable.self, Reference.self],
        aliases: ["connectors"])

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "The connectors that are loaded.")
        @OptionGroup var reach: Reach
        @OptionGroup var listing: Listing

        func run() async throws {
            try await reach.connected { caller in
                caller.noteAbsentConnectors()
                let answer = try await caller.get("/v1/connectors", listing.query)
                listing.show(
                    answer, "connectors",
                    [
                        Column("name", "name"), Column("version", "version"), Column("language", "language"),
                        Column("webhooks", "webhook_scheme"),
                        Column("handshake") { row in
                            let names = row["handshakes"]?.elements?.compactMap(\.string) ?? []
                            return names.isEmpty ? "-" : names.joined(separator: ", ")
                        }, Column("experimental") { $0["experimental"]?.bool == true ? "EXPERIMENTAL" : "" },
                        Column("triggers") { row in row["triggers"]?.elements?.map { Show.text($0["name"]) }.joined(separator: ", ") ?? "-"
                        },
                    ], none: "No connector is loaded: name their directory with `sluice serve --connectors`.")
                guard !listing.json else { return }
                for problem in answer["broken"]?.elements ?? [] {
                    Terminal.error("BROKEN \(Show.text(problem["name"])): \(Show.text(problem["problem"]))")
                }
            }
        }
    }

    struct Reload: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Let the server look at its connectors' files now.",
            discussion: "It does so every two seconds by itself; this says what came of it. Exit code 1 if a file is broken.")
        @OptionGroup var reach: Reach
        @OptionGroup var single: Single

        func run() async throws {
            let isBroken = try await reach.connected { caller -> Bool in
                let answer = try await caller.post("/v1/connectors/reload")
                single.show(answer)
                return answer["broken"]?.elements?.isEmpty == false
            }
            if isBroken { throw ExitCode(1) }
        }
    }
}

struct ConnectionCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "connection", abstract: "Accounts at services, and the URLs for their webhooks.",
        subcommands: [List.self, ShowOne.self, Test.self, RotateURL.self, Remove.self], aliases: ["connections"])

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Connections and their webhook URLs.")
        @OptionGroup var reach: Reach
        @OptionGroup var listing: Listing

        func run() async throws {
            try await reach.connected { caller in
                let answer = try await caller.get("/v1/connections", listing.query)
                listing.show(
                    answer, "connections",
                    [
                        Column("name", "name"), Column("connector", "connector"),
                        Column("webhooks") { row in
                            guard let scheme = row["webhook_scheme"]?.string else { return "none" }
                            return row["webhooks_verified"]?.bool == true ? scheme : "\(scheme) (UNSAFE)"
                        },
                        Column("problem", "problem"), Column("webhook URL", "webhook_url"),
                    ], none: "There are no connections: define one in sluice.yaml and `sluice apply -f sluice.yaml`.")
            }
        }
    }

    struct ShowOne: AsyncParsableCommand {
        static let configuration = CommandConfiguration(commandName: "show", abstract: "One connection, and how to set its webhooks up.")
        @OptionGroup var reach: Reach
        @OptionGroup var single: Single
        @Argument(help: "The connection, as `connection list` names it.") var name: String

        func run() async throws {
            try await reach.connected { single.show(try await $0.get("/v1/connections/\(Percent.encoded(name))")) }
        }
    }

    struct Test: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Try a connection: its address, its credentials. Exit code 1 if it does not work.")
        @OptionGroup var reach: Reach
        @OptionGroup var single: Single
        @Argument(help: "The connection, as `connection list` names it.") var name: String

        func run() async throws {
            try await reach.connected { caller in
                let answer = try await caller.post("/v1/connections/\(Percent.encoded(name))/test")
                let status = answer["status"]?.int64.map { ", status \($0)" } ?? ""
                let (outcome, message) = (Show.text(answer["outcome"]), Show.text(answer["message"]))
                single.show(answer, asText: "\(outcome): \(message) (\(Show.text(answer["milliseconds"])) ms\(status))")
                if answer["ok"]?.bool != true { throw ExitCode(1) }
            }
        }
    }

    struct RotateURL: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "rotate-url", abstract: "Make a new webhook URL; the former ones work until the overlap ends.")
        @OptionGroup var reach: Reach
        @OptionGroup var single: Single
        @Argument(help: "The connection, as `connection list` names it.") var name: String
        @Option(parsing: .unconditional, help: "How long the former URLs still work.") var overlapHours: Int = 24

        func run() async throws {
            try await reach.connected { caller in
                let answer = try await caller.post("/v1/connections/\(Percent.encoded(name))/rotate-endpoint") {
                    $0.member("overlap_hours", Int64(overlapHours))
                }
                single.show(answer)
                if !single.json {
                    Terminal.error(
                        "Note: give the new URL to the provider; the former ones work until \(Show.text(answer["others_expire_at"])).")
                }
            }
        }
    }
}
