import ArgumentParser
import Foundation
import SluiceConnectors
import SluiceCore
import SluiceServer

struct VerifyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify", abstract: "Say whether a webhook's signature is valid, or why it is not.",
        discussion: """
            The request is a file as it came over the wire: request line, headers, an empty line, and the body's bytes unchanged. \
            The secrets stand in a file, one a line; a PEM block or a JSON document counts as one. Neither the secret nor the \
            expected signature is ever printed.

            Exit codes: 0 valid, 1 not valid, 2 wrong usage.

              sluice verify --scheme github --secret-file secret.txt --request webhook.http
              sluice verify --list
            """)

    @Option(help: ArgumentHelp("How the provider signs: a name of `--list`.", valueName: "name")) var scheme: String?
    @Option(help: ArgumentHelp("File with the webhook secret; several, one a line.", valueName: "file")) var secretFile: String?
    @Option(help: ArgumentHelp("File with the raw HTTP request.", valueName: "file")) var request: String?
    @Option(help: "The URL that the provider calls, where it is signed. Otherwise https:// and the request's Host.") var url: String?
    @Option(parsing: .unconditional, help: ArgumentHelp("Judge the time as if it were now this, in seconds since 1970.", valueName: "unix"))
    var now: Int64?
    @Option(help: ArgumentHelp("The header with the signature, for schemes that leave it open.", valueName: "name")) var header: String?
    @Option(parsing: .unconditional, help: "Accept signed times this far from now; otherwise as the scheme has it.")
    var toleranceSeconds: Int64?
    @Option(help: ArgumentHelp("What else a scheme asks for, for example webhook_id=…; can be repeated.", valueName: "name=value"))
    var parameter: [String] = []
    @Flag(help: "List the schemes.") var list = false
    @Flag(help: "Print JSON.") var json = false

    func validate() throws {
        if list { return }
        for (option, value) in [("--scheme", scheme), ("--secret-file", secretFile), ("--request", request)]
        where value == nil && !(option == "--secret-file" && scheme == "none") {
            throw ValidationError("\(option) is missing: sluice verify --scheme NAME --secret-file FILE --request FILE, or --list")
        }
        if let now, !(0...253_402_300_799).contains(now) { throw ValidationError("--now is in seconds since 1970") }
        if let toleranceSeconds, !(1...86_400 * 366).contains(toleranceSeconds) {
            throw ValidationError("--tolerance-seconds lies between 1 and \(86_400 * 366)")
        }
        for text in parameter where !text.contains("=") { throw ValidationError("--parameter is NAME=VALUE, not \(text)") }
        if let url, !Self.isUsable(url) {
            throw ValidationError("--url must be what the provider calls, such as https://hooks.example.com/hooks/x")
        }
    }

    func run() throws {
        if list { return Terminal.out(json ? SchemeList.json : SchemeList.text) }
        guard let name = scheme, let requestFile = request else { return }
        guard let found = SignatureScheme.named(name) else {
            let near = Words.nearestAll(name, among: SignatureScheme.all.map(\.name))
            let hint = near.isEmpty ? "" : " Near: \(near.joined(separator: ", "))."
            throw ValidationError("There is no scheme `\(name)`.\(hint) `sluice verify --list` names them all.")
        }
        if let header, !found.leavesHeaderOpen {
            throw ValidationError("The scheme `\(found.name)` says itself which header it reads: leave --header \(header) out.")
        }
        for name in parameterNames where !found.summary.parameters.contains(name) {
            let known = found.summary.parameters
            throw ValidationError(
                "The scheme `\(found.name)` has no parameter `\(name)`: it has " + (known.isEmpty ? "none" : known.joined(separator: ", ")))
        }
        let secrets = try secretFile.map { SecretFile(try Self.text($0), parameterNames: found.summary.parameters) }
        let raw: RawRequest
        do {
            raw = try RawRequest(try Self.bytes(requestFile))
        } catch let error as SluiceError {
            throw ValidationError("\(requestFile): \(error.message)")
        }
        let report = self.report(found, raw, secrets ?? SecretFile(""))
        Terminal.out(json ? String(decoding: report.json, as: UTF8.self) : report.text)
        if !report.isValid { throw ExitCode(1) }
    }

    private func report(_ scheme: SignatureScheme, _ raw: RawRequest, _ file: SecretFile) -> VerificationReport {
        var options = SchemeOptions(tolerance: toleranceSeconds.map(Span.seconds), headerName: header, parameters: file.parameters)
        for text in parameter {
            let halves = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            options.parameters[String(halves[0])] = String(halves[1])
        }
        var webhook = raw.request
        var notes = raw.notes
        if let url {
            webhook.url = url
        } else if scheme.signsURL, webhook.url == nil, let host = webhook.header("Host") {
            options.publicURL = "https://" + host
            notes.append(
                "this scheme signs the URL; it was put together from https:// and the request's Host: give the real one with --url")
        }
        let moment = now.map(Timestamp.init(seconds:)) ?? Timestamp(milliseconds: Int64(Date().timeIntervalSince1970 * 1000))
        return scheme.report(webhook, secrets: file.secrets, now: moment, options: options, notes: notes)
    }

    private var parameterNames: [String] {
        parameter.map { String($0.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)[0]) }
    }

    private static func isUsable(_ url: String) -> Bool {
        guard let scheme = ["https://", "http://"].first(where: url.hasPrefix) else { return false }
        let authority = url.dropFirst(scheme.count).prefix { !"/?#".contains($0) }
        let host = authority.split(separator: "@", omittingEmptySubsequences: false).last ?? ""
        return !host.isEmpty && !host.hasPrefix(":") && !url.contains { $0.isWhitespace }
    }

    private static func bytes(_ file: String) throws -> [UInt8] {
        do throws(SluiceError) {
            guard let bytes = try SmallFile.read(file, bytesMax: RawRequest.bytesMax) else {
                throw SluiceError(.notFound, "\(file) cannot be read: there is no such file")
            }
            return bytes
        } catch {
            throw ValidationError(error.message)
        }
    }

    private static func text(_ file: String) throws -> String {
        let bytes = try bytes(file)
        guard let text = String(validating: bytes, as: UTF8.self) else { throw ValidationError("\(file) is not UTF-8 text") }
        return text
    }
}

