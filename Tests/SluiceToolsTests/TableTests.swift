import Foundation
import SluiceConnectors
import SluiceServer
import SluiceSimulation
import Testing

/// Show a: the table of connectors, made by a command.
@Suite struct TableTests {
    static func programs() throws -> [String: String] {
        ConnectorTable.realPrograms(try String(contentsOfFile: Repository.path("connectors/real-programs.txt"), encoding: .utf8))
    }

    @Test func a_thePageIsWhatTheCommandWrites() async throws {
        let connectors = try ConnectorFile.all(in: [Repository.path("connectors")]).map { try ConnectorFile.load($0) }
        let table = await ConnectorTable(connectors, realPrograms: try Self.programs(), seeds: ConnectorSimulation.seedsStandard)
        #expect(table.rows.count == connectors.count && !table.rows.isEmpty)
        let page = try String(contentsOfFile: Repository.path("docs/CATALOGUE.md"), encoding: .utf8)
        #expect(page == table.markdown, "run: sluice connector table --write docs/CATALOGUE.md")
        for row in table.rows { #expect(row.trapsFailed == 0, "\(row.name)") }
    }

    /// What is said to run against a real program has a live test that says so.
    @Test func realProgramsHaveTheirLiveTests() throws {
        let live = try FileManager.default.contentsOfDirectory(atPath: Repository.path("Tests/SluiceLiveTests"))
        for (name, program) in try Self.programs() {
            #expect(FileManager.default.fileExists(atPath: Repository.path("connectors/\(name)/connector.lua")), "\(name)")
            let test = try #require(program.firstMatch(of: #/\(([A-Za-z]+)\)/#), "\(name): name its test in brackets").1
            #expect(live.contains("\(test).swift"), "\(name): there is no \(test)")
        }
    }
}
