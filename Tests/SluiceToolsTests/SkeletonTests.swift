import Foundation
import SluiceCore
import SluiceServer
import SluiceSimulation
import Testing

/// `sluice connector new`: what it writes works as it is.
@Suite struct SkeletonTests {
    @Test(arguments: ConnectorSkeleton.allCases) func eachSkeletonLoadsPassesAndCanBeTried(_ skeleton: ConnectorSkeleton) async throws {
        try await withDirectory { directory in
            let files = try skeleton.write(name: "acme-desk", directory: directory + "/connectors")
            let folder = directory + "/connectors/acme-desk"
            #expect(files.first == folder + "/connector.lua")
            let all = try await findings(folder, seeds: 5)
            #expect(all.isEmpty, "\(all.map(\.text))")
            guard skeleton.isPolling else { return }
            for report in await ConnectorSimulation.run(try ConnectorFile.load(folder)) {
                #expect(report.failed == 0 && report.passed >= 10, "\(ConnectorSimulation.text([report], seeds: 5))")
            }
            var order = Trial.Order(file: folder)
            order.replayDirectory = folder + "/fixtures"
            let trial = try await Trial.run(order)
            #expect(trial.failure == nil, "\(trial.text())")
            #expect(trial.pages.first?.records.map(\.key) == ["i1@2026-01-01T09:58:00Z", "i2@2026-01-01T09:58:00Z"])
            #expect(trial.cursorAfter.map { String(decoding: $0, as: UTF8.self) }?.contains("1767261480") == true)
        }
    }

    @Test func nothingIsOverwritten() async throws {
        try await withDirectory { directory in
            _ = try ConnectorSkeleton.incremental.write(name: "acme", directory: directory)
            let before = try String(contentsOfFile: directory + "/acme/connector.lua", encoding: .utf8)
            let error = #expect(throws: SluiceError.self) { try ConnectorSkeleton.lambdas.write(name: "acme", directory: directory) }
            #expect(error?.code == .conflict)
            #expect(try String(contentsOfFile: directory + "/acme/connector.lua", encoding: .utf8) == before)
        }
    }

    @Test(arguments: ["", "Acme", "a_b", "-a", "a/b", "../x", String(repeating: "a", count: 65)]) func namesThatCannotBeAreRefused(
        _ name: String
    ) async throws {
        try await withDirectory { directory in
            let error = #expect(throws: SluiceError.self) { try ConnectorSkeleton.incremental.write(name: name, directory: directory) }
            #expect(error?.code == .invalid)
            let left = try FileManager.default.contentsOfDirectory(atPath: directory)
            #expect(left.isEmpty)
        }
    }
}
