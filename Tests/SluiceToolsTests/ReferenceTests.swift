import Foundation
import SluiceConnectors
import SluiceLua
import SluiceServer
import Testing

/// The reference says what the readers take, and the page for writers leaves none of it out.
@Suite struct ReferenceTests {
    @Test func theReferenceIsWhatTheCommandWrites() throws {
        let page = try String(contentsOfFile: Repository.path("docs/REFERENCE.md"), encoding: .utf8)
        #expect(page == (try ReferencePage.markdown()), "run: sluice connector reference --write docs/REFERENCE.md")
    }

    @Test func everyTableIsFound() throws {
        let tables = try ConnectorReference.make().tables
        let places = Set(tables.map(\.place))
        #expect(
            places.isSuperset(of: [
                "", "connection", "webhook", "triggers.NAME", "fields", "incremental", "incremental.cursor", "incremental.dedup",
                "incremental.pagination", "incremental.pagination.token", "incremental.pagination.keyset", "incremental.pagination.offset",
                "incremental.pagination.page", "incremental.partitions", "incremental.partitions.list", "incremental.page_size",
                "subscription",
            ]), "\(places.sorted())")
        let cursor = try #require(tables.first { $0.place == "incremental.cursor" })
        #expect(Set(cursor.keys.map(\.name)).isSuperset(of: ["field", "type", "order", "pattern", "from", "zone", "unique"]))
    }

    /// A required key with a form of its own hides none after it, and what is data or code says both.
    @Test func nothingEndsTheSearchForKeys() throws {
        let tables = try ConnectorReference.make().tables
        func keys(_ place: String) -> [String: String] {
            Dictionary(uniqueKeysWithValues: (tables.first { $0.place == place }?.keys ?? []).map { ($0.name, $0.takes) })
        }
        let grant = keys("connection.authorization.oauth2_refresh_token")
        for key in ["refresh_token", "token_url", "client_id", "client_secret", "client_auth", "scopes"] {
            #expect(grant[key] != nil, "\(key)")
        }
        #expect(keys("connection")["test"] == "a table, or a function" && keys("callbacks.NAME")["status"] == "a table, or a function")
        #expect(keys("connection")["authorization"] == "a table" && keys("triggers.NAME")["poll"] == "a function")
    }

    /// Each key in a reader's source is in the reference: none that it has not found.
    @Test func noReaderKnowsAKeyThatTheReferenceLacks() throws {
        let known = Set(try ConnectorReference.make().tables.flatMap { $0.keys.map(\.name) })
        let folder = URL(filePath: Repository.path("Sources/SluiceConnectors"))
        let files = try #require(FileManager.default.enumerator(at: folder, includingPropertiesForKeys: nil))
        var count = 0
        let call =
            #/(?:rule|reader|token|keyset|offset|page|next|size|basic|body|list|auth)\.(?:template|templates|optionalTemplate|text|optionalText|texts|flag|integer|integers|choice|path|optionalPath|paths|nested|optionalNested|nestedList|names|headerName|value|valueTemplate|valueTemplates)\("([a-z_]+)"/#
        for case let file as URL in files where file.pathExtension == "swift" {
            for match in try String(contentsOf: file, encoding: .utf8).matches(of: call) {
                count += 1
                #expect(known.contains(String(match.1)), "\(file.lastPathComponent) reads \(match.1)")
            }
        }
        #expect(count > 60)
    }

    @Test func thePageForWritersNamesEachKey() throws {
        let page = try String(contentsOfFile: Repository.path("docs/CONNECTORS.md"), encoding: .utf8)
        let words = Set(page.matches(of: #/[a-z_0-9]+/#).map { String($0.0) })
        for table in try ConnectorReference.make().tables {
            for key in table.keys { #expect(words.contains(key.name), "docs/CONNECTORS.md says nothing of \(table.place).\(key.name)") }
        }
    }
}
