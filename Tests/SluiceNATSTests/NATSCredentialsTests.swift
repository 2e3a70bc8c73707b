import Crypto
import Foundation
import SluiceDelivery
import SluiceTesting
import Testing

@testable import SluiceNATS

/// A `.creds` file, against a server that trusts an operator: the keys and tokens that `nsc` would make are made here.
@Suite struct NATSCredentialsTests {
    /// One of NATS's key pairs: `prefix` says whose.
    struct Pair {
        static let operatorPrefix: UInt8 = 14 << 3
        static let accountPrefix: UInt8 = 0
        let key: Curve25519.Signing.PrivateKey
        let prefix: UInt8
        var publicKey: String { NATSKey.encoded([prefix] + key.publicKey.rawRepresentation) }
        var seed: String { NATSKey.seed(of: Array(key.rawRepresentation), prefix: prefix) }

        init(_ number: UInt8, _ prefix: UInt8) throws {
            key = try Curve25519.Signing.PrivateKey(rawRepresentation: [UInt8](repeating: number, count: 32))
            self.prefix = prefix
        }

        /// A token about `subject`, signed by this pair. Source: NATS ADR-14, "JWT library free jwt user generation".
        func token(_ subject: Pair, _ claims: String) throws -> String {
            func encoded(_ data: Data) -> String {
                data.base64EncodedString().replacing("+", with: "-").replacing("/", with: "_").replacing("=", with: "")
            }
            let body = """
                {"jti":"x","iat":1700000000,"iss":"\(publicKey)","name":"n","sub":"\(subject.publicKey)","nats":{\(claims),"version":2}}
                """
            let text = encoded(Data(#"{"typ":"JWT","alg":"ed25519-nkey"}"#.utf8)) + "." + encoded(Data(body.utf8))
            return text + "." + encoded(try key.signature(for: Data(text.utf8)))
        }
    }

    /// Of an account; the system's own must have no JetStream.
    static func limits(hasStreams: Bool) -> String {
        let most = hasStreams ? -1 : 0
        return """
            "limits":{"subs":-1,"data":-1,"payload":-1,"imports":-1,"exports":-1,"wildcards":true,"conn":-1,"leaf":-1,\
            "mem_storage":\(most),"disk_storage":\(most),"streams":\(most),"consumer":\(most)}
            """
    }

    @Test func aCredentialsFileLogsInAndAnotherDoesNot() async throws {
        let root = try Pair(1, Pair.operatorPrefix)
        let (system, account) = (try Pair(2, Pair.accountPrefix), try Pair(3, Pair.accountPrefix))
        let (user, stranger) = (try Pair(4, NATSKey.userPrefix), try Pair(5, NATSKey.userPrefix))
        let accounts = try [(system, false), (account, true)].map { pair, hasStreams in
            "\(pair.publicKey): \"\(try root.token(pair, #""type":"account","# + Self.limits(hasStreams: hasStreams)))\""
        }
        let configuration = """
            operator: "\(try root.token(root, #""type":"operator""#))"
            system_account: \(system.publicKey)
            authorization { timeout: 30 }
            resolver: MEMORY
            resolver_preload { \(accounts.joined(separator: "\n")) }
            """
        let userClaims = #""type":"user","pub":{},"sub":{},"subs":-1,"data":-1,"payload":-1"#
        func file(_ token: String, _ seed: String) -> String {
            """
            -----BEGIN NATS USER JWT-----
            \(token)
            ------END NATS USER JWT------

            -----BEGIN USER NKEY SEED-----
            \(seed)
            ------END USER NKEY SEED------
            """
        }
        let good = file(try account.token(user, userClaims), user.seed)
        // Signed by nobody whom the operator knows; and the right token with a seed that is not its own.
        let bad = [file(try stranger.token(user, userClaims), user.seed), file(try account.token(user, userClaims), stranger.seed)]
        try await withTemporaryDirectory("sluice-nats") { directory in
            try await NATSServer.with(directory: directory, extra: configuration) { server in
                func answer(_ credentials: String) async throws -> CourierAnswer {
                    let destination = NATSDestination(
                        name: "bus", url: server.url, subject: "jobs", credentials: .file(credentials), addresses: true)
                    try destination.validate()
                    return await NATSCourier(destination).carry(NATSCourierTests.parcels(0..<1))[0]
                }
                // Logged in: what is missing is the stream.
                let found = try await answer(good)
                #expect(found.error?.contains("no JetStream stream takes") == true, "\(found)")
                for credentials in bad {
                    let refused = try await answer(credentials)
                    #expect(refused.error?.contains("refused the credentials") == true, "\(refused)")
                }
            }
        }
    }
}
