-- Syncthing's event stream: https://docs.syncthing.net/rest/events-get.html
--
-- Ids count from 1 anew when Syncthing is restarted, and a `since` beyond the newest id is answered with nothing, for ever and
-- without an error: the time of the last start tells one life from another. `limit` gives the LAST events and would skip
-- those before them, so it is never used. Without `events`, ids follow each other without a gap.
return {
  name = "syncthing",
  title = "Syncthing",
  version = "1.0.0",

  connection = {
    fields = {
      { name = "base_url", label = "Address of the GUI", hint = "http://127.0.0.1:8384" },
      { name = "api_key", label = "API key", secret = true, hint = "Actions > Settings > General" },
    },
  },

  help = function(webhook_base_url)
    return "Syncthing sends no webhooks: Sluice holds a request open at its event stream."
  end,

  triggers = {
    event = {
      title = "New event",
      sample_output = { id = 17, globalID = 17, time = "2026-01-01T10:00:00Z", type = "LocalIndexUpdated", data = { folder = "docs" } },

      incremental = {
        base_url = "{connection.base_url}",
        path = "/rest/events",
        headers = { ["X-API-Key"] = "{connection.api_key}" },
        query = { timeout = 0 },
        -- allow unordered-as-ordered: events come in the order of their ids
        cursor = { field = "id", parameter = "since", type = "integer", exclusive = true, order = "asc" },
        dedup = { id = "id", version = "time" },
      },

      long_poll = {
        parameter = "timeout",
        seconds = 60,
        consecutive = true,
        epoch = { path = "/rest/system/status", token = "startTime" },
      },
    },
  },
}
