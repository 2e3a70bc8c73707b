/// What programs are drawn from.
enum Words {
    static let literals = [
        "0", "1", "-1", "2", "3", "nil", "true", "false", "json_null", "math.maxinteger", "math.mininteger", "math.huge", "-math.huge",
        "0/0", "-0.0", "1e308", "1e15", "0.1", "2^53", "1 << 31", "1 << 32", "1 << 62", "64", "255", "256", "65535", "1000000", "1e6",
        "0x7fffffffffffffff", "'x'", "''", "'10'", "'0x10'", "' 1 '", "'1e1'", "'\\0'", "'\\xff'", "{}", "{ 1, 2, 3 }", "{ a = 1 }",
        "{ 1, nil, 3 }", "{ [1.5] = 1 }", "json_array({})", "json_decode('[1,[2,{\"a\":null}],1e999]')",
        "json_decode('{\"a\":123456789012345678901}').a", "('x'):rep(1000)", "('a'):rep(70000)", "function() end",
    ]
    static let strings = [
        "''", "'a'", "'abc'", "'%'", "'%%'", "'%b'", "'%bxy'", "'%f'", "'%f[%a]'", "'%1'", "'['", "'[^'", "'[]'", "'[a-'", "'[%'",
        "'[a-z]*'",
        "'('", "'()'", "'(()())'", "')'", "'.-'", "'(.-)%1'", "'^'", "'^*'", "'$'", "'%0'", "'%9'", "'\\0%\\0'", "'\\xff\\xfe'", "'%d'",
        "'%5.3s'",
        "'%99.99f'", "'%q'", "'%i%i'", "'%a'", "'%c'", "'%-+ #0d'", "'%100d'", "'%p'", "'%s'", "('a'):rep(3000)", "('.-'):rep(20)",
        "('('):rep(40)", "('[a'):rep(200)", "'é€😀'", "'\\u{7FFFFFFF}'", "'Sun, 06 Nov 1994 08:49:37 GMT'", "'{\"a\":[1,2]}'", "'['",
        "('['):rep(3000)", "'%b()%f[%w](%w+)'", "'a?b*c+d-'",
    ]
    static let functions = [
        "string.rep", "string.format", "string.find", "string.match", "string.gmatch", "string.gsub", "string.byte", "string.char",
        "string.sub", "string.reverse", "string.lower", "string.upper", "string.len", "table.concat", "table.insert", "table.remove",
        "table.sort", "table.unpack", "table.pack", "table.move", "math.floor", "math.ceil", "math.fmod", "math.modf", "math.tointeger",
        "math.abs", "math.max", "math.min", "math.ult", "math.type", "math.log", "math.sqrt", "utf8.char", "utf8.codepoint", "utf8.len",
        "utf8.offset", "utf8.codes", "tostring", "tonumber", "type", "next", "pairs", "ipairs", "select", "rawget", "rawset", "rawlen",
        "rawequal", "setmetatable", "getmetatable", "pcall", "xpcall", "assert", "json_table", "json_array", "json_encode", "json_decode",
        "base64_encode", "hmac_sha256_hex", "url_encode", "parse_http_date", "get", "post", "put", "patch", "delete", "v4",
        "(function(...) return select('#', ...) end)",
    ]
    static let methods = ["rep", "format", "find", "match", "gmatch", "gsub", "byte", "sub", "reverse", "upper", "len"]
    static let operators = [
        "+", "-", "*", "/", "//", "%", "^", "..", "==", "~=", "<", "<=", ">", ">=", "and", "or", "&", "|", "~", "<<", ">>",
    ]
    static let events = [
        "__index", "__newindex", "__call", "__tostring", "__name", "__len", "__eq", "__lt", "__le", "__concat", "__add", "__unm",
        "__close", "__gc", "__mode", "__metatable", "__pairs", "__idiv", "__band",
    ]
    static let keys = [
        "json", "body", "headers", "status", "method", "path", "items", "id", "n", "f", "t", "deep", "x", "resource", "api_key", "__index",
        "nothing",
    ]
    static let requests = [
        "'https://p.test/'", "'https://p.test/', {}", "'https://p.test/', { params = { a = { 1, true, 'x' } } }",
        "'http://p.test/?a', { headers = { X = 1, ['a b'] = 'c' } }", "'https://p.test/', { json = v2, any_status = true }",
        "'https://p.test/', { form = { { 'a', 'b' } } }", "'https://p.test/', { body = v1, timeout_seconds = 1e300 }",
        "'https://p.test/', { stream = true }", "'ftp://x'", "''", "v1", "v2, v3", "'https://p.test/', { [1] = 2 }", "'[1,2,{\"a\":1}]'",
    ]
    static let returns = [
        "{ events = {} }", "v0", "v1", "v2", "v3", "{ 'a', 'b' }", "{ events = get('https://p.test/').json.items }",
        "{ events = { v2, { a = 1 } }, next_poll = v2, can_poll_more = true }", "{ events = v3, warnings = { v1 } }",
        "{ events = { {} }, next_poll = { page = v0 }, can_poll_more = v0 == 1 }", "tostring(v1)", "{ output = v2, expires_at = v0 }",
        "{ status = 'active', output = v3, found = { { id = v0, url = v1 } } }", "request.json", "record.id",
        "setmetatable({ events = {} }, { __index = v4 })",
    ]
}
