import Foundation
import SluiceCore
import SluiceTesting
import Testing

extension Live {
    /// P1, at the system calls of the real server: no byte of a 2xx leaves before a sync that follows its append.
    @Suite(.serialized) struct SyncLiveTests {
        static let shim = SluiceProcess.root + "/Tests/Shims/syncwatch.c"

        /// The order of writes, syncs and answers while webhooks come in over several connections at once.
        static func violations(synchronous: String) async throws -> (answers: Int, violations: [String]) {
            try await withTemporaryDirectory { directory in
                let library = directory + "/libsyncwatch.so"
                let compiler = try ChildProcess(
                    .init("cc", ["-shared", "-fPIC", "-O2", "-o", library, shim, "-ldl"], outputFile: directory + "/cc.log"))
                #expect(try await compiler.waitForExit(seconds: 60) == .code(0))
                let log = directory + "/sync.log"
                var environment = Chargebee.environment
                environment["LD_PRELOAD"] = library
                environment["SYNCWATCH_LOG"] = log
                environment["SLUICE_TEST_SYNCHRONOUS"] = synchronous
                // The provider is never there: polls fail, webhooks are accepted all the same.
                let sluice = try SluiceProcess(
                    .init(
                        directory: directory, configuration: Chargebee.configuration("http://127.0.0.1:9"), environment: environment))
                defer { sluice.kill9() }
                try await sluice.start()
                let url = try await sluice.webhookURL("demo")
                let credentials = Data("\(Chargebee.user):\(Chargebee.password)".utf8).base64EncodedString()
                let accepted = await withTaskGroup(of: Int.self) { group in
                    for lane in 0..<8 {
                        group.addTask {
                            var accepted = 0
                            for number in 0..<25 {
                                let marker = "sluice-marker-" + String(format: "%02d%06d", lane, number)
                                let body = #"{"id":"\#(marker)","event_type":"customer_changed"}"#
                                let status = await Web.post(url, Array(body.utf8), headers: [("Authorization", "Basic \(credentials)")])
                                if status == 200 { accepted += 1 }
                            }
                            return accepted
                        }
                    }
                    return await group.reduce(0, +)
                }
                #expect(accepted == 200)
                _ = await sluice.terminate()
                let text = try String(contentsOfFile: log, encoding: .utf8)
                return (SyncOrder.successCount(text), SyncOrder.violations(text))
            }
        }

        @Test func P1_noAnswerLeavesBeforeItsSync() async throws {
            let (answers, violations) = try await Self.violations(synchronous: "full")
            #expect(answers >= 200, "the shim saw the answers")
            #expect(violations.isEmpty, "\(violations.prefix(3))")
        }

        /// The same test must fail where the database does not sync.
        @Test func P1_theWatchFailsWithSynchronousNormal() async throws {
            let (answers, violations) = try await Self.violations(synchronous: "normal")
            #expect(answers >= 200)
            #expect(violations.count >= 100, "\(violations.count) violations")
            #expect(violations.contains { $0.contains("not synced") })
        }
    }
}
