import Foundation
import SluiceTesting
import Testing

extension Live {
    /// `sluice verify`, as a process.
    @Suite(.serialized) struct VerifyLiveTests {
        static let secret = "It's a Secret to Everybody"
        static let signature = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"

        static func verify(_ request: String, secret: String = secret, _ more: [String] = ["--scheme", "github"]) async throws -> (
            code: Int32, text: String
        ) {
            try await withTemporaryDirectory("sluice-verify") { directory in
                try Data((secret + "\n").utf8).write(to: URL(filePath: directory + "/secret.txt"))
                try Data(request.utf8).write(to: URL(filePath: directory + "/webhook.http"))
                return try await Command(directory).run(
                    ["verify", "--secret-file", "secret.txt", "--request", "webhook.http"] + more)
            }
        }

        static func request(_ body: String = "Hello, World!", signature: String = signature) -> String {
            "POST /hooks/x HTTP/1.1\r\nHost: hooks.example.com\r\nX-Hub-Signature-256: sha256=\(signature)\r\n\r\n\(body)"
        }

        @Test func c_aValidSignatureExitsWithZero() async throws {
            let answer = try await Self.verify(Self.request())
            #expect(answer.code == 0, "\(answer.text)")
            #expect(answer.text.contains("valid: github"))
        }

        @Test func c_aWrongOneExitsWithOneAndSaysWhy() async throws {
            let answer = try await Self.verify(Self.request("Hello, World!\n"))
            #expect(answer.code == 1)
            for text in ["not valid", "X-Hub-Signature-256", "mismatch", "{body}", "did not end with a line feed"] {
                #expect(answer.text.contains(text), "\(answer.text)")
            }
            #expect(!answer.text.contains(Self.secret))
            let wrong = try await Self.verify(Self.request(signature: String(repeating: "0", count: 64)))
            #expect(wrong.code == 1 && !wrong.text.contains(Self.signature))
        }

        @Test func c_timeIsJudgedAsIfItWereNow() async throws {
            let request = """
                POST / HTTP/1.1
                Stripe-Signature: t=1700000000,v1=\(String(repeating: "0", count: 64))

                {}
                """
            let stale = try await Self.verify(request, ["--scheme", "stripe", "--now", "1700000400"])
            #expect(stale.code == 1 && stale.text.contains("stale") && stale.text.contains("400 s"), "\(stale.text)")
            let early = try await Self.verify(request, ["--scheme", "stripe", "--now", "1699999000"])
            #expect(early.code == 1 && early.text.contains("from_the_future") && early.text.contains("1000 s"), "\(early.text)")
        }

        @Test func c_wrongUsageExitsWithTwo() async throws {
            let unknown = try await Self.verify(Self.request(), ["--scheme", "githb"])
            #expect(unknown.code == 2 && unknown.text.contains("github"), "\(unknown.text)")
            let garbage = try await Self.verify("no request")
            #expect(garbage.code == 2 && garbage.text.contains("Line 1"), "\(garbage.text)")
            let parameter = try await Self.verify(Self.request(), ["--scheme", "paypal", "--parameter", "webhok_id=1"])
            #expect(parameter.code == 2 && parameter.text.contains("it has webhook_id"), "\(parameter.text)")
            for url in ["hooks.example.com", "https://", "https:///x", "ftp://hooks.example.com"] {
                let answer = try await Self.verify(Self.request(), ["--scheme", "github", "--url", url])
                #expect(answer.code == 2 && answer.text.contains("--url must be"), "\(url): \(answer.text)")
            }
            try await withTemporaryDirectory("sluice-verify") { directory in
                let command = Command(directory)
                let unreadable = try await command.run(["verify", "--scheme", "github", "--secret-file", "absent", "--request", "absent"])
                #expect(unreadable.code == 2 && unreadable.text.contains("cannot be read: there is no such file"), "\(unreadable.text)")
                let nothing = try await command.run(["verify"])
                #expect(nothing.code == 2 && nothing.text.contains("--scheme"), "\(nothing.text)")
            }
        }

        @Test func c_theListNamesEveryScheme() async throws {
            try await withTemporaryDirectory("sluice-verify") { directory in
                let command = Command(directory)
                let list = try await command.run(["verify", "--list"])
                #expect(list.code == 0)
                for name in ["github", "aws-sns", "standard-webhooks-ed25519", "(experimental)", "UNSAFE"] {
                    #expect(list.text.contains(name))
                }
                let schemes = try #require(try await command.json(["verify", "--list", "--json"])["schemes"]?.elements)
                #expect(schemes.count == 61)
                #expect(schemes.allSatisfy { $0["name"]?.string != nil && $0["signed_content"]?.string != nil })
            }
        }
    }
}
