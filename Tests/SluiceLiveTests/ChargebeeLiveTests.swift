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

        /// The key and the bytes of a version that every form must have made a job of.
        struct Version: Hashable {
            var resource: String
            var key: String
            var record: [UInt8]
            init(_ change: ProviderChange) {
                (resource, record) = (change.resource, change.record)
                key = change.kind == .deleted ? change.key + "@deleted" : change.key
            }
            init(_ job: DeliveryChecker.Job, _ resource: String) {
                (self.resource, record, key) = (resource, job.record, job.dedupKey)
            }
        }

        @Test func d_threeFormsOfOneConnectorMakeTheSameJobs() async throws {
            var varied = PromiseLiveTests.settings(PromiseLiveTests.quiet, perSecond: 20)
            (varied.world.updateShare, varied.world.deleteShare) = (0.25, 0.1)
            let settings = varied
            try await withTemporaryDirectory { directory in
                try await StandInProvider.with(settings) { provider in
                    let sluice = try SluiceProcess(
                        .init(directory: directory, configuration: Self.configuration(provider.baseURL), environment: Chargebee.environment)
                    )
                    defer { sluice.kill9() }
                    try await sluice.start()
                    try await Task.sleep(for: .seconds(15))
                    let kinds = [ProviderChange.Kind.created, .updated, .deleted]
                    try await waitUntil("more than ten changes of each kind", seconds: 60) {
                        let changes = provider.changes
                        return kinds.allSatisfy { kind in changes.count { $0.kind == kind } > 10 }
                    }
                    provider.setPaused(true)
                    let changes = provider.changes
                    for kind in kinds {
                        #expect(changes.count { $0.kind == kind } > 10, "\(kind)")
                    }
                    // Versions that are replaced before a poll sees them may differ from form to form; the last ones may not.
                    let all = Set(changes.map(Version.init))
                    let lasts = Set(
                        Dictionary(changes.map { ("\($0.resource) \($0.id)", $0) }, uniquingKeysWith: { $1 }).values.map(Version.init))
                    try? await waitUntil("the last version of each record, by each form", seconds: 60, everyMilliseconds: 500) {
                        let made = try await Self.made(sluice)
                        return Self.forms.allSatisfy { lasts.isSubset(of: made[$0] ?? []) }
                    }
                    let made = try await Self.made(sluice)
                    for form in Self.forms {
                        let jobs = made[form] ?? []
                        #expect(lasts.subtracting(jobs).isEmpty, "\(form) misses \(lasts.subtracting(jobs).map(\.key).sorted().prefix(5))")
                        #expect(Set(jobs).subtracting(all).isEmpty, "\(form) invents, or changes bytes")
                        #expect(Set(jobs).count == jobs.count, "\(form) makes jobs twice")
                        #expect(jobs.contains { $0.key.hasSuffix("@deleted") })
                    }
                }
            }
        }

        /// The jobs of each form.
        private static func made(_ sluice: SluiceProcess) async throws -> [String: [Version]] {
            var made: [String: [Version]] = [:]
            for job in try await sluice.jobs() {
                guard let dash = job.trigger.lastIndex(of: "-") else { continue }
                made[String(job.trigger[..<dash]), default: []].append(Version(job, String(job.trigger[job.trigger.index(after: dash)...])))
            }
            return made
        }
    }
}
