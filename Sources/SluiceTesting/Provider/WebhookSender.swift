import AsyncHTTPClient
import NIOCore
import NIOHTTP1
import SluiceCore

/// Sends planned webhooks when their time has come, a bounded number at once, each within its time limit. A webhook is
/// tried once: what the receiver does not take is lost, as with the worst of providers.
struct WebhookSender: Sendable {
    let provider: StandInProvider

    /// How often it looks for webhooks that are due, in milliseconds.
    static let tickMilliseconds = 10

    func run() async throws {
        var configuration = HTTPClient.Configuration()
        configuration.connectionPool.concurrentHTTP1ConnectionsPerHostSoftLimit = provider.settings.webhooksInFlightMax
        configuration.timeout.connect = .seconds(5)
        configuration.redirectConfiguration = .disallow
        let client = HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration)
        do {
            try await send(with: client)
        } catch {
            try? await client.shutdown()
            throw error
        }
        try await client.shutdown()
    }

    private func send(with client: HTTPClient) async throws {
        try await withThrowingDiscardingTaskGroup { group in
            while true {
                for webhook in takeDue() {
                    group.addTask { await send(webhook, with: client) }
                }
                try await Task.sleep(for: .milliseconds(WebhookSender.tickMilliseconds))
            }
        }
    }

    private func takeDue() -> [PlannedWebhook] {
        let now = provider.settings.now()
        return provider.state.withLock { state in
            let due = state.queue.takeDue(at: now, limit: provider.settings.webhooksInFlightMax - state.inFlight)
            state.inFlight += due.count
            return due
        }
    }

    private func send(_ webhook: PlannedWebhook, with client: HTTPClient) async {
        if webhook.kind == .real {
            let now = provider.settings.now()
            provider.state.withLock { $0.lastWebhookSentAt = max($0.lastWebhookSentAt ?? now, now) }
        }
        let status = await post(webhook, with: client)
        provider.state.withLock { state in
            state.inFlight -= 1
            state.counts.statuses[webhook.kind, default: [:]][status, default: 0] += 1
        }
    }

    /// The answer's status as text, or what stands in its place.
    private func post(_ webhook: PlannedWebhook, with client: HTTPClient) async -> String {
        guard let target = provider.state.withLock({ $0.target }) else { return "unconfigured" }
        var request = HTTPClientRequest(url: target.url)
        request.method = .POST
        request.headers.add(name: "Content-Type", value: "application/json")
        if let authorization = WebhookSender.authorization(webhook.credentials, target) {
            request.headers.add(name: "Authorization", value: authorization)
        }
        request.body = .bytes(webhook.body)
        do {
            let response = try await client.execute(request, timeout: .seconds(Int64(provider.settings.webhookTimeoutSeconds)))
            _ = try? await response.body.collect(upTo: 65_536)
            return String(response.status.code)
        } catch {
            return "failed"
        }
    }

    static func authorization(_ credentials: PlannedWebhook.Credentials, _ target: StandInProvider.WebhookTarget) -> String? {
        let user = target.user ?? "nobody"
        switch credentials {
        case .right: return target.user.map { ProviderAPI.basicAuth(user: $0, password: target.password) }
        case .wrongPassword: return ProviderAPI.basicAuth(user: user, password: target.password + "x")
        case .wrongUser: return ProviderAPI.basicAuth(user: user + "x", password: target.password)
        case .missing: return nil
        }
    }
}
