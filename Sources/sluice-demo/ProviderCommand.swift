import ArgumentParser
import FoundationEssentials
import SluiceCore
import SluiceTesting

/// `sluice-demo provider`: runs the stand-in provider until SIGTERM or SIGINT.
struct ProviderCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "provider", abstract: "Run a Chargebee-shaped provider with unreliable webhooks.",
        discussion: """
            The API takes the key in SLUICE_DEMO_API_KEY (default: demo_key) as the user of HTTP basic auth.
            The webhooks' URL is read from a file, which may come into being later and may change: its first line is the \
            URL, its second, if any, USER:PASSWORD for their basic auth.
            """)

    @Option(help: "Port on 127.0.0.1; 0 takes a free one.") var port = 0
    @Option(help: "Write the port to this file once it listens.") var portFile: String?
    @Option(help: "The file with the webhooks' URL.") var webhookUrlFile: String?
    @Option(help: "Changes a second, on average.") var rate = 5.0
    @Option(help: "The same seed makes the same records and the same mischief.") var seed: UInt64 = 1
    @Option(help: "Resources, separated by commas.") var resources = "subscription,customer,invoice"
    @Option(help: "Share of webhooks that are never sent.") var dropped = 0.3
    @Option(help: "Share of webhooks that are sent twice.") var doubled = 0.3
    @Option(help: "Share of webhooks that are late or out of order.") var late = 0.2
    @Option(help: "Forged webhooks, without the credentials, per change.") var forged = 0.1
    @Option(help: "Webhooks with the right credentials about invented records, per change.") var spoofed = 0.0
    @Option(help: "Share of changes that update an older record.") var updates = 0.2
    @Option(help: "The API shows a change at most this many milliseconds late.") var lagMilliseconds: Int64 = 3000
    @Option(help: "Share of API requests that fail: 500, 429, slow answers and HTML in equal parts.") var apiFaults = 0.0

    func validate() throws {
        for share in [dropped, doubled, late, forged, spoofed, updates, apiFaults] where !(0...1).contains(share) {
            throw ValidationError("A share lies between 0 and 1.")
        }
        guard rate >= 0, rate <= 10_000, lagMilliseconds >= 0 else {
            throw ValidationError("--rate or --lag-milliseconds is out of range.")
        }
    }

    func run() async throws {
        let provider = StandInProvider(settings)
        let portFile = portFile
        let seed = seed
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                try await provider.run(signals: [.sigterm, .sigint]) {
                    say("stand-in provider listening on \(provider.baseURL), seed \(seed)")
                    if let portFile { try? Data(String(provider.port).utf8).write(to: URL(filePath: portFile), options: .atomic) }
                }
            }
            if let webhookUrlFile {
                group.addTask { try await followTarget(webhookUrlFile, of: provider) }
            }
            try await group.next()
            group.cancelAll()
        }
    }

    private var settings: StandInProvider.Settings {
        let share = apiFaults / 4
        let faults: [(fault: ProviderFault, share: Double)] = [
            (.serverError, share), (.tooManyRequests(retryAfterSeconds: 2), share), (.slow(milliseconds: 1500), share), (.html, share),
        ]
        return .init(
            apiKey: ProcessInfo.processInfo.environment["SLUICE_DEMO_API_KEY"] ?? "demo_key", port: port, seed: seed,
            changesPerSecond: rate,
            world: .init(
                resources: resources.split(separator: ",").map(String.init), updateShare: updates,
                visibilityLagMax: .milliseconds(lagMilliseconds)),
            rates: .init(dropped: dropped, doubled: doubled, late: late, forged: forged, spoofed: spoofed),
            faults: apiFaults > 0 ? .init(shares: faults) : .none)
    }

    /// Reads the file again and again: it may not be there yet, and a rotated URL must be followed.
    private func followTarget(_ path: String, of provider: StandInProvider) async throws {
        var current: StandInProvider.WebhookTarget?
        while true {
            let text = try await offPool { try? String(contentsOfFile: path, encoding: .utf8) }
            let target = text.flatMap { StandInProvider.WebhookTarget(file: $0) }
            if let target, target != current {
                provider.setWebhookTarget(target)
                current = target
                say("webhooks go to the URL in \(path)")
            }
            try await Task.sleep(for: .milliseconds(300))
        }
    }
}
