-- Wrong on purpose: the nine mistakes of polls that are written by hand, each in a trigger of its own, beside one that makes none.
local HOUR = 3600
local OVERLAP = 60

local function list(connection, since, token)
  local response = get(connection.site_url .. "/items", { params = { since = since, after = token } })
  if response.status ~= 200 then
    poll_failure(token and "page_state_expired" or "permanent", "status " .. response.status)
  end
  return response
end

local function server_now(response)
  return parse_http_date(response.headers.date) or poll_failure("transient", "no Date")
end

local function highest_of(items, from, now)
  local highest = from
  for _, item in ipairs(items) do
    if math.type(item.updated) == "integer" then
      highest = math.max(highest, math.min(item.updated, now))
    end
  end
  return highest
end

-- A poll that makes one mistake, or none.
local function reader(mistake)
  return function(connection, input, closure)
    closure = closure or {}
    local since = closure.since or server_now(list(connection, 4102444800)) - HOUR
    local overlap = (mistake == "strict" or mistake == "last_record") and 0 or OVERLAP
    local response = list(connection, since - overlap, closure.token)
    local body, now = response.json, server_now(response)
    local cap = closure.cap or now
    local highest = highest_of(body.items, closure.highest or since, cap)
    local last = since
    if #body.items > 0 and math.type(body.items[#body.items].updated) == "integer" then
      last = body.items[#body.items].updated
    end

    if mistake == "never" then
      return { events = body.items, can_poll_more = true, next_poll = { since = since, page = (closure.page or 0) + 1, token = body.next } }
    end
    if body.next and mistake == "strict" then
      -- The last record's time instead of the token.
      return { events = body.items, can_poll_more = true, next_poll = { since = last } }
    end
    if body.next and mistake == "last_record" then
      return { events = body.items, can_poll_more = true, next_poll = { since = last, token = body.next } }
    end
    if body.next and mistake ~= "stops" then
      return {
        events = body.items,
        can_poll_more = true,
        next_poll = { since = since, highest = highest, cap = cap, token = body.next },
      }
    end
    local next_poll = { since = highest }
    if mistake == "start" and #body.items == 0 then
      next_poll = { since = closure.since }
    elseif mistake == "token" then
      next_poll.token = body.next or closure.token
    elseif mistake == "clock" then
      next_poll.since = now + OVERLAP
    elseif mistake == "last_record" then
      next_poll.since = last
    end
    return { events = body.items, can_poll_more = false, next_poll = next_poll }
  end
end

local function feed(order, exclusive)
  return {
    records = "items",
    cursor = {
      field = "updated", parameter = "since", type = "unix_seconds", order = order, exclusive = exclusive, lookback_seconds = OVERLAP,
    },
    default_since_seconds_ago = HOUR,
    pagination = { token = { from = "next", parameter = "after" } },
    dedup = { id = "id", version = "updated" },
  }
end

local function by_version(record)
  return record.id .. "@" .. record.updated
end

local function trigger(mistake, order, exclusive)
  return { poll = reader(mistake), dedup = by_version, lookback = OVERLAP, simulate = feed(order or "asc", exclusive) }
end

local forgets_version = trigger()
forgets_version.dedup = function(record)
  return record.id
end

local undeclared = trigger()
undeclared.simulate = nil

return {
  name = "naive-lambdas",
  title = "Naive (lambdas)",
  version = "1.0.0",
  connection = { fields = { { name = "site_url", hint = "https://api.example.com" } } },
  triggers = {
    updated_without_mistake = trigger(),
    updated_start_not_stored = trigger("start"),
    updated_token_kept = trigger("token"),
    updated_by_clock = trigger("clock"),
    updated_by_last_record = trigger("last_record", "none"),
    new_item = trigger(), -- filtered by when it changed
    updated_without_version = forgets_version,
    updated_stops_early = trigger("stops"),
    updated_never_ends = trigger("never"),
    updated_strictly_after = trigger("strict", "asc", true),
    updated_undeclared = undeclared,
  },
}
