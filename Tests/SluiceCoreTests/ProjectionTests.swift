import SluiceCore
import Testing

@Suite struct ProjectionTests {
    private static func project(_ record: String, _ fields: [String]) throws -> String? {
        let projection = try JSONProjection(fields.map { try #require(JSONPath(text: $0)) })
        return projection.project(Array(record.utf8)[...]).map { String(decoding: $0, as: UTF8.self) }
    }

    static let record =
        #"{ "id" : 9007199254740993, "customer":{"name":"Å","email":"a@b.c","address":{"zip": "0123","n":1.50}},"lines":[{"sku":"x", "n":1e2}],"note":null}"#

    @Test(arguments: [
        (["id"], #"{"id":9007199254740993}"#),
        // The record's order, not that of the fields.
        (["lines", "id"], #"{"id":9007199254740993,"lines":[{"sku":"x", "n":1e2}]}"#),
        (["customer.email"], #"{"customer":{"email":"a@b.c"}}"#),
        (["customer.address.n", "customer.name"], #"{"customer":{"name":"Å","address":{"n":1.50}}}"#),
        (["customer.address", "customer.address.n"], #"{"customer":{"address":{"zip": "0123","n":1.50}}}"#),
        (["note", "missing"], #"{"note":null}"#),
        // Nothing is left of an object: it is left out; a path does not lead through arrays or scalars.
        (["customer.phone", "id"], #"{"id":9007199254740993}"#), (["lines.sku"], "{}"), (["id.x"], "{}"), (["nothing"], "{}"),
    ])
    func bytesAreKept(_ fields: [String], _ wanted: String) throws {
        #expect(try ProjectionTests.project(ProjectionTests.record, fields) == wanted)
    }

    @Test func keysAreComparedByMeaningAndWrittenAsTheyCame() throws {
        #expect(try ProjectionTests.project(#"{"\u0069d":1,"x":2}"#, ["id"]) == #"{"\u0069d":1}"#)
        let pointed = try JSONProjection([JSONPath(["a.b", "c"])])
        #expect(
            pointed.project(Array(#"{"a":{"b":1},"a.b":{"c":2,"d":3}}"#.utf8)[...]).map { String(decoding: $0, as: UTF8.self) }
                == #"{"a.b":{"c":2}}"#)
    }

    /// As deep as a path may be; and what lies deeper is taken whole.
    @Test func aDeepPathIsFollowed() throws {
        let keys = [String](repeating: "k", count: 16)
        let record = String(repeating: #"{"o":0,"k":"#, count: 40) + "1e400" + String(repeating: "}", count: 40)
        let whole = String(repeating: #"{"o":0,"k":"#, count: 24) + "1e400" + String(repeating: "}", count: 24)
        let wanted = String(repeating: #"{"k":"#, count: 16) + whole + String(repeating: "}", count: 16)
        let kept = try JSONProjection([JSONPath(keys)]).project(Array(record.utf8)[...])
        #expect(kept.map { String(decoding: $0, as: UTF8.self) } == wanted)
        #expect(try JSONProjection([JSONPath(keys)]).project(Array(#"{"k":{"k":[{"k":1}]}}"#.utf8)[...]) == Array("{}".utf8))
    }

    @Test func ofAKeyThatStandsTwiceTheFirstCounts() throws {
        #expect(try ProjectionTests.project(#"{"id":1,"id":2,"a":{"b":3},"a":{"b":4}}"#, ["id", "a.b"]) == #"{"id":1,"a":{"b":3}}"#)
    }

    @Test func whatIsNoObjectHasNoFields() throws {
        for record in ["[1]", "\"id\"", "12", "null", ""] { #expect(try ProjectionTests.project(record, ["id"]) == nil) }
        #expect(try ProjectionTests.project(" {} \n", ["id"]) == "{}")
    }

    @Test func P10_fieldsAreBounded() throws {
        let many = (0..<1000).map { JSONPath(["f\($0)"]) }
        let error = try #require(throws: SluiceError.self) { try JSONProjection(many) }
        #expect(error.message.contains("200") && error.message.contains("1000"))
        #expect(throws: SluiceError.self) { try JSONProjection([]) }
        #expect(throws: SluiceError.self) { try JSONProjection([JSONPath([])]) }
        #expect(throws: SluiceError.self) { try JSONProjection([JSONPath([String](repeating: "a", count: 17))]) }
        #expect(throws: SluiceError.self) { try JSONProjection([JSONPath([String(repeating: "a", count: 257)])]) }
        #expect(JSONPath(text: "a..b") == nil && JSONPath(text: "") == nil && JSONPath(text: "a.") == nil)
        #expect(try JSONProjection(Array(many.prefix(200))).project(Array(#"{"f199":1,"x":2}"#.utf8)[...]) == Array(#"{"f199":1}"#.utf8))
    }

    /// Whatever is kept is found at the same path, with the same bytes, and nothing else is.
    @Test func whatIsKeptIsWhatThePathsFind() throws {
        var random = SeededNumbers(seed: 7)
        for _ in 0..<2000 {
            let record = ProjectionTests.object(&random, depth: 0)
            let paths = (0..<Int(1 + random.next() % 4)).map { _ in
                JSONPath((0..<Int(1 + random.next() % 3)).map { _ in "k\(random.next() % 4)" })
            }
            let source = try JSONDocument(Array(record.utf8)).root
            let bytes = try #require(try JSONProjection(paths).project(Array(record.utf8)[...]))
            let kept = try JSONDocument(bytes).root
            for path in paths {
                let (before, after) = (path.find(in: source), path.find(in: kept))
                // A shorter path among them may take the whole; a longer one is found in it all the same.
                #expect(
                    before.map { Array($0.bytes) } == after.map { Array($0.bytes) } || before?.kind == .object && after == nil,
                    "\(record) \(paths)")
                if let before, before.kind != .object { #expect(after != nil, "\(record) \(paths)") }
            }
            ProjectionTests.checkNothingElse(kept, [], paths, record)
        }
    }

    private static func checkNothingElse(_ view: JSONView, _ above: [String], _ paths: [JSONPath], _ record: String) {
        for (key, value) in view.members ?? [] {
            let here = above + [key]
            if paths.contains(where: { $0.keys == here }) { continue }
            #expect(paths.contains { $0.keys.starts(with: here) } && value.kind == .object, "\(here) of \(record) for \(paths)")
            checkNothingElse(value, here, paths, record)
        }
    }

    private static func object(_ random: inout SeededNumbers, depth: Int) -> String {
        var keys: Set<UInt64> = []
        for _ in 0..<(1 + random.next() % 4) { keys.insert(random.next() % 4) }
        let members = keys.sorted().map { key in
            let value =
                switch random.next() % (depth < 3 ? 5 : 4) {
                case 0: "1.50"
                case 1: "\"a}b\\\"{\""
                case 2: "[{\"k1\":1} , 2]"
                case 3: "null"
                default: object(&random, depth: depth + 1)
                }
            return "\"k\(key)\" : \(value)"
        }
        return "{" + members.joined(separator: " , ") + "}"
    }
}

/// SplitMix64.
struct SeededNumbers {
    var state: UInt64
    init(seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
