import Foundation
import Testing

/// The house rules that a reader should not have to check.
@Suite struct TidyTests {
    static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    /// Which of our targets each target may import: docs/ARCHITECTURE.md, "Targets".
    static let arrows: [String: Set<String>] = [
        "SluiceCore": [],
        "SluiceConnectors": ["SluiceCore"],
        "SluiceLua": ["CLua", "SluiceConnectors", "SluiceCore"],
        "SluiceStore": ["SluiceCore"],
        "SluiceSQLite": ["CSQLite", "SluiceStore", "SluiceCore"],
        "SluiceGateway": ["SluiceStore", "SluiceConnectors", "SluiceCore"],
        "SluiceOutgoing": ["SluiceCore"],
        "SluicePolling": ["SluiceOutgoing", "SluiceStore", "SluiceConnectors", "SluiceCore"],
        "SluiceDelivery": ["SluiceOutgoing", "SluiceStore", "SluiceConnectors", "SluiceCore"],
        "SluiceNATS": ["CNATS", "SluiceDelivery", "SluiceOutgoing", "SluiceConnectors", "SluiceCore"],
        "SluiceServer": [
            "SluiceCore", "SluiceConnectors", "SluiceLua", "SluiceStore", "SluiceSQLite", "SluiceGateway", "SluicePolling",
            "SluiceDelivery", "SluiceOutgoing", "SluiceNATS",
        ],
        "SluiceSimulation": ["SluiceCore", "SluiceStore", "SluiceConnectors"],
        "sluice": ["SluiceServer", "SluiceSimulation", "SluiceCore", "SluiceConnectors", "SluiceStore"],
        "SluiceTesting": ["CNATS", "SluiceCore", "SluiceStore", "SluiceConnectors"],
        "sluice-demo": ["SluiceTesting", "SluiceCore"],
    ]

    /// What the pure targets may import from elsewhere.
    static let pureImports: [String: Set<String>] = [
        "SluiceCore": ["DequeModule", "HeapModule"],
        "SluiceConnectors": ["Crypto", "CryptoExtras", "Synchronization", "FoundationEssentials"],
        "SluiceSimulation": [],
        "SluiceStore": [],
    ]

    struct Source {
        var target: String
        var name: String
        var lines: [String]
    }

    static func sources() throws -> [Source] {
        let folder = root.appending(path: "Sources")
        let files = try #require(FileManager.default.enumerator(at: folder, includingPropertiesForKeys: nil))
        return try files.compactMap { $0 as? URL }.filter { $0.pathExtension == "swift" }.map { file in
            let parts = file.path(percentEncoded: false).dropFirst(folder.path(percentEncoded: false).count).split(separator: "/")
            let text = try String(contentsOf: file, encoding: .utf8)
            return Source(target: String(parts[0]), name: parts.joined(separator: "/"), lines: text.components(separatedBy: "\n"))
        }
    }

    static func imports(_ source: Source) -> [String] {
        source.lines.compactMap { line in
            let words = line.split(separator: " ").map(String.init)
            guard let place = words.firstIndex(of: "import"), place < words.count - 1, !line.hasPrefix("//"),
                words[..<place].allSatisfy({
                    $0.hasPrefix("@") || ["public", "internal", "private", "package", "fileprivate"].contains($0)
                })
            else { return nil }
            let name = words[place + 1]
            return ["struct", "class", "enum", "protocol", "func"].contains(name) && place + 2 < words.count
                ? String(words[place + 2].prefix { $0 != "." }) : String(name.prefix { $0 != "." })
        }
    }

