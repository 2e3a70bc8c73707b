import SluiceCore

extension Shape {
    /// Takes its keys out of an `incremental`'s table: `body`, `sign`, `carry`, `conditional`, `lookup`, `format`, `xml_lists`,
    /// `flatten`, `filter`, `tombstone`, `enrich`, `map`. Throws an error that names the key and what mends it.
    init(_ reader: inout RuleReader) throws(SluiceError) {
        if let rule = try reader.optionalNested("body") { body = try RequestBody(rule) }
        if let rule = try reader.optionalNested("sign") { signing = try RequestSigning(rule) }
        for rule in try reader.nestedList("carry") { carried.append(try CarriedHeader(rule)) }
        isConditional = try reader.flag("conditional") ?? false
        for rule in try reader.nestedList("lookup") { lookups.append(try Lookup(rule)) }
        format = try Shape.format(&reader)
        if let rule = try reader.optionalNested("flatten") { flatten = try Flatten(rule) }
        for rule in try reader.nestedList("filter") { filter.append(try FilterCondition(rule)) }
        if let rule = try reader.optionalNested("tombstone") { tombstone = try Tombstone(rule) }
        if let rule = try reader.optionalNested("enrich") { enrichment = try Enrichment(rule) }
        if let rule = try reader.optionalNested("map") { map = RecordMap(try rule.allPaths()) }
    }

    private static func format(_ reader: inout RuleReader) throws(SluiceError) -> PageFormat {
        let lists = try reader.names("xml_lists")
        let name = try reader.choice("format", ["json", "ndjson", "xml"])
        if name != "xml", !lists.isEmpty { throw reader.fault("xml_lists", "needs format = \"xml\"") }
        return switch name {
        case "ndjson": .ndjson
        case "xml": .xml(lists: lists)
        default: .json
        }
    }
}

extension Incremental {
    /// What the shape's parts need of each other and of the rest. Throws an error that names the key and what mends it.
    func checkShape() throws(SluiceError) {
        func fault(_ key: String, _ what: String) -> SluiceError { SluiceError(.connector, "incremental.\(key) \(what)") }
        if shape.body != nil, method != "POST" { throw fault("body", "needs method = \"POST\"") }
        if shape.body?.names("upper") == true, cursor?.isUpperAlwaysSent != true {
            throw fault("body", "names {upper}, which needs cursor.upper_always = true")
        }
        if cursor?.isUpperAlwaysSent == true {
            guard let cursor, cursor.unitsPerSecond != nil, cursor.writtenMilliseconds <= 1000 else {
                throw fault("cursor.upper_always", "needs a cursor that is written as a time to the second or finer than a second")
            }
            guard cursor.upperParameter != nil || shape.body?.names("upper") == true else {
                throw fault("cursor.upper_always", "needs cursor.upper_parameter, or {upper} in the body")
            }
        }
        if case .ndjson = shape.format, !records.keys.isEmpty {
            throw fault("records", "must be left out with format = \"ndjson\": each line is a record")
        }
        if shape.format.isXML, records.keys.count < 2 {
            throw fault("records", "must name the elements from the root to the record with format = \"xml\", such as \"feed.entry\"")
        }
        if shape.tombstone != nil, dedup.versions.isEmpty {
            throw fault("tombstone", "needs dedup.version: an item that is made and deleted again would be lost without it")
        }
        try checkConditional()
        try checkLookups()
    }

    /// A 304 must mean that there is no news: see `Validator`.
    private func checkConditional() throws(SluiceError) {
        guard shape.isConditional else { return }
        func fault(_ what: String) -> SluiceError { SluiceError(.connector, "incremental.conditional \(what)") }
        if method != "GET" { throw fault("needs method = \"GET\"") }
        if cursor?.isUpperAlwaysSent == true {
            throw fault("and cursor.upper_always exclude each other: no two requests would be the same")
        }
        if let partitions, partitions.countMax > Partitions.countMaxDefault {
            throw fault(
                "takes at most \(Partitions.countMaxDefault) partitions, since each keeps a validator of its own: lower partitions.max")
        }
        if case .none = pagination { return }
        guard pageSize != nil || cursor?.order == .descending else {
            throw fault("needs page_size, which tells a full page from one with room: a full one stays as it is when another begins")
        }
    }

