-- Wrong on purpose: what the API's page suggests, without what Sluice would add. `sluice connector simulate` names what it loses.
return {
  name = "naive-incremental",
  title = "Naive (data)",
  version = "1.0.0",
  connection = { fields = { { name = "site_url", hint = "https://api.example.com" } } },
  webhook = { scheme = "none" },
  webhook_keys = function(request)
    return { "item" }
  end,
  triggers = {
    updated_item = {
      webhook_key = function(input)
        return "item"
      end,
      incremental = {
        base_url = "{connection.site_url}",
        path = "/items",
        records = "items",
        cursor = {
          field = "updated_at",
          parameter = "updated_after",
          type = "rfc3339",
          exclusive = true,
          order = "asc",
          lookback_seconds = 60,
          overlap = 0, -- as if there were no traps
        },
        default_since_seconds_ago = 3600,
        pagination = { token = { from = "next", parameter = "offset" } }, -- counts records
        page_size = { parameter = "limit", value = 100 },
        dedup = { id = "id", version = "updated_at" },
      },
    },
    new_item = {
      incremental = {
        base_url = "{connection.site_url}",
        path = "/items",
        query = { sort = "updated_at" },
        records = "items",
        cursor = { field = "updated_at", parameter = "updated_since", type = "rfc3339", order = "asc" },
        default_since_seconds_ago = 3600,
        dedup = { id = "id", version = "updated_at" }, -- each change of an old record comes as a new one
      },
    },
  },
}
