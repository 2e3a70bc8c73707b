import Foundation
import SluiceCore
import SluiceTesting
import Testing

extension Live {
    /// Show d: one connector written three times makes the same jobs of the same provider.
    @Suite(.serialized) struct ChargebeeLiveTests {
        /// As Lua lambdas, as `incremental`, in Swift.
        static let forms = ["chargebee-lua", "chargebee", "chargebee-swift"]

        static func configuration(_ provider: String) -> String {
            let connections = forms.map { form in
                """
                  \(form):
                    connector: \(form)
                    fields: { site_url: "\(provider)", api_key: "${env:DEMO_KEY}" }
                    webhook: { secrets: ["${env:DEMO_HOOK}"] }
                    allow_private: true
                """
            }
            let triggers = forms.flatMap { form in
                ["subscription", "customer", "invoice"].map { resource in
                    "  \(form)-\(resource): { connection: \(form), type: updated_record, input: { resource: \(resource) }, safety_interval: 5s }"
                }
            }
            return "connections:\n" + connections.joined(separator: "\n") + "\ntriggers:\n" + triggers.joined(separator: "\n") + "\n"
        }

        @Test func d_threeFormsOfOneConnectorMakeTheSameJobs() async throws {
            var varied = PromiseLiveTests.settings(PromiseLiveTests.quiet, perSecond: 20)
            // Versions that are replaced before a poll sees them may differ from form to form; creations may not.
            varied.world.updateShare = 0
            let settings = varied
            try await withTemporaryDirectory { directory in
                try await StandInProvider.with(settings) { provider in
                    let sluice = try SluiceProcess(
                        .init(directory: directory, configuration: Self.configuration(provider.baseURL), environment: Chargebee.environment)
                    )
                    defer { sluice.kill9() }
                    try await sluice.start()
                    try await Task.sleep(for: .seconds(15))
                    provider.setPaused(true)
                    let changes = provider.changes.count
                    #expect(changes > 150)
                    try await waitUntil("all jobs of all forms", seconds: 60, everyMilliseconds: 500) {
                        try await sluice.jobs().count >= changes * Self.forms.count
                    }
                    let jobs = try await sluice.jobs()
                    #expect(jobs.count == changes * Self.forms.count, "none twice")
                    for resource in ["subscription", "customer", "invoice"] {
                        let made = Self.forms.map { form in
                            Dictionary(
                                jobs.filter { $0.trigger == "\(form)-\(resource)" }.map { ($0.dedupKey, $0.record) },
                                uniquingKeysWith: { first, _ in first })
                        }
                        #expect(!made[0].isEmpty)
                        #expect(made[0] == made[1] && made[1] == made[2], "the same keys and the same bytes of \(resource)s")
                    }
                }
            }
        }
    }
}
