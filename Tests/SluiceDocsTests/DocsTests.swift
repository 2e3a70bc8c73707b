import Foundation
import SluiceConnectors
import SluiceCore
import SluiceLua
import SluiceServer
import Testing

/// What the documentation shows must work as it stands there.
@Suite struct DocsTests {
    static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    static let pages = [
        "README.md", "docs/CONNECTORS.md", "docs/WORKATO.md", "docs/OPERATIONS.md", "docs/CALLBACKS.md", "docs/FILTERS.md",
        "docs/DEAD-LETTERS.md",
    ]

    /// A fenced block of a page.
    struct Block: Sendable, CustomTestStringConvertible {
        var page: String
        var line: Int
        var text: String
        var testDescription: String { "\(page):\(line)" }
    }

    static func blocks(_ language: String) throws -> [Block] {
        try pages.flatMap { page in
            var (result, open): ([Block], Block?) = ([], nil)
            let lines = try String(contentsOf: root.appending(path: page), encoding: .utf8).components(separatedBy: "\n")
            for (index, line) in lines.enumerated() {
                if var block = open {
                    if line == "```" {
                        result.append(block)
                        open = nil
                    } else {
                        block.text += line + "\n"
                        open = block
                    }
                } else if line == "```" + language {
                    open = Block(page: page, line: index + 2, text: "")
                } else if line.hasPrefix("```") {
                    // A block of another language: nothing in it opens one of ours.
                    open = nil
                }
            }
            #expect(open == nil, "\(page) has a block without an end")
            return result
        }
    }

    static func connector(_ block: Block) throws -> LuaConnector {
        try LuaConnector.load(source: Array(block.text.utf8), name: "", path: block.testDescription)
    }

    @Test func eachConnectorLoads() throws {
        let blocks = try DocsTests.blocks("lua")
        #expect(blocks.count >= 2)
        for block in blocks {
            let connector = try DocsTests.connector(block)
            #expect(!connector.definition.triggers.isEmpty || !connector.definition.callbacks.isEmpty, "\(block.testDescription)")
            if block.text.contains("help = function") {
                let help = connector.help(webhookBaseURL: "https://hooks.example.com/hooks/x")
                #expect(help.contains("/hooks/x"), "\(block.testDescription)")
            }
        }
    }