    private func checkLookups() throws(SluiceError) {
        let lookups = shape.lookups
        guard lookups.count <= Lookup.countMax else {
            throw SluiceError(.connector, "incremental.lookup holds more than \(Lookup.countMax): use poll for that")
        }
        func check(_ templates: [Template], _ key: String, _ known: some Collection<String>) throws(SluiceError) {
            for name in templates.flatMap({ $0.names(of: .lookup) }) where !known.contains(name) {
                throw SluiceError(
                    .connector,
                    "incremental.\(key) names {lookup.\(name)}, which no lookup before it has as its `as`: add it or correct the name")
            }
        }
        let names = lookups.map(\.name)
        for (index, lookup) in lookups.enumerated() {
            guard !names[..<index].contains(lookup.name) else {
                throw SluiceError(.connector, "incremental.lookup: '\(lookup.name)' is there twice")
            }
            try check([lookup.path] + lookup.query.map(\.value), "lookup", names[..<index])
        }
        try check([path], "path", names)
        try check(query.map(\.value), "query", names)
        // Lookups send the same headers, before anything was found.
        try check(headers.map(\.value), "headers", names[..<0])
        if let signing = shape.signing { try check([signing.key, signing.content, signing.value], "sign", names[..<0]) }
        try check(shape.body?.templates ?? [], "body", names)
        if let enrichment = shape.enrichment { try check(enrichment.query.map(\.value) + [enrichment.template], "enrich", names) }
    }

    /// The rules of each variant, which are the others with its own in their place; nil without `variants`. Reads
    /// `{ by = "{input.object}", contact = { path = … }, company = { path = … } }`.
    static func variants(_ json: JSONView) throws(SluiceError) -> Variants? {
        KeyWitness.note("incremental", "variants", .value)
        guard let view = json["variants"], !view.isNull else { return nil }
        var reader = try RuleReader(view, at: "incremental.variants")
        let by = try reader.template("by")
        var rules: [String: Incremental] = [:]
        for (name, own) in view.members ?? [] where name != "by" {
            guard let replaced = own.members ?? (own.elements?.isEmpty == true ? [] : nil) else {
                throw reader.fault(name, "must be a table of keys that replace those of incremental")
            }
            guard !replaced.contains(where: { $0.key == "variants" }) else { throw reader.fault(name, "must hold no variants of its own") }
            PlaceWitness.enter(variant: name, keys: replaced.map(\.key))
            defer { PlaceWitness.leaveVariant() }
            do throws(SluiceError) {
                rules[name] = try Incremental(json: merged(json, replaced))
            } catch {
                throw SluiceError(error.code, "in incremental.variants.\(name): \(error.message)")
            }
        }
        guard !rules.isEmpty else {
            throw SluiceError(
                .connector, "incremental.variants holds none: write by = \"{input.object}\" and a table for each of its values")
        }
        return Variants(by: by, rules: rules)
    }

    private static func merged(_ json: JSONView, _ replaced: [(key: String, value: JSONView)]) throws(SluiceError) -> JSONDocument {
        var writer = JSONWriter()
        writer.object { writer in
            for (key, value) in json.members ?? [] where key != "variants" && !replaced.contains(where: { $0.key == key }) {
                writer.key(key)
                writer.raw(value.bytes)
            }
            for (key, value) in replaced {
                writer.key(key)
                writer.raw(value.bytes)
            }
        }
        do throws(JSONError) {
            return try JSONDocument(writer.bytes, depthMax: 80)
        } catch {
            throw SluiceError(.connector, "incremental.variants cannot be read: it \(error)")
        }
    }
}

extension Enrichment {
    var template: Template {
        switch address {
        case .path(let template), .url(let template): template
        }
    }

    fileprivate init(_ rule: RuleReader) throws(SluiceError) {
        var rule = rule
        let (path, url) = (try rule.optionalTemplate("path", .record), try rule.optionalTemplate("url", .record))
        switch (path, url) {
        case (let path?, nil): self.init(.path(path))
        case (nil, let url?): self.init(.url(url))
        default: throw rule.fault("path", "or url must say where a record is shown in full, and not both")
        }
        query = try rule.templates("query", .record)
        at = try rule.optionalPath("at") ?? JSONPath([])
        concurrency = Int(try rule.integer("concurrency", 1...Int64(Enrichment.concurrencyMax)) ?? 8)
        try rule.finish()
    }
}

extension RequestBody {
    fileprivate init(_ rule: RuleReader) throws(SluiceError) {
        var rule = rule
        var content: Content?
        if let view = rule.view("json") { content = try RequestBody.json(view, in: rule) }
        let fields = try rule.templates("form", RequestBody.places)
        if !fields.isEmpty { content = .form(fields) }
        if var graphQL = try rule.optionalNested("graphql") {
            let query = try graphQL.text("query")
            var variables: BodyValue?
            if let view = graphQL.view("variables"), case .json(let value) = try RequestBody.json(view, in: graphQL) { variables = value }
            content = .graphQL(query: query, variables: variables)
            try graphQL.finish()
        }
        if let text = try rule.optionalText("xml") { content = try RequestBody.xml(text, in: rule) }
        try rule.finishWithOne()
        guard let content else { throw rule.fault("form", "must name at least one field") }
        self.init(content: content)
    }

