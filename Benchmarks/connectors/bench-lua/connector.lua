-- What `bench` describes as data, written by hand: the same pages of `peers/mock_api.py` through the lambdas `poll` and
-- `dedup`, with the same dedup keys. `Benchmarks/run polling` measures what that costs.

local function poll(connection, input, closure)
  -- mark: where the next cycle begins, nil at first; highest: the newest time so far; page: the API's token.
  closure = closure or {}
  local response = get(connection.base_url .. "/items", {
    params = { limit = input.page, topic = input.topic, updated_since = closure.mark, cursor = closure.page },
  })
  if response.status ~= 200 then
    poll_failure(closure.page and "page_state_expired" or "permanent", "the API answered status " .. response.status)
  end
  local body = response.json
  local highest = closure.highest or closure.mark or 0
  for _, record in ipairs(body.data) do
    highest = math.max(highest, record.updated_at)
  end
  if body.has_more then
    -- The mark moves after the last page only.
    return {
      events = body.data,
      can_poll_more = true,
      next_poll = { mark = closure.mark, highest = highest, page = body.next_cursor },
    }
  end
  return { events = body.data, can_poll_more = false, next_poll = { mark = highest } }
end

return {
  name = "bench-lua",
  title = "Benchmark, lambdas",
  version = "1.0.0",

  connection = {
    fields = { { name = "base_url", label = "Base URL" } },
  },

  webhook = { scheme = "stripe", delivery_id = { body = { "id" } } },

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

      poll = poll,
      dedup = function(record)
        return record.id .. "@" .. record.updated_at
      end,
    },
  },
}