    /// The connectors of the page that poll the help desk's list read the answer that the page shows.
    @Test func eachConnectorReadsTheAnswerThatIsShown() async throws {
        let answer = try #require(try DocsTests.blocks("json").first { $0.page == "docs/CONNECTORS.md" })
        let count = try #require(try JSONDocument(Array(answer.text.utf8)).root["tickets"]?.elements?.count)
        let blocks = try DocsTests.blocks("lua").filter { $0.text.contains("name = \"tickets") && $0.text.contains("updated_ticket") }
        #expect(blocks.count >= 2)
        for block in blocks {
            let connector = try DocsTests.connector(block)
            let type = try #require(connector.definition.triggers.first)
            let request = PollRequest(
                triggerType: type.name, connection: try JSONDocument(Array(#"{"site_url":"https://acme.example.com","api_key":"k"}"#.utf8)),
                input: try JSONDocument(Array(#"{"status":"open"}"#.utf8)), cursor: nil, pageState: nil,
                readBound: Timestamp(seconds: 1_767_261_600))
            let page = try await connector.poll(request, http: Answering(body: Array(answer.text.utf8)))
            let keys = try connector.dedupKeys(triggerType: type.name, records: page.records).map { try $0.get() }
            #expect(page.records.count == count && Set(keys).count == count, "\(block.testDescription)")
            #expect(page.more == false, "\(block.testDescription)")
            let cursor = String(decoding: page.cursor ?? [], as: UTF8.self)
            #expect(
                cursor.contains("1767261480"),
                "\(block.testDescription): the cursor is the tickets' time, 2026-01-01T09:58:00Z, not \(cursor)")
            let webhook = WebhookRequest(
                method: "POST", path: "/hooks/x", query: "", headers: [], body: Array(#"{"type":"ticket.updated"}"#.utf8))
            let input = try JSONDocument(Array("{}".utf8))
            #expect(try connector.webhookKeys(webhook) == [try connector.webhookKey(triggerType: type.name, input: input)])
        }
    }

    /// The connector that is moved over polls both ways, by lambdas and as `incremental`: the same records, keys and cursor.
    @Test func theConnectorThatIsMovedOverReadsTheSameBothWays() async throws {
        let block = try #require(try DocsTests.blocks("lua").first { $0.page == "docs/WORKATO.md" })
        let connector = try DocsTests.connector(block)
        #expect(Set(connector.definition.triggers.map(\.name)) == ["updated_order", "updated_order_by_hand"])
        let answer = #"{"orders":[{"id":"a","updated_at":1767261480},{"id":"b","updated_at":1767261480}],"next_page":null}"#
        for type in connector.definition.triggers {
            let request = PollRequest(
                triggerType: type.name, connection: try JSONDocument(Array(#"{"site_url":"https://acme.example.com","api_key":"k"}"#.utf8)),
                input: try JSONDocument(Array("{}".utf8)), cursor: nil, pageState: nil, readBound: Timestamp(seconds: 1_767_261_600))
            let page = try await connector.poll(request, http: Answering(body: Array(answer.utf8)))
            let keys = try connector.dedupKeys(triggerType: type.name, records: page.records).map {
                String(decoding: try $0.get(), as: UTF8.self)
            }
            #expect(keys == ["a@1767261480", "b@1767261480"], "\(type.name)")
            #expect(page.more == false, "\(type.name)")
            #expect(String(decoding: page.cursor ?? [], as: UTF8.self).contains("1767261480"), "\(type.name)")
        }
    }

    @Test func eachManifestIsRead() throws {
        let blocks = try DocsTests.blocks("yaml")
        #expect(blocks.count >= 3)
        let files = try FileManager.default.contentsOfDirectory(
            atPath: DocsTests.root.appending(path: "examples").path(percentEncoded: false))
        let examples = try files.filter { $0.hasSuffix(".yaml") }.map {
            Block(
                page: "examples/\($0)", line: 1,
                text: try String(contentsOf: DocsTests.root.appending(path: "examples/\($0)"), encoding: .utf8))
        }
        for block in blocks + examples {
            let names = ReferenceText.all(in: try YAMLValue.parse(block.text, file: block.testDescription))
            let references = Dictionary(names.map { ($0, "value") }) { first, _ in first }
            let manifest = try ManifestReader.read(block.text, references: references, file: block.testDescription)
            #expect(!manifest.connections.isEmpty || !manifest.destinations.isEmpty, "\(block.testDescription)")
        }
    }

    /// Every path of the API is on the page for operators, and every code of an error.
    @Test func theOperatorsPageIsComplete() throws {
        let page = try String(contentsOf: DocsTests.root.appending(path: "docs/OPERATIONS.md"), encoding: .utf8)
        let sources = DocsTests.root.appending(path: "Sources")
        let routes = try String(contentsOf: sources.appending(path: "SluiceServer/API/Routes.swift"), encoding: .utf8)
        let paths = routes.matches(of: #/Route\("[A-Z]+", "([^"]+)"/#).map { String($0.1) }
        #expect(paths.count > 15)
        for path in paths { #expect(page.contains(path), "docs/OPERATIONS.md does not name \(path)") }
        let errors = try String(contentsOf: sources.appending(path: "SluiceCore/Values/SluiceError.swift"), encoding: .utf8)
        let codes = errors.matches(of: #/Self = "([a-z_]+)"/#).map { String($0.1) }
        let alarms = try String(contentsOf: sources.appending(path: "SluiceCore/Values/TimeSource.swift"), encoding: .utf8)
            .matches(of: #/Self = "([a-z_]+)"/#).map { String($0.1) }
        #expect(codes.count > 15 && alarms.count >= 8)
        for word in codes + alarms { #expect(page.contains("`\(word)`"), "docs/OPERATIONS.md does not explain \(word)") }
    }
}

/// Gives the same answer to every request.
struct Answering: HTTPSending {
    var body: [UInt8]
    func send(_ request: HTTPRequestPlan) async throws -> HTTPReply {
        HTTPReply(status: 200, headers: [HTTPField("Date", "Thu, 01 Jan 2026 10:00:00 GMT")], body: body)
    }
}
