import Foundation
import SluiceSimulation
import Testing

/// The connectors that the pages show are what people begin with: `check --strict` finds nothing in them, and they pass every trap.
@Suite struct DocsConnectorTests {
    struct Block: Sendable, CustomTestStringConvertible {
        var page: String
        var name: String
        var source: String
        var testDescription: String { "\(page), \(name)" }
    }

    static let blocks: [Block] = ["docs/CONNECTORS.md", "docs/WORKATO.md"].flatMap { page in
        let text = (try? String(contentsOfFile: Repository.path(page), encoding: .utf8)) ?? ""
        return text.components(separatedBy: "\n```lua\n").dropFirst().compactMap { rest in
            let source = rest.components(separatedBy: "\n```").first.map { $0 + "\n" } ?? ""
            return source.firstMatch(of: #/\n  name = "([^"]+)"/#).map { Block(page: page, name: String($0.1), source: source) }
        }
    }

    @Test func thePagesHaveConnectors() {
        #expect(Self.blocks.count { $0.page == "docs/CONNECTORS.md" } >= 7 && Self.blocks.contains { $0.page == "docs/WORKATO.md" })
    }

    @Test(arguments: blocks) func eachIsGoodAndPassesEveryTrap(_ block: Block) async throws {
        try await withDirectory { directory in
            let path = "\(directory)/\(block.name)"
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
            try block.source.write(toFile: path + "/connector.lua", atomically: true, encoding: .utf8)
            let all = try await findings(path)
            #expect(all.isEmpty, "\(all.map(\.text).joined(separator: "\n"))")
            for report in try await TrapTests.reports(path) {
                #expect(report.readsNoList || report.notSimulated == nil, "\(report.trigger): \(report.notSimulated ?? "")")
                #expect(report.failed == 0, "\(ConnectorSimulation.text([report], seeds: 5))")
            }
        }
    }
}
