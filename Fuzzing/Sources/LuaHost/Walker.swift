import SluiceConnectors
import SluiceCore

@testable import SluiceLua

/// Any bytes as an answer, read by every way in which Lua reads one, and held against what Swift reads.
struct Walker {
    let connector: LuaConnector
    let body: [UInt8]

    static let source = """
        local function walk(value, depth)
          local count = 0
          if depth > 40 or value == nil or type(value) ~= "userdata" then return 1 end
          local ok, length = pcall(function() return #value end)
          if ok then for i = 0, math.min(length + 1, 20) do local _ = value[i] end end
          for _, position in ipairs({ math.mininteger, math.maxinteger, -1, 0, 1 << 32 }) do local _ = value[position] end
          local walkable, step = pcall(pairs, value)
          if not walkable then return 1 end
          pcall(function()
            for key, inner in step do
              local same = value[key]
              if rawequal(same, nil) and inner ~= json_null then error("lost " .. tostring(key)) end
              count = count + walk(inner, depth + 1)
              if count > 300 then break end
            end
          end)
          return count
        end
        return { name = "walker", webhook = { scheme = "none" },
          webhook_keys = function(request) return { tostring(walk(request.json, 0)) } end,
          triggers = { t = {
            poll = function(connection, input, closure)
              local reply = get("https://p.test/")
              local json = reply.json
              if type(json) ~= "userdata" then return { events = { { scalar = json_encode(json) } } } end
              walk(json, 0)
              local text = tostring(json)
              local again = json_decode(text)
              assert(tostring(again) == text and json_encode(json) == text)
              local events = { json, { text = text, copy = again } }
              local ok, copy = pcall(json_table, json)
              if ok and #text < 2000 then events[3] = { table = copy } end
              return { events = events, next_poll = { length = #text } }
            end,
            dedup = function(record) return ("%d"):format(#tostring(record)) .. walk(record, 0) end,
          } } }
        """

    static func connector(_ limits: LuaLimits) -> LuaConnector? {
        try? LuaConnector.load(source: Array(source.utf8), name: "", path: "f", limits: limits)
    }

    func run() {
        Exercise(connector: connector, provider: Provider([body]), body: body).run()
        let request = PollRequest(
            triggerType: "t", connection: Exercise.connection, input: Exercise.input, cursor: nil, pageState: nil,
            readBound: Timestamp(seconds: 1_700_000_000))
        let (connector, body) = (connector, body)
        guard case .success(let page) = finish({ try await connector.poll(request, http: Provider([body])) }) else { return }
        // It came through, so it is JSON: the first record is the answer, byte for byte.
        guard let answer = try? JSONDocument(body) else { fatalError("an answer that is no JSON gave a page") }
        guard answer.root.kind == .object || answer.root.kind == .array else { return }
        check(page.records.count >= 2, "\(page.records.count) records")
        check(page.records[0].bytes.elementsEqual(answer.root.bytes) && !page.records[0].isDerived, "a record lost its bytes")
        let derived = JSONView(checked: page.records[1].bytes)
        check(derived["text"]?.string.map { Array($0.utf8) } == Array(answer.root.bytes), "the text is not the record's")
        check(derived["copy"]?.bytes.elementsEqual(answer.root.bytes) == true, "what was decoded again is not the same")
    }
}
