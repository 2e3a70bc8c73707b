import ArgumentParser
import Foundation
import Logging
import NIOCore
import SluiceCore
import SluiceServer

struct ServeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve", abstract: "Run the server: accept webhooks, poll, deliver jobs.",
        discussion: """
            Webhooks come in at --listen; put a TLS-terminating proxy before it and give its address as --public-url. The API \
            answers at --api, on this machine only unless told otherwise. Secrets are sealed with the master key in \
            SLUICE_MASTER_KEY, in the file named by SLUICE_MASTER_KEY_FILE, or in master.key in the data directory.
            """)

    @Option(help: ArgumentHelp("Where everything is kept (or SLUICE_DATA).", valueName: "directory")) var data: String?
    @Option(help: ArgumentHelp("Where webhooks come in.", valueName: "host:port")) var listen = "127.0.0.1:8080"
    @Option(help: ArgumentHelp("Where the API answers.", valueName: "host:port")) var api = "127.0.0.1:8081"
    @Option(help: ArgumentHelp("How webhooks reach --listen from outside, for example https://hooks.example.com.", valueName: "url"))
    var publicURL: String?
    @Option(
        help: ArgumentHelp(
            "Lua connectors: NAME/connector.lua (or SLUICE_CONNECTORS; ./connectors if it is there).", valueName: "directory"))
    var connectors: String?
    @Option(
        help: ArgumentHelp(
            "The only place where file destinations may write (or SLUICE_FILES_IN; files in --data).", valueName: "directory"))
    var filesIn: String?
    @Option(
        help: ArgumentHelp(
            """
            Let command destinations run programs, from this directory only (or SLUICE_COMMANDS_FROM; none may run without it). \
            Whoever has an API token can have them run, with arguments of their choice.
            """, valueName: "directory"))
    var commandsFrom: String?
    @Option(help: ArgumentHelp("Apply this manifest before anything is accepted.", valueName: "file")) var config: String?
    @Option(parsing: .unconditional, help: ArgumentHelp("Spread the polls after a downtime over at most this long.", valueName: "time"))
    var catchUpWindow = "10m"
    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("Keep webhooks this long, and longer while a running trigger has yet to poll for them.", valueName: "time"))
    var keepWebhooks = "7d"
    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "Of one connection, so many webhooks may wait for its webhook-only triggers; beyond that new ones get 503.", valueName: "number"
        ))
    var unreadWebhooksMax = 1_000_000
    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("Keep jobs this long, and longer until each of their deliveries has ended.", valueName: "time"))
    var keepJobs = "30d"
    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("After this long a delivery that never succeeded becomes a dead letter.", valueName: "time"))
    var keepPending = "30d"
    @Option(help: "trace, debug, info, notice, warning, error or critical.") var logLevel = "info"

    func validate() throws {
        _ = try address(listen, "--listen")
        _ = try address(api, "--api")
        if Logger.Level(rawValue: logLevel) == nil { throw ValidationError("--log-level cannot be '\(logLevel)'") }
        for (option, text) in [("--keep-webhooks", keepWebhooks), ("--keep-jobs", keepJobs), ("--keep-pending", keepPending)] {
            guard let span = Durations.span(text), span >= .minutes(1) else {
                throw ValidationError("\(option) is a time with its unit, at least 1m, for example 7d")
            }
        }
        if unreadWebhooksMax < 1 { throw ValidationError("--unread-webhooks-max is at least 1") }
        if Durations.span(catchUpWindow) == nil { throw ValidationError("--catch-up-window is a time with its unit, for example 10m") }
        if let publicURL {
            guard publicURL.hasPrefix("https://") || publicURL.hasPrefix("http://") else {
                throw ValidationError("--public-url begins with https:// or http://")
            }
            guard let url = URL(string: publicURL), url.host()?.isEmpty == false, url.query() == nil, url.fragment() == nil,
                url.user() == nil
            else {
                throw ValidationError("--public-url is what providers reach: https://hooks.example.com, without user, query or fragment")
            }
        }
    }

    func run() async throws {
        let environment = ProcessInfo.processInfo.environment
        var options = ServerOptions()
        options.dataDirectory = data ?? environment["SLUICE_DATA"] ?? "./data"
        options.listen = try address(listen, "--listen")
        options.api = try address(api, "--api")
        options.publicURL = publicURL
        options.connectorsDirectory = ConnectorsDirectory.found(connectors, environment)
        options.filesDirectory = filesIn
        options.commandsDirectory = commandsFrom
        options.catchUpWindow = Durations.span(catchUpWindow) ?? options.catchUpWindow
        options.unreadWebhooksMax = unreadWebhooksMax
        options.retention.inbox = Durations.span(keepWebhooks) ?? options.retention.inbox
        options.retention.jobs = Durations.span(keepJobs) ?? options.retention.jobs
        options.retention.pendingDeliveries = Durations.span(keepPending) ?? options.retention.pendingDeliveries
        options.logLevel = Logger.Level(rawValue: logLevel) ?? .info
        options.environment = environment
        if options.connectorsDirectory == nil { Terminal.error("Note: \(ConnectorsDirectory.absent) or --connectors") }
        if let config { options.manifest = try ManifestFile.read(config, environment) }
        LoggingSystem.bootstrap { StreamLogHandler.standardError(label: $0) }
        do {
            try await SluiceServer.run(options) { Terminal.out($0) }
        } catch let error as IOError {
            throw refusal(of: error)
        }
    }

    /// What the kernel said when it was asked for an address.
    private func refusal(of error: IOError) -> SluiceError {
        let reason =
            switch error.errnoCode {
            case EADDRINUSE: "another process listens there already: stop it, or give another --listen or --api"
            case EADDRNOTAVAIL: "this machine has no such address: give another --listen or --api"
            case EACCES: "ports below 1024 need a privilege: give a higher port, and put a proxy before it"
            default: "the system refused (errno \(error.errnoCode))"
            }
        return SluiceError(.conflict, "cannot listen on \(listen) and \(api): \(reason)")
    }

    private func address(_ text: String, _ option: String) throws -> ServerOptions.Address {
        guard let colon = text.lastIndex(of: ":"), let port = Int(text[text.index(after: colon)...]), (0...65535).contains(port) else {
            throw ValidationError("\(option) is HOST:PORT, for example 127.0.0.1:8080")
        }
        let host = text[..<colon].trimmingCharacters(in: CharacterSet(charactersIn: "[]"))
        // Who leaves the host out may mean this machine alone, or all the world.
        if host.isEmpty {
            throw ValidationError("\(option) is HOST:PORT: say 127.0.0.1\(text), or 0.0.0.0\(text) for each address of this machine")
        }
        return ServerOptions.Address(host: host, port: port)
    }
}

/// Reads a manifest and the values of its references, here where the person is.
enum ManifestFile {
    static func read(_ path: String, _ environment: [String: String]) throws -> (text: String, references: [String: String], file: String) {
        guard let bytes = try SmallFile.read(path) else {
            throw SluiceError(.notFound, "there is no file \(path)").with("file", path)
        }
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw SluiceError(.invalid, "\(path) is not UTF-8").with("file", path)
        }
        let name = path.split(separator: "/").last.map(String.init) ?? path
        return (text, try References.values(of: text, file: name, environment: environment), name)
    }
}
