import Foundation

/// `sluice-example pull | consume NAME | stream | receive [PORT] | callback CONNECTION INPUT`
@main enum Main {
    static func main() async throws {
        let words = Array(CommandLine.arguments.dropFirst())
        switch (words.first, words.dropFirst().first) {
        case ("pull", _): try await Clients().pull()
        case ("consume", let name?): try await Clients().consume(name)
        case ("stream", _): try await Clients().stream()
        case ("receive", let port): try await Receiver().run(port: port.flatMap { Int($0) } ?? 9000)
        case ("callback", let connection?): try await Clients().callback(connection: connection, input: words.count > 2 ? words[2] : "{}")
        default:
            say("usage: sluice-example pull | consume NAME | stream | receive [PORT] | callback CONNECTION INPUT")
            exit(2)
        }
    }
}

/// One line, at once also where the output is a file.
func say(_ text: String) { FileHandle.standardOutput.write(Data((text + "\n").utf8)) }