    @Test func importsFollowTheArrows() throws {
        let ours = Set(TidyTests.arrows.keys).union(["CLua", "CLua54", "CNATS", "CSQLite", "SluicePostgres", "SluiceConsole"])
        let sources = try TidyTests.sources()
        #expect(sources.count > 30)
        for source in sources {
            let allowed = try #require(
                TidyTests.arrows[source.target], "\(source.name): a new target needs its arrows here and in docs/ARCHITECTURE.md")
            for name in TidyTests.imports(source) where ours.contains(name) {
                #expect(allowed.contains(name), "\(source.name) imports \(name), which is not along an arrow")
            }
        }
    }

    @Test func pureTargetsStayPure() throws {
        for source in try TidyTests.sources() {
            guard let allowed = TidyTests.pureImports[source.target] else { continue }
            for name in TidyTests.imports(source) where !allowed.contains(name) && TidyTests.arrows[source.target]?.contains(name) != true {
                Issue.record("\(source.name) imports \(name)")
            }
        }
    }

    @Test func coreReadsNoClockAndNoRandomness() throws {
        let forbidden = ["Date()", "UUID()", ".random(", "SystemRandomNumberGenerator", "ContinuousClock", "clock_gettime", "Task {"]
        for source in try TidyTests.sources() where ["SluiceCore", "SluiceSimulation"].contains(source.target) {
            for (number, line) in source.lines.enumerated() where !line.trimmingCharacters(in: .whitespaces).hasPrefix("//") {
                for word in forbidden where line.contains(word) { Issue.record("\(source.name):\(number + 1) uses \(word)") }
            }
        }
    }

    /// Structured concurrency only; each exception says why in its file.
    @Test func tasksAreStructured() throws {
        let allowed: Set<String> = []
        for source in try TidyTests.sources() where !allowed.contains(source.name) && source.target != "SluiceTesting" {
            for (number, line) in source.lines.enumerated() {
                let code = line.trimmingCharacters(in: .whitespaces)
                if code.hasPrefix("//") { continue }
                if code.contains("Task.detached") || code.range(of: #"(^|[^a-zA-Z.])Task(\(.*\))? \{"#, options: .regularExpression) != nil
                {
                    Issue.record("\(source.name):\(number + 1) starts an unstructured task")
                }
            }
        }
    }

    @Test func nothingIsLeftUnfinished() throws {
        let marks = ["TO" + "DO", "FIX" + "ME", "XX" + "X", "fatalError(\"not", "fatalError(\"unimpl"]
        for source in try TidyTests.sources() {
            for (number, line) in source.lines.enumerated() {
                for mark in marks where line.contains(mark) { Issue.record("\(source.name):\(number + 1) has \(mark)") }
            }
        }
    }

    @Test func filesStayReadable() throws {
        for source in try TidyTests.sources() where source.lines.count > 700 {
            Issue.record("\(source.name) has \(source.lines.count) lines: split it")
        }
    }

    /// docs/PROMISES.md names tests that are there, and each promise that is kept has one named after it.
    @Test func promisesHaveTheirTests() throws {
        let page = try String(contentsOf: TidyTests.root.appending(path: "docs/PROMISES.md"), encoding: .utf8)
        let mentioned = Set(page.matches(of: #/`(P[0-9]+_[A-Za-z0-9_]+|[a-z]_[A-Za-z0-9_]+)`/#).map { String($0.1) })
        #expect(mentioned.count > 20)
        var (functions, cases): (Set<String>, Set<String>) = ([], [])
        for folder in ["Tests", "Sources/SluiceTesting/StoreConformance"] {
            let files = try #require(
                FileManager.default.enumerator(at: TidyTests.root.appending(path: folder), includingPropertiesForKeys: nil))
            for case let file as URL in files where file.pathExtension == "swift" {
                let text = try String(contentsOf: file, encoding: .utf8)
                functions.formUnion(text.matches(of: #/func ([A-Za-z0-9_]+)\(/#).map { String($0.1) })
                // The conformance suite's cases are tests by name.
                if folder != "Tests" { cases.formUnion(text.matches(of: #/"(P[0-9]+_[A-Za-z0-9_]+)"/#).map { String($0.1) }) }
            }
        }
        for name in mentioned.sorted() { #expect(functions.contains(name) || cases.contains(name), "there is no test \(name)") }
        for promise in 1...12 {
            #expect(functions.contains { $0.hasPrefix("P\(promise)_") }, "no test function is named after P\(promise)")
            #expect(mentioned.contains { $0.hasPrefix("P\(promise)_") }, "docs/PROMISES.md names no test of P\(promise)")
        }
    }

    /// What the README tells a newcomer to run must exist.
    @Test func readmeNamesWhatIsThere() throws {
        let readme = try String(contentsOf: TidyTests.root.appending(path: "README.md"), encoding: .utf8)
        for path in [
            "./run", "./test", "docs/ARCHITECTURE.md", "docs/OPERATIONS.md", "docs/CONNECTORS.md", "docs/PROMISES.md", "docs/benchmarks.md",
            "CONTRIBUTING.md", "LICENSE",
        ] {
            #expect(readme.contains(path), "README.md does not name \(path)")
            #expect(
                FileManager.default.fileExists(atPath: TidyTests.root.appending(path: path).path(percentEncoded: false)),
                "\(path) is missing")
        }
    }
}
