import SluiceCore

extension Incremental {
    /// `pagination = { token = {…} }`, `{ link = true }`, `{ next_url = {…} }`, `{ keyset = {…} }`, `{ offset = {…} }` or
    /// `{ page = {…} }`, and beside it `pages_max` and `expired_status`.
    mutating func readPagination(_ rule: RuleReader) throws(SluiceError) {
        var rule = rule
        pagesMax = try rule.integer("pages_max", 1...1_000_000_000) ?? Incremental.pagesMaxDefault
        expiredStatuses = try rule.integers("expired_status", 400...499).map { Int($0) }
        if let token = try rule.optionalNested("token") { pagination = .token(try TokenPages(token)) }
        if rule.value("link")?.kind == .object, var link = try rule.optionalNested("link") {
            linksRestartFromMark = try link.flag("restart_from_mark")
            try link.finish()
            pagination = .link
        } else if try rule.flag("link") == true {
            pagination = .link
        }
        if var next = try rule.optionalNested("next_url") {
            pagination = .nextURL(try next.answerPlace())
            linksRestartFromMark = try next.flag("restart_from_mark")
            try next.finish()
        }
        if let keyset = try rule.optionalNested("keyset") { pagination = .keyset(try KeysetPages(keyset)) }
        if let offset = try rule.optionalNested("offset") { pagination = .offset(try OffsetPages(offset)) }
        if let page = try rule.optionalNested("page") { pagination = .page(try NumberedPages(page)) }
        try rule.finishWithOne(besides: ["pages_max", "expired_status"])
    }

    static func pageSize(_ rule: RuleReader) throws(SluiceError) -> PageSize {
        var rule = rule
        let place = try rule.requestPlace()
        let value = try rule.required("value", try rule.integer("value", 1...Int64(PollLimits.recordsPerPageMax)))
        try rule.finish()
        return PageSize(place, value: Int(value))
    }
}

extension Incremental.TokenPages {
    fileprivate init(_ rule: RuleReader) throws(SluiceError) {
        var rule = rule
        self.init(from: try rule.answerPlace(), parameter: try rule.requestPlace())
        restartsFromMark = try rule.flag("restart_from_mark") ?? false
        end = try rule.pageEnd(takesTotal: false)
        try rule.finish()
    }
}

extension Incremental.KeysetPages {
    fileprivate init(_ rule: RuleReader) throws(SluiceError) {
        var rule = rule
        self.init(from: try rule.path("from"), parameter: try rule.requestPlace())
        end = try rule.pageEnd(takesTotal: false)
        try rule.finish()
    }
}

extension Incremental.OffsetPages {
    fileprivate init(_ rule: RuleReader) throws(SluiceError) {
        var rule = rule
        self.init(parameter: try rule.requestPlace())
        overlap = try rule.integer("overlap", 0...100) ?? 1
        restartsFromMark = try rule.flag("restart_from_mark")
        end = try rule.pageEnd(takesTotal: true)
        try rule.finish()
    }
}

extension Incremental.NumberedPages {
    fileprivate init(_ rule: RuleReader) throws(SluiceError) {
        var rule = rule
        self.init(parameter: try rule.requestPlace())
        first = try rule.integer("first", 0...1) ?? 1
        restartsFromMark = try rule.flag("restart_from_mark")
        isStable = try rule.flag("stable") ?? false
        end = try rule.pageEnd(takesTotal: true)
        end.totalPages = try rule.optionalPath("total_pages")
        try rule.finish()
    }
}

extension RuleReader {
    /// `from = PATH` or `header = NAME`.
    mutating func answerPlace() throws(SluiceError) -> Incremental.AnswerPlace {
        let (path, header) = (try optionalPath("from"), try optionalText("header"))
        switch (path, header) {
        case (let path?, nil): return .body(path)
        case (nil, let header?): return .header(header)
        default: throw fault("from", "or header must say where it stands in the answer, and not both")
        }
    }

    /// `parameter = NAME`, in the query unless `in` says `header` or `body`.
    mutating func requestPlace() throws(SluiceError) -> Incremental.RequestPlace {
        switch try choice("in", ["query", "header", "body"]) {
        case "header": .header(try text("parameter"))
        case "body": .body(try path("parameter"))
        default: .query(try text("parameter"))
        }
    }

    mutating func pageEnd(takesTotal: Bool) throws(SluiceError) -> Incremental.PageEnd {
        var end = Incremental.PageEnd()
        end.hasMore = try optionalPath("has_more")
        end.isLast = try optionalPath("is_last")
        if end.hasMore != nil, end.isLast != nil { throw fault("is_last", "and has_more say the same: keep one") }
        if takesTotal { end.total = try optionalPath("total") }
        switch try choice("ends_with", ["empty_page", "short_page"]) {
        case "empty_page": end.endsEmpty = true
        case "short_page": end.endsShort = true
        default: break
        }
        return end
    }
}
