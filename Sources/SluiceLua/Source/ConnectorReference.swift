import SluiceConnectors
import SluiceCore

/// The reference of a connector's keys, made of what reads them.
public enum ConnectorReference {
    /// A file in which each table that Lua's own reader knows stands once.
    private static let sample = """
        return { name = "sample", title = "t", version = "1", experimental = true,
          connection = { fields = { { name = "a", label = "l", type = "string", optional = true, secret = true, hint = "h", default = "d" } } },
          webhook = { scheme = "github", delivery_id = { body = { "id" } } },
          webhook_keys = function(request) return {} end, help = function(url) return url end,
          triggers = { sample = { title = "t", visibility_lag_seconds = 1, lookback = 1, retention_seconds = 1, sample_output = {},
            webhook_key = function(input) end, poll = function() end, dedup = function() end, cursor_at = function() end, record_time = function() end,
            version_seconds = 1,
            simulate = { connection = {}, input = {} } } },
          callbacks = { sample = { title = "t", input_fields = {}, status = function() end, pauses = { 5 } } } }
        """

    /// The other form of what is code or data.
    private static let otherForms = """
        return { name = "sample", title = "t", version = "1",
          connection = { fields = {}, test = function(connection) end },
          webhook = { scheme = "github" }, webhook_keys = function(request) return {} end,
          triggers = { sample = { webhook_key = function(input) end, poll = function() end, dedup = function() end } },
          callbacks = { sample = { status = { base_url = "https://a.test", path = "/x", settled = { path = "s", is = "x" } } } } }
        """

    public static func make() throws -> KeyReference {
        let witness = KeyWitness()
        for source in [sample, otherForms] {
            _ = try KeyWitness.$current.withValue(witness) {
                try LuaConnector.load(source: Array(source.utf8), name: "", path: "sample")
            }
        }
        return KeyReference(witness)
    }
}
