import SluiceCore

/// What a description must not say, because records would be lost or sent twice: found when it is loaded, not when it happens.
extension Incremental {
    /// Throws an error that names the key and what mends it. Called when a description is read, and for those written in Swift
    /// when a trigger type is made of them.
    public func check() throws(SluiceError) {
        if let variants = shape.variants {
            for rules in variants.rules.values { try rules.check() }
            return
        }
        try checkShape()
        try checkCursor()
        try checkPagination()
        try checkDedup()
        try checkPlaces()
        try checkPartitions()
    }

    private func fault(_ key: String, _ what: String) -> SluiceError {
        SluiceError(.connector, key.isEmpty ? "incremental: \(what)" : "incremental.\(key) \(what)")
    }

    private func checkCursor() throws(SluiceError) {
        guard let cursor else {
            if since != nil || defaultSinceSecondsAgo != nil {
                throw fault("", "since and default_since_seconds_ago need a cursor: add cursor = {field = …}")
            }
            if mentionsCursor { throw fault("", "a template speaks of {cursor}, but there is none: add cursor = {field = …}") }
            return
        }
        if cursor.parameter != nil, mentionsCursor {
            throw fault("cursor.parameter", "and {cursor} in a template say the same twice: keep one")
        }
        if defaultSinceSecondsAgo != nil, cursor.unitsPerSecond == nil {
            throw fault(
                "default_since_seconds_ago", "needs a cursor that is a time, and \(cursor.kind.rawValue) is none: remove it, or use since")
        }
        if cursor.kind == .opaque, !isBoundedBelow {
            throw fault(
                "cursor.parameter",
                "is missing: add where the position that the answer hands out is sent back, or url = true if it is a URL to ask for")
        }
        if cursor.isURL, mentionsCursor {
            throw fault("cursor.url", "and {cursor} in a template exclude each other: a position that is a URL is asked for as it stands")
        }
        if cursor.kind == .opaque, since != nil { throw fault("since", "means nothing to a position that the answer hands out: remove it") }
    }

    private func checkPagination() throws(SluiceError) {
        let isOrdered = cursor?.order == .ascending && isBoundedBelow && cursor?.kind.hasMarks == true
        let name: String
        let (asks, end): (Bool?, PageEnd)
        switch pagination {
        case .token(let rule): (name, asks, end) = ("token", rule.restartsFromMark, rule.end)
        case .offset(let rule): (name, asks, end) = ("offset", rule.restartsFromMark, rule.end)
        case .page(let rule):
            (name, asks, end) = ("page", rule.restartsFromMark, rule.end)
            if !restartsFromMark, !rule.isStable {
                throw fault(
                    "pagination.page",
                    "over a list that is not ascending skips records when one leaves the pages before: order the list by the cursor "
                        + "(order = \"asc\" with a parameter), use offset, or say stable = true if nothing ever leaves it")
            }
        case .keyset(let rule):
            (name, asks, end) = ("keyset", nil, rule.end)
            if let cursor, cursor.order != .none, let key = cursor.field.keys.last, Incremental.isChangeTime(key), rule.from != cursor.field
            {
                throw fault(
                    "pagination.keyset",
                    "by \(rule.from) skips records of a list ordered by \(cursor.field) when the one that marks the place changes and moves: "
                        + "say order = \"none\" if the list is ordered by \(rule.from), or use another pagination")
            }
        case .link, .nextURL: (name, asks, end) = (pagination.isLink ? "link" : "next_url", linksRestartFromMark, PageEnd())
        case .none: return
        }
        if asks == true, !isOrdered {
            throw fault("pagination.\(name).restart_from_mark", "needs a cursor with order = \"asc\" and a parameter")
        }
        if pageSize == nil, end.endsShort || name == "page" && end.total != nil {
            throw fault("page_size", "is missing: pagination.\(name) cannot tell the last page without it")
        }
    }

    private func checkDedup() throws(SluiceError) {
        if dedup.created != nil {
            guard cursor?.kind.hasMarks == true else {
                throw fault("dedup.created", "needs a cursor that is a time: it is compared with where the trigger began")
            }
            if !dedup.versions.isEmpty {
                throw fault("dedup.created", "and dedup.version exclude each other: new records have one version only, keep one of the two")
            }
            return
        }
        guard dedup.versions.isEmpty, let cursor, let key = cursor.field.keys.last, Incremental.isChangeTime(key) else { return }
        throw fault(
            "dedup",
            "has no version, but \(cursor.field) lists changed records: each would count once, and its changes be dropped. Add version = "
                + "\"\(cursor.field)\" for every change, or created = \"created_at\" (where its creation stands) for new records only")
    }

    /// Whether a field's name says that it moves whenever the record changes.
    static func isChangeTime(_ name: String) -> Bool {
        let name = name.lowercased()
        return ["updat", "modif", "chang", "edited", "touched"].contains { name.contains($0) }
    }

    private func checkPlaces() throws(SluiceError) {
        if baseURL.mentions("cursor") || baseURL.mentionsPartition {
            throw fault("base_url", "cannot depend on the cursor or the partition: put them into the path or the query")
        }
        let hasStart = since != nil || defaultSinceSecondsAgo != nil
        if path.needs("cursor"), !hasStart || since?.isSinglePlace == true && defaultSinceSecondsAgo == nil {
            throw fault(
                "path", "speaks of {cursor}, and before the first poll there is none: add default_since_seconds_ago, or {cursor|VALUE}")
        }
        if shape.body?.needsCursor == true, !hasStart || since?.isSinglePlace == true && defaultSinceSecondsAgo == nil {
            throw fault(
                "body.xml", "speaks of {cursor}, and before the first poll there is none: add default_since_seconds_ago, or {cursor|VALUE}")
        }
        let places = [pageSize?.parameter, pagingParameter].compactMap { $0 }
        let isInBody = places.contains { if case .body = $0 { true } else { false } }
        if isInBody, method == "GET" {
            throw fault("method", "is GET, which has no body to set a parameter in: say method = \"POST\"")
        }
        if isInBody, shape.body?.isXML == true {
            throw fault("body.xml", "has no members to set a page's parameter in: page by query or header, or write the poll as a lambda")
        }
    }

    private var pagingParameter: RequestPlace? {
        switch pagination {
        case .token(let rule): rule.parameter
        case .keyset(let rule): rule.parameter
        case .offset(let rule): rule.parameter
        case .page(let rule): rule.parameter
        case .none, .link, .nextURL: nil
        }
    }

    private func checkPartitions() throws(SluiceError) {
        let mentions = requestTemplates.contains { $0.mentionsPartition }
        if partitions == nil, mentions { throw fault("", "a template speaks of {partition}, but there are none: add partitions = {…}") }
        if partitions != nil, !mentions {
            throw fault("partitions", "would all read the same list: say {partition} in the path or the query")
        }
    }
}
