import SluiceCore

extension Incremental {
    /// Reads the description from a JSON object, as the Lua form gives it. Throws an error that names the key and what
    /// mends it; a key that means nothing is refused, since a misspelt one would be silently without effect.
    ///
    /// ```
    /// { "base_url": "{connection.site_url}", "path": "/api/v2/{input.resource}s", "query": {"sort_by[asc]": "updated_at"},
    ///   "auth": {"basic": {"user": "{connection.api_key}", "password": ""}},
    ///   "records": "list", "unwrap": "{input.resource}",
    ///   "cursor": {"field": "updated_at", "parameter": "updated_at[after]", "type": "unix_seconds", "exclusive": true,
    ///              "order": "asc", "lookback_seconds": 60, "visibility_lag_seconds": 5},
    ///   "since": "{input.since}", "default_since_seconds_ago": 3600,
    ///   "pagination": {"token": {"from": "next_offset", "parameter": "offset"}},
    ///   "page_size": {"parameter": "limit", "value": 100}, "dedup": {"id": "id", "version": "updated_at"} }
    /// ```
    /// A path is text with points between keys, or an array of keys. Other paginations: `"link": true` and
    /// `"keyset": {"from": "id", "parameter": "starting_after", "has_more": "has_more"}`; others of auth: `"bearer": "…"`, `"header": {"name": …,
    /// "value": …}`, `"query": {"name": …, "value": …}`. The keys of `Shape` stand beside them.
    public init(json: JSONDocument) throws(SluiceError) {
        if let variants = try Incremental.variants(json.root), let first = variants.rules.min(by: { $0.key < $1.key })?.value {
            self = first
            retention = variants.rules.values.compactMap(\.retention).min()
            shape.variants = variants
            return
        }
        var reader = try RuleReader(json.root, at: "incremental")
        self.init(
            baseURL: try reader.template("base_url"), path: try reader.optionalTemplate("path") ?? "",
            records: try reader.optionalPath("records") ?? JSONPath([]),
            dedup: try Incremental.dedup(try reader.nested("dedup")))
        method = try reader.choice("method", ["GET", "POST"]) ?? "GET"
        query = try reader.templates("query")
        headers = try reader.templates("headers")
        if let auth = try reader.optionalNested("auth") { authentication = try Incremental.authentication(auth) }
        unwrap = try reader.optionalTemplate("unwrap")
        if let rule = try reader.optionalNested("cursor") { cursor = try CursorRule(rule) }
        since = try reader.optionalTemplate("since")
        defaultSinceSecondsAgo = try reader.integer("default_since_seconds_ago", 0...3_200_000_000)
        if let rule = try reader.optionalNested("pagination") { try readPagination(rule) }
        if let size = try reader.optionalNested("page_size") { pageSize = try Incremental.pageSize(size) }
        if let rule = try reader.optionalNested("error") { answerErrors = try AnswerErrors(rule) }
        if let rule = try reader.optionalNested("partitions") { partitions = try Partitions(rule) }
        retention = try reader.integer("retention_seconds", 1...3_200_000_000).map { .seconds($0) }
        shape = try Shape(&reader)
        if shape.body != nil, try reader.optionalText("method") == nil { method = "POST" }
        try reader.finish()
        try check()
    }

    private static func dedup(_ rule: RuleReader) throws(SluiceError) -> DedupRule {
        var rule = rule
        var result = DedupRule(id: try rule.path("id"), versions: try rule.paths("version"))
        result.created = try rule.optionalPath("created")
        result.isGlobal = try rule.flag("global") ?? false
        try rule.finish()
        return result
    }

    private static func authentication(_ rule: RuleReader) throws(SluiceError) -> Authentication {
        var rule = rule
        var result = Authentication.none
        if var basic = try rule.optionalNested("basic") {
            result = .basic(user: try basic.template("user"), password: try basic.optionalTemplate("password") ?? "")
            try basic.finish()
        }
        if let token = try rule.optionalTemplate("bearer") { result = .bearer(token) }
        if var header = try rule.optionalNested("header") {
            result = .header(name: try header.headerName("name"), value: try header.template("value"))
            try header.finish()
        }
        if var query = try rule.optionalNested("query") {
            result = .query(name: try query.text("name"), value: try query.template("value"))
            try query.finish()
        }
        try rule.finishWithOne()
        return result
    }
}
