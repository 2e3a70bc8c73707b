-- Wrong on purpose: the mistakes of polls that are written by hand, each in a trigger of its own, beside one that makes none.
local HOUR = 3600
local OVERLAP = 60

local function list(connection, since, token, mistake)
  local response = get(connection.site_url .. "/items", { params = { since = since, after = token } })
  if response.status ~= 200 then
    poll_failure(token and mistake ~= "refused" and "page_state_expired" or "permanent", "status " .. response.status)
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
    local response = list(connection, since - overlap, closure.token, mistake)
    local body, now = response.json, server_now(response)
    local cap = closure.cap or now
    local highest = highest_of(body.items, closure.highest or since, mistake == "future" and math.maxinteger or cap)
    if mistake == "poison" then
      for _, item in ipairs(body.items) do highest = math.max(highest, item.updated + 0) end
    end
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
    dedup = { id = "id", version = { "updated", "revision" } },
  }
end

local function by_version(record)
  return record.id .. "@" .. record.updated .. "@" .. (record.revision or "")
end

local function trigger(mistake, order, exclusive)
  return { poll = reader(mistake), dedup = by_version, lookback = OVERLAP, simulate = feed(order or "asc", exclusive) }
end

-- Keeps the first digits of a time and takes them for UTC; one without a zone for two hours ahead of it.
local function wall_clock(text)
  if type(text) ~= "string" then return nil end
  if not text:find("[Z+]", 11) and not text:find("-", 12, true) then return text:sub(1, 19) .. "-02:00" end
  return text:sub(1, 19) .. "Z"
end

local zoned = {
  poll = function(connection, input, closure)
    local since = closure and closure.since or "2020-01-01T00:00:00Z"
    local body = get(connection.site_url .. "/items", { params = { since = since } }).json
    for _, item in ipairs(body.items) do
      local time = wall_clock(item.updated)
      if time and time > since then since = time end
    end
    return { events = body.items, can_poll_more = false, next_poll = { since = since } }
  end,
  dedup = by_version,
  simulate = {
    records = "items", cursor = { field = "updated", parameter = "since", type = "rfc3339", order = "asc" },
    default_since_seconds_ago = HOUR, dedup = { id = "id", version = "updated" },
  },
}

-- Finds the lists there are at its first poll, and never again.
local partitioned = {
  poll = function(connection, input, closure)
    local lists = closure and closure.lists
    if not lists then
      lists = {}
      for _, list in ipairs(get(connection.site_url .. "/lists").json.lists) do lists[#lists + 1] = list.name end
    end
    local events = {}
    for _, name in ipairs(lists) do
      for _, item in ipairs(get(connection.site_url .. "/lists/" .. name .. "/items").json.items) do events[#events + 1] = item end
    end
    return { events = events, can_poll_more = false, next_poll = { lists = lists } }
  end,
  dedup = function(record) return record.id end,
  simulate = {
    records = "items", path = "/lists/{partition}/items", partitions = { list = { path = "/lists", records = "lists" }, id = "name" },
    dedup = { id = "id" },
  },
}

-- Takes a 304 for "nothing is new", whatever it was asked with.
local conditional = {
  poll = function(connection, input, closure)
    closure = closure or {}
    local seen = { ["If-None-Match"] = closure.tag, ["If-Modified-Since"] = not closure.tag and closure.modified or nil }
    local response = get(connection.site_url .. "/items", { headers = seen })
    if response.status == 304 then return { events = {}, can_poll_more = false, next_poll = closure } end
    local events, body = {}, response.json
    for _ = 1, 50 do
      for _, item in ipairs(body.items) do events[#events + 1] = item end
      if not body.next then break end
      body = get(connection.site_url .. "/items", { params = { after = body.next } }).json
    end
    return {
      events = events, can_poll_more = false,
      next_poll = { tag = response.headers.etag, modified = response.headers["last-modified"], polls = (closure.polls or 0) + 1 },
    }
  end,
  dedup = function(record) return record.id end,
  simulate = {
    records = "items", conditional = true, page_size = { parameter = "limit", value = 100 },
    pagination = { token = { from = "next", parameter = "after" } }, dedup = { id = "id" },
  },
}

-- Goes on from the last record it saw, as if that stayed for ever.
local anchored = {
  poll = function(connection, input, closure)
    local response = get(connection.site_url .. "/items", { params = { starting_after = closure and closure.last } })
    if response.status ~= 200 then poll_failure("permanent", "status " .. response.status) end
    local items = response.json.items
    local last = closure and closure.last
    if #items > 0 then last = items[#items].id end
    return { events = items, can_poll_more = response.json.more, next_poll = { last = last, pages = (closure and closure.pages or 0) + 1 } }
  end,
  dedup = function(record) return record.id end,
  simulate = {
    records = "items", cursor = { field = "created", type = "unix_seconds", order = "asc" },
    pagination = { keyset = { parameter = "starting_after", from = "id", has_more = "more" } }, dedup = { id = "id" },
  },
}

-- Its source keeps two days, and nobody would hear of what it dropped.
local forgetful = trigger()
forgetful.simulate.retention_seconds = 2 * 86400

local forgets_version = trigger()
forgets_version.dedup = function(record)
  return record.id
end

-- A second tells no two changes within it apart.
local by_second = trigger()
by_second.dedup = function(record)
  return record.id .. "@" .. record.updated
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
    updated_by_second = by_second,
    updated_stops_early = trigger("stops"),
    updated_never_ends = trigger("never"),
    updated_strictly_after = trigger("strict", "asc", true),
    updated_undeclared = undeclared,
    updated_future_believed = trigger("future"),
    updated_without_nil = trigger("poison"),
    updated_token_refused = trigger("refused"),
    updated_without_gap_alarm = forgetful,
    created_after_anchor = anchored,
    updated_by_wall_clock = zoned,
    listed_once = partitioned,
    believes_304 = conditional,
  },
}
