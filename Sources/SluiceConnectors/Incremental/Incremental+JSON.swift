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
        if let rule = try reader.optionalNested("pagination") { pagination = try Incremental.pagination(rule) }
        if var size = try reader.optionalNested("page_size") {
            pageSize = PageSize(
                parameter: try size.text("parameter"),
                value: Int(try size.required("value", try size.integer("value", 1...Int64(PollLimits.recordsPerPageMax)))))
            try size.finish()
        }
        retention = try reader.integer("retention_seconds", 1...3_200_000_000).map { .seconds($0) }
        shape = try Shape(&reader)
        if shape.body != nil, try reader.optionalText("method") == nil { method = "POST" }
        try reader.finish()
        try checkShape()
        if case .token(_, _, true) = pagination, cursor?.order != .ascending || cursor?.parameter == nil {
            throw SluiceError(
                .connector, "incremental.pagination.token.restart_from_mark needs a cursor with order = \"asc\" and a parameter")
        }
        if since != nil || defaultSinceSecondsAgo != nil, cursor == nil {
            throw SluiceError(.connector, "incremental: since and default_since_seconds_ago need a cursor: add cursor = {field = …}")
        }
    }

    private static func dedup(_ rule: RuleReader) throws(SluiceError) -> DedupRule {
        var rule = rule
        let result = DedupRule(id: try rule.path("id"), versions: try rule.paths("version"))
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

    private static func pagination(_ rule: RuleReader) throws(SluiceError) -> Pagination {
        var rule = rule
        var result = Pagination.none
        if var token = try rule.optionalNested("token") {
            result = .token(
                from: try token.path("from"), parameter: try token.text("parameter"),
                restartsFromMark: try token.flag("restart_from_mark") ?? false)
            try token.finish()
        }
        if try rule.flag("link") == true { result = .link }
        if var keyset = try rule.optionalNested("keyset") {
            result = .keyset(
                from: try keyset.path("from"), parameter: try keyset.text("parameter"), hasMore: try keyset.optionalPath("has_more"))
            try keyset.finish()
        }
        try rule.finishWithOne()
        return result
    }
}

extension CursorRule {
    fileprivate init(_ rule: RuleReader) throws(SluiceError) {
        var rule = rule
        let kinds = Kind.allCases.map(\.rawValue)
        let kind = try rule.required("type", try rule.choice("type", kinds).flatMap(Kind.init))
        self.init(field: try rule.path("field"), parameter: try rule.optionalText("parameter"), kind: kind)
        isExclusive = try rule.flag("exclusive") ?? false
        granularity = try rule.integer("granularity", 1...86_400_000)
        let units = try rule.integer("lookback", 0...Int64.max / 4)
        let seconds = try rule.integer("lookback_seconds", 0...31_536_000)
        if units != nil && seconds != nil { throw rule.fault("lookback", "and lookback_seconds exclude each other: keep one") }
        if let seconds, unitsPerSecond == nil {
            throw rule.fault("lookback_seconds", "needs a time; for an integer use lookback, got \(seconds)")
        }
        lookback = units ?? (seconds ?? 0) * (unitsPerSecond ?? 1)
        order = try rule.choice("order", Order.allCases.map(\.rawValue)).flatMap(Order.init) ?? .none
        visibilityLag = .seconds(try rule.integer("visibility_lag_seconds", 0...86_400) ?? 0)
        upperParameter = try rule.optionalText("upper_parameter")
        isUpperAlwaysSent = try rule.flag("upper_always") ?? false
        assumesUTC = try rule.choice("zone", ["utc"]) != nil
        overlap = try rule.integer("overlap", 0...Int64.max / 4)
        try rule.finish()
    }
}
