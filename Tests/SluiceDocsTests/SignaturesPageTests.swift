import Foundation
import SluiceConnectors
import Testing

/// docs/SIGNATURES.md shows every scheme as the code has it.
@Suite struct SignaturesPageTests {
    static var table: String {
        let titles = ["scheme", "provider", "signed content", "algorithm", "signature", "headers", "tolerance", "secret"]
        let rows = SignatureScheme.all.map { scheme in
            let summary = scheme.summary
            return [
                "`\(scheme.name)`", summary.provider + (scheme.isExperimental ? " (experimental)" : ""), "`\(summary.content)`",
                summary.algorithm,
                summary.encoding, summary.headers.joined(separator: ", "), summary.toleranceSeconds.map { "\($0) s" } ?? "-",
                scheme.secretHint + summary.parameters.map { "; parameter `\($0)`" }.joined(),
            ]
        }
        return ([titles, titles.map { _ in "---" }] + rows).map { row in
            "| " + row.map { $0.isEmpty ? "-" : $0.replacingOccurrences(of: "|", with: "\\|") }.joined(separator: " | ") + " |"
        }.joined(separator: "\n")
    }

    @Test func thePageHoldsTheTableOfTheCode() throws {
        let page = try String(contentsOf: DocsTests.root.appending(path: "docs/SIGNATURES.md"), encoding: .utf8)
        let parts = page.components(separatedBy: "<!-- schemes -->\n")
        let shown = try #require(parts.last?.components(separatedBy: "\n<!-- end -->").first)
        if let file = ProcessInfo.processInfo.environment["SLUICE_WRITE_DOCS"], parts.count == 2 {
            let end = parts[1].components(separatedBy: "<!-- end -->").last ?? ""
            try (parts[0] + "<!-- schemes -->\n" + Self.table + "\n<!-- end -->" + end).write(
                toFile: file, atomically: true, encoding: .utf8)
            return
        }
        #expect(shown == Self.table, "write it anew: SLUICE_WRITE_DOCS=docs/SIGNATURES.md swift test --filter SignaturesPageTests")
    }
}
