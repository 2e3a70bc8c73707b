/// Where the keys of a connector's table stand in its file: `triggers.new_order.incremental.cursor` → line 31. Found by reading
/// table constructors; a value that is computed is where it is used.
public struct LuaKeyLines: Sendable {
    private var lines: [String: Int] = [:]
    /// A key whose value is a local: the local's name.
    private var aliases: [String: String] = [:]
    /// The tokens of a function that stands at a key, `function` and `end` included.
    public private(set) var functions: [String: [LuaToken]] = [:]
    public private(set) var tokens: [LuaToken]
    /// Lua itself refuses what is nested deeper.
    private static let depthMax = 200
    private var depth = 0

    public init(source: [UInt8]) {
        tokens = LuaToken.all(in: source)
        var index = 0
        var nested = 0
        while index < tokens.count {
            let token = tokens[index]
            if nested == 0, token.isName("return"), at(index + 1)?.isSymbol("{") == true {
                index = table(index + 1, at: "")
            } else if nested == 0, token.isName("local"), let name = at(index + 1), at(index + 2)?.isSymbol("=") == true,
                at(index + 3)?.isSymbol("{") == true
            {
                index = table(index + 3, at: "local " + name.text)
            } else if nested == 0, token.isName("local"), at(index + 1)?.isName("function") == true, let name = at(index + 2) {
                let end = skipFunction(index + 1)
                lines["local " + name.text] = name.line
                functions["local " + name.text] = Array(tokens[index + 1..<end])
                index = end
            } else {
                nested += LuaKeyLines.nesting(token)
                index += 1
            }
        }
    }

    /// The line of a key, else of the nearest table around it that is known; nil for none.
    public func line(_ key: String) -> Int? {
        var path = key
        while true {
            if let line = lines[resolved(path)] { return line }
            guard let point = path.lastIndex(of: ".") else { return nil }
            path = String(path[..<point])
        }
    }

    /// The function at a key, also where it is a local function of that name.
    public func function(_ key: String) -> [LuaToken]? { functions[key] ?? aliases[key].flatMap { functions["local " + $0] } }

    /// The path with the first part that is a local replaced by the local's own table.
    private func resolved(_ path: String) -> String {
        if lines[path] != nil { return path }
        for (key, local) in aliases where path.hasPrefix(key + ".") && lines["local \(local)" + path.dropFirst(key.count)] != nil {
            return "local \(local)" + path.dropFirst(key.count)
        }
        return path
    }

    private func at(_ index: Int) -> LuaToken? { index < tokens.count ? tokens[index] : nil }

    /// How a word opens or closes a block. `for` and `while` open theirs with `do`.
    private static func nesting(_ token: LuaToken) -> Int {
        guard token.kind == .name else { return 0 }
        return switch token.text {
        case "function", "if", "do", "repeat": 1
        case "end", "until": -1
        default: 0
        }
    }

    /// Reads the table constructor whose brace is at `start`; the index after it.
    private mutating func table(_ start: Int, at path: String) -> Int {
        guard depth < LuaKeyLines.depthMax else { return skipTable(start) }
        depth += 1
        defer { depth -= 1 }
        var index = start + 1
        var position = 0
        while let token = at(index), !token.isSymbol("}") {
            let key: String
            if token.kind == .name, at(index + 1)?.isSymbol("=") == true {
                key = token.text
                index += 2
            } else if token.isSymbol("["), let name = at(index + 1), name.kind == .string, at(index + 2)?.isSymbol("]") == true,
                at(index + 3)?.isSymbol("=") == true
            {
                key = name.text
                index += 4
            } else {
                position += 1
                key = "[\(position)]"
            }
            let inner = key.hasPrefix("[") ? path + key : path.isEmpty ? key : "\(path).\(key)"
            lines[inner] = token.line
            index = value(index, at: inner)
            if let separator = at(index), separator.isSymbol(",") || separator.isSymbol(";") { index += 1 }
        }
        return min(index + 1, tokens.count)
    }

    /// The index after the brace that closes the one at `start`, without a look at what is inside.
    private func skipTable(_ start: Int) -> Int {
        var (index, open) = (start, 0)
        while let token = at(index) {
            if token.isSymbol("{") { open += 1 }
            if token.isSymbol("}") { open -= 1 }
            index += 1
            if open == 0 { return index }
        }
        return index
    }

    /// Reads a value up to the comma or brace after it.
    private mutating func value(_ start: Int, at path: String) -> Int {
        guard let first = at(start) else { return start }
        if first.isSymbol("{") { return rest(table(start, at: path)) }
        if first.isName("function") {
            let end = skipFunction(start)
            functions[path] = Array(tokens[start..<end])
            return rest(end)
        }
        let end = rest(start)
        if first.kind == .name, end == start + 1 { aliases[path] = first.text }
        // Always forward: a stray bracket must not hold the reader up.
        return max(end, start + 1)
    }

    /// Skips the rest of an expression.
    private func rest(_ start: Int) -> Int {
        var index = start
        var depth = 0
        while let token = at(index) {
            if depth == 0, token.isSymbol(",") || token.isSymbol(";") || token.isSymbol("}") { return index }
            if token.isName("function") {
                index = skipFunction(index)
                continue
            }
            if token.kind == .symbol, ["(", "{", "["].contains(token.text) { depth += 1 }
            if token.kind == .symbol, [")", "}", "]"].contains(token.text) { depth = max(0, depth - 1) }
            index += 1
        }
        return index
    }

    /// The index after the `end` of the function whose word is at `start`.
    private func skipFunction(_ start: Int) -> Int {
        var (index, depth) = (start, 0)
        while let token = at(index) {
            depth += LuaKeyLines.nesting(token)
            index += 1
            if depth == 0 { return index }
        }
        return index
    }
}
