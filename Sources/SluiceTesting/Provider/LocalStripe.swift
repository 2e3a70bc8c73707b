import AsyncHTTPClient
import FoundationEssentials
import NIOCore
import NIOHTTP1
import SluiceCore

/// localstripe (PyPI, 1.15.10): a Stripe that nobody here wrote, started as a process of its own on 127.0.0.1.
///
/// What it does differently from Stripe: events are listed oldest first; a webhook comes about 1 s after its event and is
/// tried once; `limit` has no upper bound; `created[gt]` and `created[gte]` work on events; an unknown `starting_after`
/// is taken for none. Its state is gone when it ends, unless it is started with `keepsState`.
public struct LocalStripe: Sendable {
    public let port: Int
    public let process: ChildProcess
    /// For example http://127.0.0.1:40123, without a slash at the end.
    public var baseURL: String { "http://127.0.0.1:\(port)" }

    /// Any key that begins with `sk_` and is longer than five characters opens it.
    public static let apiKey = "sk_test_localstripe"

    /// The directory with the helper scripts, Tests/Live of this repository.
    public static let scriptsDirectory = String(#filePath.split(separator: "/").dropLast(4).reduce("") { $0 + "/" + $1 }) + "/Tests/Live"

    /// Where `Tests/Live/setup` installs.
    public static var home: String {
        let environment = ProcessInfo.processInfo.environment
        return environment["SLUICE_TEST_HOME"] ?? (environment["HOME"] ?? "/root") + "/.cache/sluice-test"
    }

    /// The Python that `Tests/Live/setup` installs for.
    public static var python: String { home + "/venv/bin/python" }

    /// Whether `Tests/Live/setup` was run.
    public static var isInstalled: Bool { FileManager.default.isExecutableFile(atPath: python) }

    /// Runs localstripe for as long as `body` takes; state and output lie in `directory`, which must exist.
    /// `port` 0 takes a free one. With `keepsState` it goes on from what an earlier run left in the directory.
    @discardableResult
    public static func with<Result: Sendable>(
        directory: String, port: Int = 0, keepsState: Bool = false, _ body: @Sendable (LocalStripe) async throws -> Result
    ) async throws -> Result {
        guard isInstalled else { throw SluiceError(.notFound, "localstripe is not installed: run Tests/Live/setup.") }
        let port = try port == 0 ? LocalPort.free() : port
        let arguments = [scriptsDirectory + "/localstripe_loopback.py", "--port", String(port), "--state", directory]
        let options = ChildProcess.Options(
            python, arguments + (keepsState ? ["--keep"] : []),
            environment: ["TMPDIR": directory, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"], workingDirectory: directory,
            outputFile: directory + "/localstripe.log")
        return try await ChildProcess.with(options) { process in
            _ = try await process.waitForLine(containing: "Running on", seconds: 90)
            return try await body(LocalStripe(port: port, process: process))
        }
    }

    /// Has every event sent to `url`, signed with `secret`. `id` names the webhook: the same one again replaces it.
    public func configureWebhook(id: String = "sluice", url: String, secret: String) async throws {
        _ = try await call(.POST, "/_config/webhooks/\(id)", form: [("url", url), ("secret", secret)])
    }

    /// Makes exactly `count` events: in turn `customer.created`, `product.created` and `plan.created`, one a request
    /// (the plan is of an existing product: with a new one it would make two). About 15 ms each, so many share a second.
    public func createEvents(_ count: Int) async throws {
        var product: String?
        for index in 0..<count {
            switch index % 3 {
            case 1:
                let answer = try await call(.POST, "/v1/products", form: [("name", "product \(index)"), ("type", "service")])
                product = try JSONDocument(answer).root["id"]?.string
            case 2:
                let form = [("amount", "100"), ("currency", "eur"), ("interval", "month"), ("product", product ?? "")]
                _ = try await call(.POST, "/v1/plans", form: form)
            default:
                _ = try await call(.POST, "/v1/customers", form: [("email", "c\(index)@example.org"), ("description", "Zoë \(index) 🚰")])
            }
        }
    }

    /// All events, oldest first, each with its bytes as the API writes them in one page of everything.
    public func events() async throws -> [JSONView] {
        try JSONDocument(try await call(.GET, "/v1/events?limit=1000000")).root["data"]?.elements ?? []
    }

    private func call(_ method: HTTPMethod, _ path: String, form: [(String, String)] = []) async throws -> [UInt8] {
        var request = HTTPClientRequest(url: baseURL + path)
        request.method = method
        request.headers.add(name: "Authorization", value: ProviderAPI.basicAuth(user: LocalStripe.apiKey))
        if !form.isEmpty {
            request.headers.add(name: "Content-Type", value: "application/x-www-form-urlencoded")
            let text = form.map { QueryText.encode($0.0) + "=" + QueryText.encode($0.1) }.joined(separator: "&")
            request.body = .bytes(Array(text.utf8))
        }
        let response = try await HTTPClient.shared.execute(request, timeout: .seconds(30))
        let body = try await response.body.collect(upTo: 64 << 20)
        guard response.status.code == 200 else {
            throw SluiceError(.providerStatus, "localstripe answered \(response.status.code) to \(path): \(String(buffer: body))")
        }
        return Array(body.readableBytesView)
    }
}

extension QueryText {
    /// Percent-encodes everything but RFC 3986's unreserved characters.
    static func encode(_ text: String) -> String {
        let digits = Array("0123456789ABCDEF".unicodeScalars)
        var result = ""
        for byte in text.utf8 {
            let scalar = Unicode.Scalar(byte)
            if scalar.properties.isAlphabetic && byte < 0x80 || (0x30...0x39).contains(byte) || "-._~".unicodeScalars.contains(scalar) {
                result.unicodeScalars.append(scalar)
            } else {
                result.unicodeScalars.append(contentsOf: ["%", digits[Int(byte >> 4)], digits[Int(byte & 15)]])
            }
        }
        return result
    }
}