    private static func xml(_ text: String, in rule: RuleReader) throws(SluiceError) -> Content {
        do throws(SluiceError) {
            return try RequestBody.xml(text).content
        } catch {
            throw rule.fault("xml", "is malformed: \(error.message)")
        }
    }

    private static func json(_ view: JSONView, in rule: RuleReader) throws(SluiceError) -> Content {
        // Lua cannot tell an empty object from an empty array.
        if view.elements?.isEmpty == true { return .json(.object([])) }
        do throws(SluiceError) {
            return .json(try BodyValue(view))
        } catch {
            throw rule.fault("json", "is malformed: \(error.message)")
        }
    }
}

extension RequestSigning {
    fileprivate init(_ rule: RuleReader) throws(SluiceError) {
        var rule = rule
        let hash = try rule.required("hmac", try rule.choice("hmac", Hash.allCases.map(\.rawValue)).flatMap(Hash.init))
        self.init(
            hash: hash, key: try rule.template("key"),
            content: try rule.required("content", try rule.optionalTemplate("content", RequestSigning.contentPlaces)),
            header: try rule.headerName("header"))
        keyEncoding = try rule.choice("key_encoding", KeyEncoding.allCases.map(\.rawValue)).flatMap(KeyEncoding.init) ?? .text
        encoding = try rule.choice("encoding", Encoding.allCases.map(\.rawValue)).flatMap(Encoding.init) ?? .hex
        if let template = try rule.optionalTemplate("value", RequestSigning.valuePlaces) {
            guard template.names(of: .word).contains("signature") else { throw rule.fault("value", "must hold {signature}") }
            value = template
        }
        if var timestamp = try rule.optionalNested("timestamp") {
            timestampHeader = try timestamp.headerName("header")
            let forms = TimestampForm.allCases.map(\.rawValue)
            timestampForm = try timestamp.choice("format", forms).flatMap(TimestampForm.init) ?? .unixSeconds
            try timestamp.finish()
        }
        try rule.finish()
        if content.names(of: .word).contains("timestamp"), timestampHeader == nil, !value.names(of: .word).contains("timestamp") {
            throw rule.fault(
                "timestamp", "is missing: the provider cannot know the {timestamp} that is signed; add timestamp = { header = … }")
        }
    }
}

extension CarriedHeader {
    fileprivate init(_ rule: RuleReader) throws(SluiceError) {
        var rule = rule
        let header = try rule.headerName("header")
        self.init(header, as: try rule.optionalText("as") == nil ? header : try rule.headerName("as"))
        try rule.finish()
    }
}

extension Lookup {
    fileprivate init(_ rule: RuleReader) throws(SluiceError) {
        var rule = rule
        let name = try rule.text("as")
        guard !name.isEmpty, !name.contains("."), !name.contains("|"), !name.contains("}") else {
            throw rule.fault("as", "must be a plain name, such as account")
        }
        self.init(name, path: try rule.template("path"), at: try rule.path("at"))
        query = try rule.templates("query")
        records = try rule.optionalPath("records")
        if let condition = try rule.optionalNested("where") { self.condition = try FilterCondition(condition) }
        try rule.finish()
        if condition != nil, records == nil { throw rule.fault("where", "needs records, the list that it chooses from") }
    }
}

extension Flatten {
    fileprivate init(_ rule: RuleReader) throws(SluiceError) {
        var rule = rule
        let path = try rule.path("path")
        self.init(path: path, parent: try rule.optionalNested("parent").map { parent throws(SluiceError) in try parent.allPaths() } ?? [])
        try rule.finish()
    }
}

extension FilterCondition {
    init(_ rule: RuleReader) throws(SluiceError) {
        var rule = rule
        let field = try rule.path("field")
        var tests: [Test] = []
        for (key, make) in FilterCondition.comparisons {
            if let template = try rule.valueTemplate(key) { tests.append(make(template)) }
        }
        let choices = try rule.valueTemplates("one_of")
        if !choices.isEmpty { tests.append(.isOneOf(choices)) }
        if let flag = try rule.flag("exists") { tests.append(.exists(flag)) }
        try rule.finish()
        guard tests.count == 1 else {
            let known = (FilterCondition.comparisons.map(\.key) + ["one_of", "exists"]).joined(separator: ", ")
            throw rule.fault("field", "needs exactly one of \(known) beside it; write a second condition for another")
        }
        self.init(field, tests[0])
    }

    private static let comparisons: [(key: String, make: @Sendable (Template) -> Test)] = [
        ("equals", { .equals($0) }), ("not_equals", { .differs($0) }), ("above", { .above($0) }), ("below", { .below($0) }),
        ("at_least", { .atLeast($0) }), ("at_most", { .atMost($0) }),
    ]
}

extension Tombstone {
    fileprivate init(_ rule: RuleReader) throws(SluiceError) {
        var rule = rule
        self.init(field: try rule.path("field"), value: try rule.valueTemplate("equals"))
        try rule.finish()
    }
}
