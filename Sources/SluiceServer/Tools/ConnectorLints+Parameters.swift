import SluiceConnectors

extension ConnectorLints {
    /// A request says each parameter once. What a source makes of one that comes twice is its own affair: it may take the first, the
    /// last, or refuse it.
    mutating func lintParameters(_ rules: Incremental, _ key: String) {
        var uses: [(name: String, key: String)] = rules.query.map { ($0.name, "query.\($0.name)") }
        func add(_ place: Incremental.RequestPlace?, _ key: String) {
            if case .query(let name)? = place { uses.append((name, key)) }
        }
        add(rules.pageSize?.parameter, "page_size.parameter")
        add(rules.cursor?.parameter.map { .query($0) }, "cursor.parameter")
        add(rules.cursor?.upperParameter.map { .query($0) }, "cursor.upper_parameter")
        switch rules.pagination {
        case .token(let rule): add(rule.parameter, "pagination.token.parameter")
        case .keyset(let rule): add(rule.parameter, "pagination.keyset.parameter")
        case .offset(let rule): add(rule.parameter, "pagination.offset.parameter")
        case .page(let rule): add(rule.parameter, "pagination.page.parameter")
        case .none, .link, .nextURL: break
        }
        for (index, use) in uses.enumerated() {
            guard let first = uses[..<index].first(where: { $0.name == use.name }) else { continue }
            warn(
                "parameter-twice", "\(key).\(use.key)", "the parameter \(use.name) is sent twice: by \(first.key) and by \(use.key)",
                loses: "what one of the two is for: the cursor, or the further pages",
                fix: "name the source's own parameter for each; a cursor that is the place of a page as well needs no pagination",
                severity: .error)
        }
    }
}
