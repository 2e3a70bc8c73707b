import Foundation
import SluiceDelivery
import SluiceTesting
import Testing

@testable import SluiceNATS

/// TLS against a real server, with authorities and certificates made for the test.
@Suite struct NATSEncryptionTests {
    private func openssl(_ directory: String, _ arguments: [String]) async throws {
        try await ChildProcess.with(.init("openssl", arguments, workingDirectory: directory, outputFile: directory + "/openssl.log")) {
            let exit = try await $0.waitForExit()
            let output = try await $0.output()
            #expect(exit == .code(0), "\(output)")
        }
    }

    /// A certificate of its own authority, valid for `names`: NAME.pem and NAME.key.
    private func certificate(_ directory: String, _ name: String, _ names: String) async throws {
        try await openssl(
            directory,
            [
                "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=\(name)",
                "-addext", "subjectAltName=\(names)", "-keyout", "\(name).key", "-out", "\(name).pem",
            ])
    }

    @Test func f_onlyACertificateThatFitsIsTrusted() async throws {
        try await withTemporaryDirectory("sluice-nats") { directory in
            try await certificate(directory, "server", "IP:127.0.0.1")
            try await certificate(directory, "other", "IP:127.0.0.1")
            func text(_ name: String) async throws -> String {
                try await offPool { try String(contentsOfFile: "\(directory)/\(name)", encoding: .utf8) }
            }
            let tls = "tls { timeout: 30, cert_file: \"\(directory)/server.pem\", key_file: \"\(directory)/server.key\""
            let trusted = NATSDestination.TLS(authorities: try await text("server.pem"))
            @Sendable func carry(_ url: String, _ tls: NATSDestination.TLS) async -> String {
                let destination = NATSDestination(name: "bus", url: url, subject: "jobs", tls: tls, addresses: true, limitSeconds: 10)
                return await NATSCourier(destination).carry(NATSCourierTests.parcels(0..<1))[0].error ?? ""
            }
            let wrong = NATSDestination.TLS(authorities: try await text("other.pem"))
            try await NATSServer.with(directory: directory, extra: tls + " }") { server in
                let secure = "tls://127.0.0.1:\(server.port)"
                for url in [secure, server.url] {
                    // Connected: what is missing is the stream. A server may ask for TLS where the URL does not.
                    #expect(await carry(url, trusted).contains("no JetStream stream takes"))
                    for tls in [NATSDestination.TLS(), wrong] { #expect(await carry(url, tls).contains("no TLS connection")) }
                }
                // The certificate is for the address, not for this name of it.
                #expect(await carry("tls://localhost:\(server.port)", trusted).contains("no TLS connection"))
            }
            let mutual = tls + ", ca_file: \"\(directory)/other.pem\", verify: true }"
            let own = NATSDestination.TLS(
                authorities: trusted.authorities, certificate: try await text("other.pem"), key: try await text("other.key"))
            try await NATSServer.with(directory: directory, extra: mutual) { server in
                let secure = "tls://127.0.0.1:\(server.port)"
                #expect(await carry(secure, own).contains("no JetStream stream takes"))
                #expect(!(await carry(secure, trusted).contains("no JetStream stream takes")))
            }
        }
    }
}
