import Foundation
import SluiceCore
import SluiceTesting

/// Connectors for the stand-in provider of subscriptions, and a server that uses one of them.
enum Hooks {
    /// As data, as lambdas, as data for a provider that neither lists nor refreshes, and of which webhooks carry everything.
    enum Form: String, CaseIterable, Sendable {
        case data = "hooks-data", lambdas = "hooks-lambdas", bare = "hooks-bare", notified = "hooks-notified"
    }

    static let environment: [String: String?] = ["HOOKS_KEY": SubscriptionProvider.apiKey]

    static func source(_ form: Form) -> String {
        """
        return {
          name = "\(form.rawValue)", title = "Hooks", version = "1.0.0",
          connection = { fields = { { name = "site_url" }, { name = "api_key", secret = true } } },
          webhook = { scheme = "github" },
          triggers = { new_record = {
            input_fields = { { name = "topic", optional = true }, { name = "note", optional = true } },
        \(form == .notified ? notification : incremental)
        \(form == .lambdas ? lambdas : subscription(form))
          } },
        }
        """
    }

    private static let incremental = """
            incremental = {
              base_url = "{connection.site_url}", path = "/records", auth = { bearer = "{connection.api_key}" }, records = "records",
              cursor = { field = "seq", type = "integer", parameter = "after", exclusive = true, order = "asc" },
              dedup = { id = "id" },
            },
        """

    private static let notification = """
            webhook_notification = function(request, input, output) return { { seq = request.json.seq, hook = output.id } } end,
        """

    private static func subscription(_ form: Form) -> String {
        let more = """
                refresh = { path = "/hooks/{output.id}", body = { extend = true } },
                list = { path = "/hooks", items = "hooks", url = "url", active = { path = "active", is = "true" },
                  expect = { topic = "{input.topic|all}" }, expires_at = "expires_at" },
            """
        return """
                subscription = {
                  base_url = "{connection.site_url}", auth = { bearer = "{connection.api_key}" },
                  create = { path = "/hooks", body = { url = "{webhook.url}", secret = "{webhook.secret}", topic = "{input.topic|all}" } },
                  id = "hook.id", expires_at = "hook.expires_at",
                  delete = { path = "/hooks/{output.id}" },
            \(form == .bare ? "" : more)
                },
            """
    }

    private static let lambdas = """
            subscription_input = { "topic" },
            webhook_subscribe = function(webhook_url, connection, input, secret)
              local answer = post(connection.site_url .. "/hooks", {
                headers = { Authorization = "Bearer " .. connection.api_key },
                json = { url = webhook_url, secret = secret, topic = input.topic or "all" },
              })
              if answer.status ~= 201 then error("not subscribed: " .. answer.status) end
              return { output = { id = answer.json.hook.id }, expires_at = answer.json.hook.expires_at, secret = secret }
            end,
            webhook_refresh = function(webhook_url, connection, input, output)
              local answer = patch(connection.site_url .. "/hooks/" .. output.id, {
                headers = { Authorization = "Bearer " .. connection.api_key }, json = { extend = true },
              })
              if answer.status == 404 then return { status = "missing" } end
              return { expires_at = answer.json.hook.expires_at }
            end,
            webhook_check = function(webhook_url, connection, input, output)
              local answer = get(connection.site_url .. "/hooks", { headers = { Authorization = "Bearer " .. connection.api_key } })
              local base, own, found = webhook_url:match("^.*/"), nil, {}
              for _, hook in ipairs(answer.json.hooks) do
                if not own and (output and hook.id == output.id or not output and hook.url == webhook_url) then
                  own = hook
                elseif hook.url:sub(1, #base) == base then
                  found[#found + 1] = { id = hook.id, url = hook.url }
                end
              end
              if not own then return { status = "missing", found = found } end
              local status = not own.active and "disabled" or own.topic ~= (input.topic or "all") and "drifted" or "active"
              return { status = status, output = { id = own.id }, expires_at = own.expires_at, found = found }
            end,
            webhook_unsubscribe = function(webhook_url, connection, input, output)
              delete(connection.site_url .. "/hooks/" .. output.id, { headers = { Authorization = "Bearer " .. connection.api_key } })
            end,
        """

    static func configuration(_ provider: String, _ form: Form, topic: String = "all") -> String {
        """
        connections:
          hooks:
            connector: \(form.rawValue)
            fields: { site_url: "\(provider)", api_key: "${env:HOOKS_KEY}" }
            allow_private: true
        triggers:
          records: { connection: hooks, type: new_record, input: { topic: \(topic) } }
        """
    }

    /// A server with the trigger `records`, not started yet. `hasPublicURL`: it knows how providers reach it.
    static func server(_ directory: String, _ provider: SubscriptionProvider, _ form: Form, hasPublicURL: Bool = true) throws
        -> SluiceProcess
    {
        let connectors = directory + "/connectors"
        try FileManager.default.createDirectory(atPath: connectors + "/" + form.rawValue, withIntermediateDirectories: true)
        try Data(source(form).utf8).write(to: URL(filePath: connectors + "/" + form.rawValue + "/connector.lua"))
        let port = try LocalPort.free()
        let address = hasPublicURL ? ["--public-url", "http://127.0.0.1:\(port)"] : []
        return try SluiceProcess(
            .init(
                directory: directory, configuration: configuration(provider.baseURL, form), environment: environment, arguments: address,
                connectors: connectors), hooksPort: hasPublicURL ? port : nil)
    }

    struct Shown: Sendable {
        var number: Int64
        var state: String
        var url: String
        var lastCheck: String
    }

    static func subscriptions(_ sluice: SluiceProcess) async throws -> [Shown] {
        let rows = try await sluice.send("GET", "/v1/subscriptions").json()["subscriptions"]?.elements ?? []
        return rows.map {
            Shown(
                number: $0["number"]?.int64 ?? 0, state: $0["state"]?.string ?? "", url: $0["url"]?.string ?? "",
                lastCheck: $0["last_check"]?.string ?? "")
        }
    }

    static func alarms(_ sluice: SluiceProcess) async throws -> Set<String> {
        Set(try await sluice.send("GET", "/v1/alarms").json()["alarms"]?.elements?.compactMap { $0["kind"]?.string } ?? [])
    }

    static func state(_ sluice: SluiceProcess) async throws -> String { try await sluice.trigger("records")["state"]?.string ?? "" }

    /// Waits until the poll that a start causes has succeeded: records made from then on are found by others.
    static func waitForStartPoll(_ sluice: SluiceProcess) async throws {
        try await waitUntil("the poll on start has succeeded", seconds: 60) {
            let trigger = try await sluice.trigger("records")
            return trigger["cycles_completed"]?.int64 ?? 0 >= 1 && trigger["polling_now"]?.bool == false
        }
    }

    /// Waits until one subscription is active here and is the only one at the provider.
    static func waitForOne(_ provider: SubscriptionProvider, _ sluice: SluiceProcess, _ what: String) async throws {
        try await waitUntil("exactly one subscription \(what)", seconds: 90, everyMilliseconds: 200) {
            let shown = try await subscriptions(sluice)
            return provider.hooks.count == 1 && shown.map(\.state) == ["active"] && shown.first?.url == provider.hooks.first?.url
        }
    }
}
