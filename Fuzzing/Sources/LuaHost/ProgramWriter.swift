/// Draws a Lua program from bytes: right in its grammar, wrong in as many other ways as there are. Each byte is a choice, so a
/// small change of the input is a small change of the program.
struct ProgramWriter {
    private var input: Input
    private var variables = ["request", "input", "record", "connection", "closure", "url"]
    private var named = 0
    private var left = 120

    init(_ input: Input) { self.input = input }

    mutating func block() -> String {
        var lines = ["local v0, v1, v2, v3, v4 = 1, 'two', {}, json_null, function(...) return ... end"]
        variables += ["v0", "v1", "v2", "v3", "v4"]
        while !input.isEmpty, left > 0 { lines.append(statement(0)) }
        lines.append("do return \(input.pick(Words.returns)) end")
        return lines.joined(separator: "\n")
    }

    private mutating func name() -> String { input.pick(variables) }

    private mutating func fresh() -> String {
        named += 1
        return "n\(named)"
    }

    private mutating func inner(_ depth: Int) -> String {
        let known = variables
        let lines = (0...input.below(3)).map { _ in statement(depth + 1) }
        variables = known
        return lines.joined(separator: " ")
    }

    private mutating func statement(_ depth: Int) -> String {
        left -= 1
        guard depth < 5, left > 0 else { return "v0 = \(simple())" }
        switch input.below(18) {
        case 0, 1:
            let name = fresh()
            let line = "local \(name) = \(expression(depth))"
            variables.append(name)
            return line
        case 2: return "v\(input.below(5)) = \(expression(depth))"
        case 3, 4: return "pcall(\(input.pick(Words.functions)), \(arguments(depth)))"
        case 5: return "local _ = \(expression(depth))"
        case 6: return "pcall(function() \(inner(depth)) end)"
        case 7:
            return
                "xpcall(function() \(inner(depth)) end, \(input.pick(["error", "tostring", "pcall", "function(e) \(inner(depth)) end"])))"
        case 8: return "if \(expression(depth)) then \(inner(depth)) else \(inner(depth)) end"
        case 9: return "for i = \(simple()), \(simple()), \(simple()) do \(inner(depth)) end"
        case 10:
            return
                "for a, b in \(input.pick(["pairs", "ipairs", "next,", "utf8.codes", "v4", "string.gmatch"]))(\(arguments(depth))) do \(inner(depth)) end"
        case 11: return "while \(expression(depth)) do \(inner(depth)) \(input.pick(["break", "", "v0 = v0"])) end"
        case 12: return "repeat \(inner(depth)) until \(expression(depth))"
        case 13:
            let label = fresh()
            return
                "do \(input.pick(["goto \(label)", ""])) \(inner(depth)) ::\(label):: \(input.pick(["", "if v0 then goto \(label) end"])) end"
        case 14: return "do local c <close> = \(object(depth)) \(inner(depth)) end"
        case 15: return "\(input.pick(["error", "assert"]))(\(expression(depth)), \(simple()))"
        case 16: return "pcall(function() \(name())[\(expression(depth))] = \(expression(depth)) end)"
        default:
            return
                "do local function f(...) \(inner(depth)) return \(input.pick(["f(...)", "1 + f()", "...", "pcall(f, ...)"])) end v4 = f end"
        }
    }

    private mutating func simple() -> String { input.below(3) == 0 ? name() : input.pick(Words.literals) }

    private mutating func arguments(_ depth: Int) -> String {
        (0...input.below(4)).map { _ in expression(depth + 1) }.joined(separator: ", ")
    }

    private mutating func expression(_ depth: Int) -> String {
        left -= 1
        guard depth < 6, left > 0 else { return simple() }
        switch input.below(16) {
        case 0, 1, 2: return simple()
        case 3, 4, 5: return "\(input.pick(Words.functions))(\(arguments(depth)))"
        case 6, 7: return "(\(expression(depth + 1)) \(input.pick(Words.operators)) \(expression(depth + 1)))"
        case 8: return "(\(input.pick(["-", "not ", "#", "~"]))\(expression(depth + 1)))"
        case 9: return "(\(name()))[\(expression(depth + 1))]"
        case 10: return "(\(name())).\(input.pick(Words.keys))"
        case 11: return "(\(input.pick(Words.strings))):\(input.pick(Words.methods))(\(arguments(depth)))"
        case 12: return "{ \(arguments(depth)) }"
        case 13: return object(depth)
        case 14: return "function(...) \(inner(depth + 1)) return \(expression(depth + 1)) end"
        default: return "(\(input.pick(["get", "post", "put", "json_decode"]))(\(input.pick(Words.requests))))"
        }
    }

    private mutating func object(_ depth: Int) -> String {
        let events = (0...input.below(3)).map { _ in
            "\(input.pick(Words.events)) = \(input.pick(["v4", "function(...) \(inner(depth + 1)) return \(simple()) end", "v2", "1", "string"]))"
        }
        return "setmetatable({ \(simple()) }, { \(events.joined(separator: ", ")) })"
    }
}