/// The schemes, for people and for programs.
enum SchemeList {
    static var text: String {
        let rows = SignatureScheme.all.map { scheme in
            [
                scheme.name, scheme.summary.provider + (scheme.isExperimental ? " (experimental)" : "") + (scheme.isSafe ? "" : " UNSAFE"),
                scheme.summary.algorithm, scheme.summary.content,
            ]
        }
        return Table.text(["scheme", "provider", "algorithm", "signed content"], rows)
    }

    static var json: String {
        var writer = JSONWriter()
        writer.object { writer in
            writer.key("schemes")
            writer.array { writer in for scheme in SignatureScheme.all { member(scheme, &writer) } }
        }
        return writer.string
    }

    private static func member(_ scheme: SignatureScheme, _ writer: inout JSONWriter) {
        let summary = scheme.summary
        writer.object { writer in
            writer.member("name", scheme.name)
            writer.member("provider", summary.provider)
            writer.key("headers")
            writer.array { writer in for header in summary.headers { writer.value(header) } }
            writer.member("algorithm", summary.algorithm)
            writer.member("signed_content", summary.content)
            writer.member("encoding", summary.encoding)
            writer.member("tolerance_seconds", summary.toleranceSeconds)
            writer.member("secret", scheme.secretHint)
            writer.key("parameters")
            writer.array { writer in for name in summary.parameters { writer.value(name) } }
            writer.member("signs_body", scheme.signsBody)
            writer.member("signs_url", scheme.signsURL)
            writer.member("safe", scheme.isSafe)
            writer.member("experimental", scheme.isExperimental)
            writer.member("source", summary.source)
        }
    }
}
