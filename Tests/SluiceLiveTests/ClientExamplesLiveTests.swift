import Foundation
import SluiceCore
import SluiceTesting
import Testing

extension Live {
    /// The programs in examples/clients, as they are, against the real server.
    @Suite(.serialized) struct ClientExamplesLiveTests {
        static let folder = SluiceProcess.root + "/examples/clients"
        static let secret = "whsec_ZXhhbXBsZXNleGFtcGxlc2V4YW1wbGVz"

        /// One example: a name of its own and how it is started.
        struct Example: Sendable {
            var name: String
            var executable: String
            var arguments: [String] = []
        }

        static var swift: String { URL(filePath: SluiceProcess.binary).deletingLastPathComponent().path + "/sluice-example" }

        static let followers = [
            Example(name: "python-pull", executable: "python3", arguments: [folder + "/python/pull.py"]),
            Example(name: "python-consume", executable: "python3", arguments: [folder + "/python/consume.py", "python"]),
            Example(name: "python-stream", executable: "python3", arguments: [folder + "/python/stream.py"]),
            Example(name: "bash-pull", executable: folder + "/bash/pull.sh"),
            Example(name: "bash-consume", executable: folder + "/bash/consume.sh", arguments: ["bash"]),
            Example(name: "bash-stream", executable: folder + "/bash/stream.sh"),
            Example(name: "swift-pull", executable: swift, arguments: ["pull"]),
            Example(name: "swift-consume", executable: swift, arguments: ["consume", "swift"]),
            Example(name: "swift-stream", executable: swift, arguments: ["stream"]),
        ]

        /// Started in a directory of its own, where it may keep its place.
        static func start(_ example: Example, _ directory: String, _ environment: [String: String?]) throws -> ChildProcess {
            let own = directory + "/" + example.name
            try FileManager.default.createDirectory(atPath: own, withIntermediateDirectories: true)
            return try ChildProcess(
                .init(
                    example.executable, example.arguments,
                    environment: environment.merging(["PYTHONDONTWRITEBYTECODE": "1", "PUSH_SECRET": secret]) { first, _ in first },
                    workingDirectory: own, outputFile: own + "/output.txt"))
        }

        /// The first word of each line that begins with an id.
        static func ids(_ child: ChildProcess) async throws -> Set<String> {
            let lines = try await child.output().split(separator: "\n")
            return Set(lines.compactMap { $0.split(separator: " ").first.map(String.init) }.filter { $0.hasPrefix("job_") })
        }

        @Test func everyClientGetsEveryJobAlsoAfterItWasKilled() async throws {
            let settings = PromiseLiveTests.settings(PromiseLiveTests.quiet)
            try await withTemporaryDirectory { directory in
                let ports = (python: try LocalPort.free(), swift: try LocalPort.free())
                let receivers = [
                    Example(
                        name: "python-receive", executable: "python3",
                        arguments: [Self.folder + "/python/receive_push.py", "\(ports.python)"]),
                    Example(name: "swift-receive", executable: Self.swift, arguments: ["receive", "\(ports.swift)"]),
                ]
                let push = { (port: Int) in
                    #"{ kind: push, url: "http://127.0.0.1:\#(port)/push", secret: "\#(Self.secret)", allow_private: true }"#
                }
                let destinations = """
                    destinations:
                      python: { kind: pull }
                      bash: { kind: pull }
                      swift: { kind: pull }
                      python-push: \(push(ports.python))
                      swift-push: \(push(ports.swift))
                    """
                try await StandInProvider.with(settings) { provider in
                    provider.makeChanges(40)
                    let configuration = Chargebee.configuration(provider.baseURL, safety: "2s", extra: destinations).replacing(
                        "safety_interval: 2s", with: "safety_interval: 2s, destinations: [python, bash, swift, python-push, swift-push]")
                    let sluice = try SluiceProcess(
                        .init(directory: directory, configuration: configuration, environment: Chargebee.environment))
                    defer { sluice.kill9() }
                    var children = try receivers.map { try Self.start($0, directory, [:]) }
                    defer { for child in children { child.kill9() } }
                    for port in [ports.python, ports.swift] { try await LocalPort.waitForListener(port) }
                    try await sluice.start()
                    let made = try await sluice.send("POST", "/v1/tokens", body: #"{"name":"examples"}"#).json()
                    let environment = ["SLUICE_URL": sluice.apiURL, "SLUICE_TOKEN": try #require(made["token"]?.string)]
                    children += try Self.followers.map { try Self.start($0, directory, environment) }
                    try await Self.everyoneHas(sluice, provider, children, receivers + Self.followers)
                    // Killed and started again, each goes on: nobody misses what came meanwhile.
                    for child in children.dropFirst(receivers.count) { child.kill9() }
                    provider.makeChanges(20)
                    children.replaceSubrange(
                        receivers.count..., with: try Self.followers.map { try Self.start($0, directory, environment) })
                    try await Self.everyoneHas(sluice, provider, children, receivers + Self.followers)
                }
            }
        }

        static func everyoneHas(
            _ sluice: SluiceProcess, _ provider: StandInProvider, _ children: [ChildProcess], _ examples: [Example]
        ) async throws {
            try await Chargebee.settled(provider, sluice, seconds: 120)
            let wanted = Set(try await sluice.jobs().map(\.id))
            #expect(wanted.count >= 20)
            for (child, example) in zip(children, examples) {
                try? await waitUntil("\(example.name) has every job", seconds: 150, everyMilliseconds: 100) {
                    wanted.isSubset(of: try await ids(child))
                }
                let missing = wanted.subtracting(try await ids(child))
                var output = try await child.output().suffix(1500)
                if !missing.isEmpty {
                    // What the server knows of those that did not come.
                    let pending = try await sluice.send("GET", "/v1/deliveries?limit=100").text
                    output += "\n" + pending.split(separator: "}").filter { !$0.contains("delivered") }.joined(separator: "}\n")
                }
                #expect(missing.isEmpty, "\(example.name) lacks \(missing.count) of \(wanted.count): \(output)")
            }
        }

        /// What is not signed, or not with our secret, or is old, is refused.
        @Test(arguments: ["python3", "swift"]) func theReceiversRefuseForgedPushes(_ language: String) async throws {
            try await withTemporaryDirectory { directory in
                let port = try LocalPort.free()
                let example =
                    language == "swift"
                    ? Example(name: "receive", executable: Self.swift, arguments: ["receive", "\(port)"])
                    : Example(name: "receive", executable: language, arguments: [Self.folder + "/python/receive_push.py", "\(port)"])
                let child = try Self.start(example, directory, [:])
                defer { child.kill9() }
                try await LocalPort.waitForListener(port)
                let now = SystemTime.now().milliseconds / 1000
                let body = Array(#"{"type":"job","data":{"id":"job_forged","trigger":"t","record":{}}}"#.utf8)
                for (time, signature) in [
                    ("\(now)", "v1,AAAA"), ("\(now)", ""), ("\(now - 1000)", "v1,AAAA"), ("x", "v1,"), ("", "v1a,AAAA"),
                ] {
                    let headers = [("webhook-id", "job_forged"), ("webhook-timestamp", time), ("webhook-signature", signature)]
                    #expect(await Web.post("http://127.0.0.1:\(port)/push", body, headers: headers) == 401)
                }
                #expect(try await Self.ids(child).isEmpty)
            }
        }
    }
}
