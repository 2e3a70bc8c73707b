import SluiceCore
import Testing

@testable import SluiceServer

@Suite struct OpenAPITests {
    static let document = try! JSONDocument(OpenAPI.document).root

    @Test func eachRouteHasExactlyOneOperation() {
        let routes = API.routes.map { "\($0.method) \($0.path)" }
        let operations = OpenAPI.operations.map { "\($0.method) \($0.path)" }
        #expect(routes.count > 30 && Set(routes).count == routes.count)
        for route in routes {
            #expect(operations.filter { $0 == route }.count == 1, "\(route) needs one operation: OpenAPI/OpenAPI.swift says how")
        }
        for operation in operations { #expect(routes.contains(operation), "\(operation) is described, and there is no such route") }
        #expect(Set(OpenAPI.operations.map(\.id)).count == operations.count, "operation ids are unique")
    }

    @Test(arguments: OpenAPI.operations.map(\.id)) func anOperationIsWhole(_ id: String) throws {
        let operation = try #require(OpenAPI.operations.first { $0.id == id })
        let inPath = operation.path.split(separator: "/").filter { $0.hasPrefix(":") }.map { String($0.dropFirst()) }
        #expect(operation.parameters.filter { $0.place == .path }.map(\.name).sorted() == inPath.sorted())
        #expect(Set(operation.parameters.map { "\($0.place) \($0.name)" }).count == operation.parameters.count)
        #expect(!operation.answers.isEmpty && operation.answers.allSatisfy { (200..<300).contains($0.status) })
        for status in operation.errors { #expect(OpenAPI.errorNotes[status] != nil, "\(status) needs a note in OpenAPI.errorNotes") }
        // Examples are what they are examples of.
        if let body = operation.body, let example = body.example {
            let value = try JSONDocument(Array(example.utf8)).root
            #expect(body.schema.problem(with: value, isRequest: true) == nil)
        }
        for answer in operation.answers where answer.type == "application/json" {
            guard let example = answer.example else { continue }
            let problem = answer.schema.problem(with: try JSONDocument(Array(example.utf8)).root, isRequest: false)
            #expect(problem == nil, "\(problem ?? "")")
        }
        for parameter in operation.parameters {
            guard let example = parameter.example else { continue }
            #expect(parameter.schema.problem(withText: example, named: parameter.name) == nil)
        }
    }

    @Test func everyReferenceLeadsSomewhere() throws {
        var references: Set<String> = []
        func walk(_ value: JSONView) {
            for member in value.members ?? [] {
                if member.key == "$ref", let target = member.value.string { references.insert(target) }
                walk(member.value)
            }
            for element in value.elements ?? [] { walk(element) }
        }
        walk(Self.document)
        #expect(references.count > 10)
        for reference in references {
            let path = reference.split(separator: "/").dropFirst().map(String.init)
            #expect(Self.document[path: path] != nil, "\(reference) leads nowhere")
        }
        let names = OpenAPI.areas.flatMap(\.schemas).map(\.name)
        #expect(Set(names).count == names.count, "two schemas have one name")
    }

    @Test func theDocumentIsOpenToAll() async throws {
        try await Fixture.withAPI { api, _ in
            let answer = await api.respond(to: APIRequest("GET", "/openapi.json"))
            #expect(answer.status == 200)
            let root = try JSONDocument(answer.body).root
            #expect(root["openapi"]?.string == "3.1.0")
            #expect(await api.respond(to: APIRequest("GET", "/v1/status")).status == 401)
        }
    }

    @Test func whatIsNotDescribedIsRefusedByName() async throws {
        try await Fixture.withAPI { api, _ in
            for (query, words) in [
                ([("limt", "5")], "did you mean `limit`?"), ([("limit", "5"), ("limit", "6")], "`limit` is given twice"),
                ([("limit", "5x")], "`limit` is a whole number from 1 to 1000"), ([("newest", "yes")], "`newest` is true or false"),
                ([("trigger", String(repeating: "a", count: 65))], "text of at most 64 characters"),
            ] as [([(name: String, value: String)], String)] {
                let answer = await api.ask("GET", "/v1/jobs", query: query)
                #expect(answer.status == 400 && answer.text.contains(words), "\(answer.text)")
            }
            for (body, words) in [
                (#"{"nam":"a"}"#, "did you mean `name`?"), (#"{"name":"a","name":"b"}"#, "`name` is given twice"),
                (#"{"name":5}"#, "`name` is at most 64 letters"), (#"{}"#, "it is missing"), (#"[]"#, "must be a JSON object"),
                (#"{"name":"a\u0000"}"#, "`name` is at most 64 letters"), ("{", "not JSON"),
            ] {
                let answer = await api.ask("POST", "/v1/tokens", body)
                #expect(answer.status == 400 && answer.text.contains(words), "\(answer.text)")
            }
            #expect(await api.ask("GET", "/v1/health", query: [("x", "")]).text.contains("it takes no query"))
            let hours = await api.ask("POST", "/v1/connections/none/rotate-endpoint", #"{"overlap_hours":null}"#)
            #expect(hours.status == 404, "what may be left out may be null")
            let decimal = await api.ask("POST", "/v1/connections/none/rotate-endpoint", #"{"overlap_hours":24.0}"#)
            #expect(decimal.status == 404, "24.0 is a whole number")
            #expect(await api.ask("POST", "/v1/connections/none/rotate-endpoint", #"{"overlap_hours":24.5}"#).status == 400)
            // JSON that is no order is not taken for a manifest.
            let order = APIRequest("POST", "/v1/apply", isTrusted: true, contentType: "application/json", body: Array("{}".utf8))
            #expect(await api.respond(to: order).error?.message.contains("`manifest` is text, and it is missing") == true)
        }
    }

    @Test func otherMethodsAreRefusedWithThoseThereAre() async throws {
        try await Fixture.withAPI { api, _ in
            // POST takes a command in the place of `cursor`; what is named wins.
            for method in ["HEAD", "OPTIONS", "TRACE", "PATCH", "POST", "BREW"] {
                let answer = await api.respond(to: APIRequest(method, "/v1/triggers/a/cursor", isTrusted: true))
                #expect(answer.status == 405)
                #expect(answer.headers.first { $0.name == "Allow" }?.value == "GET, PUT, DELETE")
            }
            #expect(await api.respond(to: APIRequest("TRACE", "/v1/health")).status == 405, "also without a token, where none is needed")
            #expect(await api.respond(to: APIRequest("TRACE", "/v1/status")).status == 401)
        }
    }

    /// What is no whole number by its schema reaches the handler byte for byte.
    @Test func onlyWholeNumbersAreWrittenAnew() throws {
        let schema = Schema.object([Member("n", .whole), Member("list", .list(of: .whole)), Member("any", .any)])
        let body = #"{"n":-7.000,"list":[1.0,2],"any":{"x":1.0,"y":1.50e+1}}"#
        let plain = schema.plain(try JSONDocument(Array(body.utf8)).root)
        #expect(String(decoding: plain, as: UTF8.self) == #"{"n":-7,"list":[1,2],"any":{"x":1.0,"y":1.50e+1}}"#)
    }

    @Test func queriesThatCannotBeDecodedAreRefused() {
        #expect(Percent.query("a=1&b=%zz&c=%ff").map(\.name) == ["a", "b=%zz", "c=%ff"])
    }

    /// The checks that the other tests rely on do find something.
    @Test(arguments: [
        (#"{"id":"x"}"#, "it is missing"), (#"{"jobs":[],"next":"","more":false,"extra":1}"#, "takes no `extra`"),
        (#"{"jobs":[],"next":null,"more":false}"#, "`next` is text"), (#"{"jobs":[{}],"next":"","more":false}"#, "`jobs[0].id` is text"),
        ("{", "not JSON"),
    ]) func anAnswerThatIsNotAsDescribedIsNoticed(_ body: String, _ words: String) {
        let problem = Documented.problem(with: APIResponse(body: Array(body.utf8)), to: APIRequest("GET", "/v1/jobs"))
        #expect(
            problem?.contains(words) == true || body.contains(#""id""#) && problem?.contains("takes no `id`") == true, "\(problem ?? "")")
    }
}
