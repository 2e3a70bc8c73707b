import AsyncHTTPClient
import NIOCore
import SluiceCore
import SluiceTesting
import Testing

/// The whole server as a process, against providers that live. One test at a time: they share two cores and the clock.
@Suite(.serialized) struct Live {}

enum Web {
    /// One POST of JSON; nil where no answer came.
    static func post(_ url: String, _ body: [UInt8], headers: [(String, String)] = []) async -> Int? {
        var request = HTTPClientRequest(url: url)
        request.method = .POST
        request.headers.add(name: "Content-Type", value: "application/json")
        for (name, value) in headers { request.headers.add(name: name, value: value) }
        request.body = .bytes(body)
        guard let response = try? await HTTPClient.shared.execute(request, timeout: .seconds(10)) else { return nil }
        _ = try? await response.body.collect(upTo: 1 << 20)
        return Int(response.status.code)
    }
}

enum Chargebee {
    static let user = "hook"
    static let password = "hook-password-canary"
    static let apiKey = "demo_key"

    /// One connection to the stand-in, and a trigger for each resource.
    static func configuration(_ provider: String, connector: String = "chargebee", safety: String = "12h", extra: String = "") -> String {
        """
        connections:
          demo:
            connector: \(connector)
            fields: { site_url: "\(provider)", api_key: "${env:DEMO_KEY}" }
            webhook: { secrets: ["${env:DEMO_HOOK}"] }
            allow_private: true
        triggers:
          subscriptions: { connection: demo, type: updated_record, input: { resource: subscription }, safety_interval: \(safety) }
          customers: { connection: demo, type: updated_record, input: { resource: customer }, safety_interval: \(safety) }
          invoices: { connection: demo, type: updated_record, input: { resource: invoice }, safety_interval: \(safety) }
        \(extra)
        """
    }

    static let environment: [String: String?] = ["DEMO_KEY": apiKey, "DEMO_HOOK": "\(user):\(password)"]

    /// Holds everything that the provider changed against what Sluice made of it. What the provider shows only later counts as
    /// missing until then: a test that waits for "nothing is missing" has waited for that as well.
    static func verdict(_ provider: StandInProvider, _ sluice: SluiceProcess) async throws -> DeliveryChecker.Verdict {
        var observer = try observer(provider, sluice)
        try await observer.refresh()
        return try await observer.report(cutoff: .distantFuture).verdict
    }

    /// Waits until every change is a job; what was found then, for the test to judge.
    @discardableResult static func settled(
        _ provider: StandInProvider, _ sluice: SluiceProcess, seconds: Double
    ) async throws -> DeliveryChecker.Verdict {
        try await waitUntil("all changes are jobs", seconds: seconds, everyMilliseconds: 300) {
            try await verdict(provider, sluice).missing.isEmpty
        }
        return try await verdict(provider, sluice)
    }

    static func observer(_ provider: StandInProvider, _ sluice: SluiceProcess) throws -> DeliveryObserver {
        let token = try String(contentsOfFile: sluice.dataDirectory + "/local.token", encoding: .utf8).filter { !$0.isWhitespace }
        return DeliveryObserver(providerURL: provider.baseURL, apiURL: sluice.apiURL, token: token)
    }
}
