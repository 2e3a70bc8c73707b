import Foundation
import SluiceConnectors
import SluiceCore
import SluiceServer
import SluiceSimulation
import Testing

/// One broken connector among others: it is named, and the others are looked at all the same.
@Suite struct BrokenConnectorTests {
    private static let good = """
        return { name = "good", title = "Good", version = "1", webhook = { scheme = "standard-webhooks" },
          triggers = { anything = { webhook_notification = function(request) return request.json end } } }
        """

    private func directory(_ body: (String) async throws -> Void) async throws {
        try await withDirectory { directory in
            for name in ["good", "wrong", "folder/connector.lua"] {
                try FileManager.default.createDirectory(atPath: "\(directory)/\(name)", withIntermediateDirectories: true)
            }
            try Self.good.write(toFile: directory + "/good/connector.lua", atomically: true, encoding: .utf8)
            try "return {".write(toFile: directory + "/wrong/connector.lua", atomically: true, encoding: .utf8)
            try await body(directory)
        }
    }

    @Test func eachIsLoadedByItself() async throws {
        try await directory { directory in
            let files = try ConnectorFile.all(in: [directory])
            #expect(files.count == 3, "\(files)")
            let (connectors, broken) = ConnectorFile.loadEach(files)
            #expect(connectors.map(\.definition.name) == ["good"])
            #expect(broken.map(\.file) == ["\(directory)/folder/connector.lua", "\(directory)/wrong/connector.lua"])
            #expect(broken.allSatisfy { !$0.message.isEmpty && !$0.message.hasPrefix(directory) }, "\(broken)")
            let reports = await ConnectorSimulation.run(connectors[0], seeds: 1)
            let text = ConnectorSimulation.text(reports, seeds: 1, broken: broken)
            #expect(text.contains("\(directory)/wrong/connector.lua  BROKEN  ") && text.contains("good 1"), "\(text)")
            let json = try JSONDocument(ConnectorSimulation.json(reports, seeds: 1, broken: broken)).root
            #expect(json["broken"]?.elements?.compactMap { $0["file"]?.string } == broken.map(\.file))
            let table = await ConnectorTable(connectors, broken: broken, realPrograms: [:], seeds: 1)
            #expect(table.text.contains("wrong/connector.lua  BROKEN  ") && table.rows.count == 1, "\(table.text)")
            #expect(try JSONDocument(table.json).root["broken"]?.elements?.count == 2)
        }
    }

    /// A directory where the file should be is a finding like others.
    @Test func whatCannotBeReadIsAFinding() async throws {
        try await directory { directory in
            let lints = try ConnectorLints(file: directory + "/folder")
            #expect(lints.connector == nil && lints.findings.count == 1)
            #expect(lints.findings.first?.text.contains("irectory") == true, "\(lints.findings.map(\.text))")
            #expect(throws: SluiceError.self) { try ConnectorLints(file: directory + "/nowhere") }
        }
    }

    @Test func aPageThatCannotBeWrittenSaysWhy() async throws {
        try await withDirectory { directory in
            try SmallFile.writePage(directory + "/page.md", "# Page\n")
            #expect(try String(contentsOfFile: directory + "/page.md", encoding: .utf8) == "# Page\n")
            let error = #expect(throws: SluiceError.self) { try SmallFile.writePage(directory + "/no/page.md", "") }
            #expect(error?.message == "cannot write \(directory)/no/page.md: No such file or directory")
        }
    }
}
