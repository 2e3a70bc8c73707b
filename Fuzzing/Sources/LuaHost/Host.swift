import SluiceConnectors
import SluiceCore

@testable import SluiceLua

/// A connector one of whose functions is hostile, and another of which tells whether the state is still sound.
struct Host {
    let connector: LuaConnector

    static let head = """
        local function sound(text)
          local parts = {}
          for word in ("a,b,c"):gmatch("[^,]+") do parts[#parts + 1] = word:upper():rep(2) end
          assert(json_encode({ z = 1, a = { 1, 2 } }) == '{"a":[1,2],"z":1}')
          assert(os == nil and io == nil and debug == nil and load == nil and require == nil and coroutine == nil)
          assert(string.dump == nil and collectgarbage == nil and print == nil and package == nil and _G == nil)
          assert(#{ 1, 2, 3 } == 3 and next({}) == nil and tostring(1) == "1" and ("x"):len() == 1)
          return table.concat(parts, "-") .. text
        end

        """

    /// Nil where the code does not compile.
    init?(place: Int, code: String, limits: LuaLimits) {
        let own = { (number: Int, usual: String) in number == place ? "\n\(code)\n" : usual }
        let source = """
            \(Host.head)
            return { name = "hostile", webhook = { scheme = "none" },
              connection = { fields = { { name = "api_key", secret = true } } },
              webhook_keys = function(request) \(own(0, "return { 'k' }")) end,
              triggers = { t = {
                poll = function(connection, input, closure) \(own(1, "local r = get('https://p.test/'); return { events = r.json.items }")) end,
                dedup = function(record) \(own(2, "return tostring(record)")) end,
                webhook_key = function(input) \(own(3, "return input.resource")) end,
                webhook_notification = function(request, input, output) \(own(4, "return request.json")) end,
                webhook_subscribe = function(url, connection, input, output) \(own(5, "return { output = { id = 1 } }")) end,
                webhook_unsubscribe = function(url, connection, input, output) \(own(5, "return nil")) end,
                webhook_check = function(url, connection, input, output) \(own(5, "return { status = 'active' }")) end,
              } },
              help = function(url) return sound(url) end,
            }
            """
        do {
            connector = try LuaConnector.load(source: Array(source.utf8), name: "", path: "f", limits: limits)
        } catch {
            checkFailure(error)
            return nil
        }
    }

    func run(_ failure: Int) {
        // Items as an array of objects, so that the usual poll gives records to a hostile dedup.
        let items = Array(
            #"{"items":[{"id":1,"t":"a\nb","n":1.10,"big":123456789012345678901},{"id":"x","l":[1,[2,{"k":null}]]}],"next":null}"#.utf8)
        Exercise(connector: connector, provider: Provider([items, Provider.awkward], failure: failure), body: Provider.awkward).run()
        checkSound()
    }

    /// A limit may end this call as any other; what it may not do is answer something else.
    private func checkSound() {
        guard connector.limits.callInstructionsMax >= 20_000, connector.limits.memoryBytesMax >= 1 << 20,
            connector.limits.callMillisecondsMax > 1
        else { return }
        let text = connector.help(webhookBaseURL: "!")
        check(text == "AA-BB-CC!" || !text.contains("sound") && !text.contains("assertion"), "the state is not what it was: \(text)")
        guard let state = try? connector.pool.take() else { return }
        check(state.memoryBytesUsed <= connector.limits.memoryBytesMax, "\(state.memoryBytesUsed) bytes are held")
        connector.pool.giveBack(state)
    }
}
