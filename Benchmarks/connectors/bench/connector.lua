-- The connector that the benchmarks measure with: signed webhooks whose topic a Lua function finds, and a feed that is
-- described as data. It reads `peers/mock_api.py` and `measure/stub.py`.
return {
  name = "bench",
  title = "Benchmark",
  version = "1.0.0",

  connection = {
    fields = { { name = "base_url", label = "Base URL" } },
  },

  webhook = { scheme = "stripe", delivery_id = { body = { "id" } } },

  -- charge.succeeded is news of charges.
  webhook_keys = function(request)
    return { request.json.type:match("^[%w_]+") }
  end,

  triggers = {
    item = {
      title = "New item",
      input_fields = {
        { name = "topic", label = "Topic" },
        { name = "page", label = "Records a page", type = "integer", optional = true, default = 1000 },
      },
      webhook_key = function(input)
        return input.topic
      end,

      incremental = {
        base_url = "{connection.base_url}",
        path = "/items",
        query = { limit = "{input.page}", topic = "{input.topic}" },
        records = "data",
        cursor = { field = "updated_at", parameter = "updated_since", type = "unix_seconds", order = "asc" },
        pagination = { token = { from = "next_cursor", parameter = "cursor" } },
        dedup = { id = "id", version = "updated_at" },
      },
    },

    held = {
      title = "New item, by long polling",
      input_fields = { { name = "topic", label = "Topic" } },
      incremental = {
        base_url = "{connection.base_url}",
        path = "/items",
        query = { topic = "{input.topic}" },
        records = "data",
        cursor = { field = "id", parameter = "after", type = "integer", exclusive = true, order = "asc" },
        dedup = { id = "id" },
      },
      long_poll = { parameter = "wait", seconds = 60 },
    },
  },
}
