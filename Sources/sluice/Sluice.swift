import ArgumentParser
import SluiceCore
import SluiceServer

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// The command. Exit codes: 0 done, 1 refused or failed, 2 wrong usage.
@main
struct Sluice: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sluice",
        abstract: "Turns webhooks into reliable polls: every change at a provider becomes one job, once, in full, in time.",
        discussion: """
            A provider's webhook is only a signal: Sluice then reads the provider's API from where it last stopped, and each \
            new record becomes a job, which is pushed to you or which you pull. A lost, doubled, late or forged webhook \
            cannot lose a record, invent one or repeat one.

            To begin:
              sluice serve                 start the server, with its data in ./data
              sluice apply -f sluice.yaml  tell it what to connect to and what to watch
              sluice jobs tail             see jobs as they are made
            """,
        version: API.version,
        subcommands: [
            ServeCommand.self, ApplyCommand.self, StatusCommand.self, ConnectorCommands.self, ConnectionCommands.self, TriggerCommands.self,
            SubscriptionCommands.self, CallbackCommands.self, JobCommands.self, ConsumerCommands.self, InboxCommands.self,
            DestinationCommands.self, DeliveryCommands.self, DeadLetterCommands.self, FilterCommands.self, TokenCommands.self,
            BackfillCommands.self, AuditCommand.self, VerifyCommand.self, Simulate.self,
        ])

    func run() async throws { Terminal.out(Sluice.helpMessage()) }

    static func main() async {
        do {
            var command = try parseAsRoot()
            if var command = command as? any AsyncParsableCommand {
                try await command.run()
            } else {
                try command.run()
            }
        } catch let error as SluiceError {
            // The message says where; the rest of the context is for programs, in the API's answer.
            Terminal.error("Error (\(error.code.rawValue)): \(error.message)")
            Terminal.end(1)
        } catch let code as ExitCode {
            Terminal.end(code.rawValue)
        } catch {
            let code = exitCode(for: error).rawValue
            let text = fullMessage(for: error)
            if code == 0 { Terminal.out(text) } else { Terminal.error(text) }
            Terminal.end(code == 0 ? 0 : code == 64 ? 2 : 1)
        }
    }
}

/// The two ways out.
enum Terminal {
    static func out(_ text: String) { write(1, (isatty(1) == 1 ? plain(text) : text) + "\n") }
    /// What providers sent must not steer the terminal that shows it.
    private static func plain(_ text: String) -> String {
        var plain = String.UnicodeScalarView()
        for scalar in text.unicodeScalars {
            let isControl = scalar.value < 0x20 && scalar != "\n" && scalar != "\t" || (0x7F...0x9F).contains(scalar.value)
            plain.append(isControl ? "?" : scalar)
        }
        return String(plain)
    }
    static func error(_ text: String) { write(2, (isatty(2) == 1 ? plain(text) : text) + "\n") }
    static var showsProgress: Bool { isatty(2) == 1 }
    /// Draws over the last line, on a terminal only.
    static func progress(_ text: String) { if showsProgress { write(2, "\r\u{1B}[K" + text) } }

    static func end(_ code: Int32) -> Never { exit(code) }

    private static func write(_ descriptor: Int32, _ text: String) {
        var rest = Array(text.utf8)[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { systemWrite(descriptor, $0.baseAddress, $0.count) }
            if count < 0 && errno == EINTR { continue }
            // Whoever read is gone, for example `head`.
            if count <= 0 { exit(0) }
            rest = rest.dropFirst(count)
        }
    }
}

private func systemWrite(_ descriptor: Int32, _ bytes: UnsafeRawPointer?, _ count: Int) -> Int { write(descriptor, bytes, count) }
