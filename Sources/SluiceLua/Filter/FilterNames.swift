/// Finds names in a filter that stand for nothing: a typing error, or something that filters do not have. Lua itself would tell
/// only when a job comes by.
enum FilterNames {
    /// What `sandbox_push_filter_environment` gives, and the two arguments.
    static let known: Set<String> = [
        "record", "job", "assert", "error", "ipairs", "json_null", "math", "next", "pairs", "pcall", "select", "string", "table",
        "tonumber",
        "tostring", "type", "utf8",
    ]
    private static let keywords: Set<String> = [
        "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "goto", "if", "in", "local", "nil", "not", "or",
        "repeat",
        "return", "then", "true", "until", "while",
    ]

    /// The first such name with its line, or nil. A name that is declared anywhere counts as known everywhere.
    static func problem(in tokens: [LuaToken]) -> String? {
        let declared = declared(in: tokens)
        for (index, token) in tokens.enumerated() where token.kind == .name && !keywords.contains(token.text) {
            if known.contains(token.text) || declared.contains(token.text) || isField(tokens, index) { continue }
            return "\(LuaFilter.chunkName):\(token.line): `\(token.text)` is nothing that a filter has: it has `record` and `job`, and "
                + known.subtracting(["record", "job"]).sorted().joined(separator: ", ")
        }
        return nil
    }

    /// After a point or colon, before `=` in a table, a label, or the name of an attribute.
    private static func isField(_ tokens: [LuaToken], _ index: Int) -> Bool {
        let before = index > 0 ? tokens[index - 1] : nil
        let after = index + 1 < tokens.count ? tokens[index + 1] : nil
        if before?.isSymbol(".") == true || before?.isSymbol(":") == true || before?.isSymbol("::") == true { return true }
        if before?.isName("goto") == true { return true }
        if before?.isSymbol("<") == true, after?.isSymbol(">") == true { return true }
        let startsEntry = before?.isSymbol("{") == true || before?.isSymbol(",") == true || before?.isSymbol(";") == true
        return startsEntry && after?.isSymbol("=") == true && isInTable(tokens, index)
    }

    private static func isInTable(_ tokens: [LuaToken], _ index: Int) -> Bool {
        var depth = 0
        for token in tokens[..<index].reversed() where token.kind == .symbol {
            switch token.text {
            case "}", ")", "]": depth += 1
            case "{", "(", "[":
                if depth == 0 { return token.text == "{" }
                depth -= 1
            default: break
            }
        }
        return false
    }

    /// Names after `local`, `for` and in the parameters of functions.
    private static func declared(in tokens: [LuaToken]) -> Set<String> {
        var names: Set<String> = []
        var index = 0
        while index < tokens.count {
            let token = tokens[index]
            index += 1
            if token.isName("local") || token.isName("for") {
                if index < tokens.count, tokens[index].isName("function") { continue }
                collect(tokens, &index, into: &names)
            } else if token.isName("function") {
                if index < tokens.count, tokens[index].kind == .name {
                    names.insert(tokens[index].text)
                    index += 1
                }
                if index < tokens.count, tokens[index].isSymbol("(") {
                    index += 1
                    collect(tokens, &index, into: &names)
                }
            }
        }
        return names
    }

    /// A list of names with commas, each perhaps with an attribute.
    private static func collect(_ tokens: [LuaToken], _ index: inout Int, into names: inout Set<String>) {
        while index < tokens.count {
            guard tokens[index].kind == .name, !keywords.contains(tokens[index].text) else { return }
            names.insert(tokens[index].text)
            index += 1
            if index < tokens.count, tokens[index].isSymbol("<") { index += 3 }
            guard index < tokens.count, tokens[index].isSymbol(",") else { return }
            index += 1
        }
    }
}
