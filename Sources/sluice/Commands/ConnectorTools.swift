import ArgumentParser
import Foundation
import SluiceConnectors
import SluiceCore
import SluiceServer
import SluiceSimulation

extension ConnectorCommands {
    struct New: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Write a new connector that works: from there on it is yours to change.",
            discussion: "One that polls comes with a recorded answer: `sluice connector try` reads it without a network.")
        @Argument(help: "Its name in kebab-case, for example acme-desk.") var name: String
        @Option(help: "What it begins as: \(ConnectorSkeleton.allCases.map(\.rawValue).joined(separator: ", ")).")
        var from = ConnectorSkeleton.incremental
        @Option(help: "Where connectors are kept.") var directory = "connectors"

        func run() throws {
            let files = try from.write(name: name, directory: directory)
            for file in files { Terminal.out("wrote \(file)") }
            let folder = files[0].dropLast("/connector.lua".count)
            Terminal.out("Next: sluice connector check \(folder)")
            guard from.isPolling else { return }
            Terminal.out("      sluice connector try \(folder) --replay \(folder)/fixtures")
            Terminal.out("      sluice connector simulate \(folder)")
        }
    }

    struct Check: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Say what is wrong with connectors, and what may lose records.",
            discussion: """
                Types and fields are checked by loading the file. Lints that can be proven are shown by running the connector against a \
                stand-in made from its description (`sluice connector simulate` shows that in full). Exit code 1 on errors; with --strict \
                on warnings too.
                """)
        @Argument(help: "connector.lua, a directory that holds one, or a directory of such directories.") var paths: [String]
        @Flag(help: "Print the findings as JSON.") var json = false
        @Flag(help: "Count warnings as errors.") var strict = false
        @Option(parsing: .unconditional, help: "How many seeds each trap is run with.") var seeds: UInt64 = 3

        func run() async throws {
            let files = try ConnectorFile.all(in: paths)
            var findings: [ConnectorFinding] = []
            for file in files {
                let lints = try ConnectorLints(file: file)
                var all = lints.findings
                if let connector = lints.connector {
                    let seen = ConnectorSimulation.findings(
                        await ConnectorSimulation.run(connector, seeds: seeds), locate: lints.locate
                    ).filter { !lints.allows($0) }
                    // What was shown says more than what was guessed.
                    all = all.filter { guess in !seen.contains { $0.lint == guess.lint && guess.subject.hasPrefix($0.subject) } } + seen
                    if !json { describe(connector.definition, all) }
                }
                if strict { for index in all.indices { all[index].severity = .error } }
                if !json { for finding in all { Terminal.out(finding.text) } }
                findings += all
            }
            if json { Terminal.out(String(decoding: ConnectorFinding.json(findings, files: files), as: UTF8.self)) }
            if findings.contains(where: { $0.severity == .error }) { throw ExitCode(1) }
        }

        private func describe(_ definition: ConnectorDefinition, _ findings: [ConnectorFinding]) {
            let verdict =
                findings.isEmpty ? "is good." : "loads; it has \(findings.count == 1 ? "1 finding" : "\(findings.count) findings")."
            Terminal.out("\(definition.name) \(definition.version) (\(definition.title)) \(verdict)")
            if paths.count > 1 || !findings.isEmpty { return }
            Terminal.out("hash      \(definition.hash)")
            Terminal.out(
                "fields    \(definition.connectionFields.map { $0.name + ($0.isSecret ? " (secret)" : "") }.joined(separator: ", "))")
            Terminal.out("webhooks  \(definition.webhook?.scheme ?? "none")")
            if definition.isExperimental { Terminal.out("EXPERIMENTAL: not held against the provider's own documentation") }
            for type in definition.triggers {
                let input = type.inputFields.map { $0.name + ($0.isOptional ? "?" : "") }.joined(separator: ", ")
                Terminal.out("trigger   \(type.name): \(type.kind.rawValue), input: \(input.isEmpty ? "none" : input)")
            }
        }
    }

    struct SimulateTraps: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "simulate", abstract: "Run connectors against stand-ins made from their own descriptions, with every trap.",
            discussion: """
                A stand-in answers as the source would that the connector describes (`incremental`, or `simulate` beside a lambda), and \
                springs each trap of docs/CONNECTORS.md; pages are committed by the server's rules, and the process dies at every step. \
                Exit code 1 if something was lost, doubled or stuck.
                """)
        @Argument(help: "connector.lua, a directory that holds one, or a directory of such directories.") var paths: [String]
        @Option(parsing: .unconditional, help: "How many seeds each trap is run with.")
        var seeds: UInt64 = ConnectorSimulation.seedsStandard
        @Flag(help: "Print the table as JSON.") var json = false

        func validate() throws {
            guard (1...10_000).contains(seeds) else { throw ValidationError("--seeds must be from 1 to 10000") }
        }

        func run() async throws {
            let (connectors, broken) = ConnectorFile.loadEach(try ConnectorFile.all(in: paths))
            let seeds = seeds
            // Connectors have nothing to do with each other; the cores bound how many run at once.
            let reports = await withTaskGroup(of: (Int, [ConnectorSimulation.Report]).self) { group in
                for (index, connector) in connectors.enumerated() {
                    group.addTask { (index, await ConnectorSimulation.run(connector, seeds: seeds)) }
                }
                var all: [Int: [ConnectorSimulation.Report]] = [:]
                for await (index, reports) in group { all[index] = reports }
                return connectors.indices.flatMap { all[$0] ?? [] }
            }
            let output =
                json
                ? String(decoding: ConnectorSimulation.json(reports, seeds: seeds, broken: broken), as: UTF8.self)
                : ConnectorSimulation.text(reports, seeds: seeds, broken: broken)
            Terminal.out(output)
            if !broken.isEmpty || reports.contains(where: { $0.failed > 0 }) { throw ExitCode(1) }
        }
    }

    struct Reference: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Every key that a connector may have, and what it takes: made of what reads them.")
        @Option(help: ArgumentHelp("Write it as a page, for example docs/REFERENCE.md.", valueName: "file")) var write: String?

        func run() throws {
            let page = try ReferencePage.markdown()
            guard let write else { return Terminal.out(page) }
            try SmallFile.writePage(write, page)
            Terminal.error("Note: wrote \(write)")
        }
    }

    struct ShowTable: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "table", abstract: "What each connector has, and what it has been shown to do.",
            discussion: "Each is run against its stand-in with every trap; exit code 1 if one fails.")
        @Argument(help: "connector.lua, a directory that holds one, or a directory of such directories.") var paths = ["connectors"]
        @Option(parsing: .unconditional, help: "How many seeds each trap is run with.")
        var seeds: UInt64 = ConnectorSimulation.seedsStandard
        private static let realStandard = "connectors/real-programs.txt"
        @Option(
            help: ArgumentHelp(
                "Which connectors run against a real program: NAME PROGRAM a line; \(realStandard) unless given.", valueName: "file"))
        var real: String?
        @Option(help: ArgumentHelp("Write it as a page, for example docs/CATALOGUE.md.", valueName: "file")) var write: String?
        @Flag(help: "Print the table as JSON.") var json = false

        func run() async throws {
            let (connectors, broken) = ConnectorFile.loadEach(try ConnectorFile.all(in: paths))
            let list = try SmallFile.read(real ?? ShowTable.realStandard)
            if list == nil, let real { throw SluiceError(.notFound, "there is no file \(real)").with("file", real) }
            let programs = list.map { ConnectorTable.realPrograms(String(decoding: $0, as: UTF8.self)) } ?? [:]
            let table = await ConnectorTable(connectors, broken: broken, realPrograms: programs, seeds: seeds)
            if let write, broken.isEmpty {
                try SmallFile.writePage(write, table.markdown)
                Terminal.error("Note: wrote \(write)")
            } else {
                Terminal.out(json ? String(decoding: table.json, as: UTF8.self) : table.text)
                if let write { Terminal.error("Note: \(write) was not written: some connectors are broken") }
            }
            if !broken.isEmpty || table.rows.contains(where: { $0.trapsFailed > 0 }) { throw ExitCode(1) }
        }
    }

    struct Try: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "try", abstract: "Poll once, or read one webhook, and show what comes: nothing is stored.",
            discussion: """
                Access tokens are fetched as the server does it. A refresh token is spent only with --tokens, where the newest one is \
                kept: many providers take the one that was spent out of use. A trigger that long-polls is polled, and then holds a \
                request until something comes or --hold-seconds have passed. With --webhook a webhook as raw HTTP (as for \
                `sluice verify`) is read instead.

                Secrets are taken out of everything that is printed and recorded: the values of secret fields, credentials in headers, \
                queries and answers. A recording can be replayed without a network, and kept beside the connector as a fixture.
                """)
        @Argument(help: "connector.lua, or a directory that holds one.") var path: String
        @Option(help: "The trigger type; needed where there are several.") var type: String?
        @Option(help: ArgumentHelp("A field of the connection.", valueName: "name=value")) var field: [String] = []
        @Option(
            help: ArgumentHelp(
                "Fields of the connection in YAML, with ${env:NAME} and ${file:PATH}; a sluice.yaml with one connection will do.",
                valueName: "file"))
        var connectionFile: String?
        @Option(help: ArgumentHelp("A field of the trigger's input.", valueName: "name=value")) var input: [String] = []
        @Option(help: "The cursor to poll from, as JSON; as before the first poll unless given.") var cursor: String?
        @Option(parsing: .unconditional, help: "How many pages at most.") var pages = 1
        @Option(help: ArgumentHelp("Keep requests and answers here, without secrets.", valueName: "directory")) var record: String?
        @Option(help: ArgumentHelp("Answer from what was recorded there, never from the network.", valueName: "directory")) var replay:
            String?
        @Option(help: ArgumentHelp("Where refresh tokens that the provider rotates are kept, for you alone.", valueName: "file"))
        var tokens: String?
        @Option(parsing: .unconditional, help: "How long a long poll may be held; 0: only the poll before it is made.")
        var holdSeconds: Int64 = 10
        @Option(help: ArgumentHelp("A webhook as raw HTTP, read instead of polling.", valueName: "file")) var webhook: String?
        @Option(help: ArgumentHelp("Its secrets, one a line; it is not verified without.", valueName: "file"))
        var webhookSecretFile: String?
        @Option(help: ArgumentHelp("The header of its signature, if the scheme leaves that open.", valueName: "name"))
        var webhookHeader: String?
        @Flag(help: "Let it reach private and loopback addresses.") var allowPrivate = false
        @Flag(help: "Print the result as JSON.") var json = false

        func validate() throws {
            guard (1...1000).contains(pages) else { throw ValidationError("--pages must be from 1 to 1000") }
            guard (0...3600).contains(holdSeconds) else { throw ValidationError("--hold-seconds must be from 0 to 3600") }
            if webhook != nil, record ?? replay != nil {
                throw ValidationError("--webhook reads a file: there is nothing to record or replay")
            }
            if webhook == nil, webhookSecretFile != nil { throw ValidationError("--webhook-secret-file is for --webhook") }
            if webhook == nil, webhookHeader != nil { throw ValidationError("--webhook-header is for --webhook") }
            if record != nil, replay != nil { throw ValidationError("give one of --record and --replay") }
            for pair in field + input where !pair.contains("=") { throw ValidationError("write name=value, not '\(pair)'") }
        }

        func run() async throws {
            var order = Trial.Order(file: path)
            if let connectionFile { try order.add(connectionFile: connectionFile, environment: ProcessInfo.processInfo.environment) }
            order.type = type
            order.connection += field.map(Self.pair)
            order.input = input.map(Self.pair)
            order.cursor = cursor
            order.pages = pages
            order.allowsPrivate = allowPrivate
            (order.recordDirectory, order.replayDirectory) = (record, replay)
            (order.tokensFile, order.holdSeconds) = (tokens, holdSeconds)
            (order.webhookFile, order.webhookSecretFile, order.webhookHeader) = (webhook, webhookSecretFile, webhookHeader)
            let trial = try await Trial.run(order)
            Terminal.out(json ? String(decoding: trial.json, as: UTF8.self) : trial.text())
            if trial.failure != nil || trial.webhook?.verification?.isValid == false { throw ExitCode(1) }
        }

        private static func pair(_ text: String) -> (name: String, value: String) {
            let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            return (String(parts[0]), parts.count > 1 ? String(parts[1]) : "")
        }
    }
}

extension ConnectorSkeleton: ExpressibleByArgument {}
