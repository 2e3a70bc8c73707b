import Crypto
import Foundation
import HTTPTypes
import Hummingbird

/// Receives pushes at `/push` and verifies each as Standard Webhooks has it (standardwebhooks.com).
struct Receiver {
    /// Several hold during a rotation: `PUSH_SECRET="whsec_… whsec_…"`.
    let keys = (ProcessInfo.processInfo.environment["PUSH_SECRET"] ?? "").split(separator: " ").compactMap { secret in
        Data(base64Encoded: String(secret.trimmingPrefix("whsec_"))).map { SymmetricKey(data: $0) }
    }

    private struct Push: Decodable {
        var data: Sluice.Job
    }

    func run(port: Int) async throws {
        let router = Router()
        router.post("push") { request, _ in
            let body = try await request.body.collect(upTo: 64 << 20)
            guard isOurs(request.headers, Data(buffer: body)) else { return HTTPResponse.Status.unauthorized }
            let push = try JSONDecoder().decode(Push.self, from: Data(buffer: body))
            Clients().handle(push.data)
            // Only once the job is safe: after a 2xx it never comes again.
            return .noContent
        }
        let application = Application(
            router: router, configuration: .init(address: .hostname("127.0.0.1", port: port)),
            onServerRunning: { say("listening on 127.0.0.1:\($0.localAddress?.port ?? port)") })
        try await application.runService()
    }

    /// Whether the signature is that of one of our keys, and fresh.
    private func isOurs(_ headers: HTTPFields, _ body: Data) -> Bool {
        func header(_ name: String) -> String { HTTPField.Name(name).flatMap { headers[$0] } ?? "" }
        let timestamp = header("webhook-timestamp")
        guard let seconds = Double(timestamp), abs(Date().timeIntervalSince1970 - seconds) < 300 else { return false }
        let signed = Data("\(header("webhook-id")).\(timestamp).".utf8) + body
        return header("webhook-signature").split(separator: " ").filter { $0.hasPrefix("v1,") }.contains { part in
            guard let code = Data(base64Encoded: String(part.dropFirst(3))) else { return false }
            return keys.contains { HMAC<SHA256>.isValidAuthenticationCode(code, authenticating: signed, using: $0) }
        }
    }
}
