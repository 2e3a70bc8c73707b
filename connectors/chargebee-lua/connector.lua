-- Chargebee by lambdas. What its API promises: https://apidocs.chargebee.com/docs/api (lists, filters, webhooks).
--
-- The traps of this source, and what is done about each:
--   * updated_at has whole seconds and updated_at[after] is strict: ask from one second below the mark, and further
--     below by OVERLAP, so that records of the same second and late visible ones are read again. dedup drops the rest.
--   * offsets are good for one walk over a list only: they stand in the closure of an open cycle, never in the cursor. And
--     they count: a record that changes leaves its place, and the next page begins one too late. So the next page is asked
--     for from the last record's second, and the offset serves only where a page does not get past its own second.
--   * two changes within a second show the same updated_at: version_seconds has their states told apart.
--   * our clock is not theirs: the first start and the upper bound come from the Date header of their answers.

local HOUR = 3600
-- Seconds below the mark that are read again.
local OVERLAP = 10
local PAGE = 100

local function resource_of(input)
  local resource = input.resource
  if type(resource) ~= "string" or not resource:find("^[%l_]+$") then
    error("the input 'resource' must be a name such as subscription, customer or invoice")
  end
  return resource
end

-- Lists that cannot be sorted by the time of change: their mark moves at the end only, as with all of them, and their pages follow
-- by offset alone.
local UNSORTED = {
  credit_note = true, plan = true, addon = true, quote = true, coupon = true, virtual_bank_account = true, item_family = true,
}
-- Lists that take no include_deleted.
local LIVING = { item = true, item_price = true, usage = true, coupon = true, virtual_bank_account = true, item_family = true }

local function path_of(resource)
  return "/api/v2/" .. (resource == "item_family" and "item_families" or resource .. "s")
end

local function authorization(connection)
  return "Basic " .. base64_encode(connection.api_key .. ":")
end

local function server_now(response)
  local now = parse_http_date(response.headers.date or "")
  if not now then
    poll_failure("transient", "Chargebee's answer has no Date header that can be read, and polls rely on their clock")
  end
  return now
end

local function list(connection, resource, after, offset)
  local site = connection.site_url:gsub("/+$", "")
  local response = get(site .. path_of(resource), {
    headers = { Authorization = authorization(connection), Accept = "application/json" },
    params = {
      ["sort_by[asc]"] = not UNSORTED[resource] and "updated_at" or nil,
      ["updated_at[after]"] = after,
      limit = PAGE,
      offset = offset,
      include_deleted = not LIVING[resource] or nil,
    },
  })
  if response.status ~= 200 then
    local code = (response.json or {}).api_error_code or "unknown"
    if offset then
      poll_failure("page_state_expired", "Chargebee did not take the offset: status " .. response.status .. ", " .. code)
    end
    poll_failure("permanent", "Chargebee answered status " .. response.status .. ", " .. code)
  end
  return response
end

-- Before the first committed cursor there is no mark: begin where the input says, or an hour ago by their clock.
local function first_mark(connection, input, resource)
  local since = input.since
  if math.type(since) == "integer" then
    return since
  end
  local far_future = 4102444800
  return server_now(list(connection, resource, far_future)) - HOUR
end

local function poll_updated(connection, input, closure)
  local resource = resource_of(input)
  closure = closure or { mark = first_mark(connection, input, resource) }
  local after = closure.after or closure.mark - 1 - OVERLAP
  local response = list(connection, resource, after, closure.offset)
  local body = response.json
  local now = server_now(response)
  -- In a list without order, what changes while it is read may lie on a page that was read already.
  local bound = UNSORTED[resource] and closure.bound or now

  local events, highest, reached = {}, closure.highest or closure.mark, after
  for index, entry in ipairs(body.list) do
    local record = entry[resource]
    if record == nil then
      error("entry " .. index .. " of the list has no '" .. resource .. "'")
    end
    events[index] = record
    local updated = record.updated_at
    -- A date in their future must not carry the mark past records that are still to come.
    if math.type(updated) == "integer" then
      highest = math.max(highest, math.min(updated, bound))
      if not UNSORTED[resource] then reached = math.max(reached, updated - 1) end
    end
  end

  local offset = body.next_offset
  if offset ~= nil then
    -- The mark moves after the last page only; until then a lost offset means to read this cycle again.
    return {
      events = events,
      can_poll_more = true,
      next_poll = {
        mark = closure.mark, highest = highest, bound = bound, after = reached, offset = reached == after and offset or nil,
      },
    }
  end
  return { events = events, can_poll_more = false, next_poll = { mark = highest } }
end

return {
  name = "chargebee-lua",
  title = "Chargebee (Lua)",
  version = "1.0.0",

  connection = {
    fields = {
      { name = "site_url", label = "Site URL", hint = "For example https://acme.chargebee.com" },
      { name = "api_key", label = "API key", secret = true, hint = "A read-only key is enough: Settings > API keys" },
    },
  },

  webhook = { scheme = "basic-auth", delivery_id = { body = { "id" } } },

  webhook_keys = function(request)
    local event_type = request.json.event_type
    local resource = event_type and event_type:match("^%l+")
    local keys = { resource or error("the webhook has no event_type") }
    local known, held = { [resource] = true }, request.json.content
    -- Payments and cards are told of by names of their own; what has changed is what the content holds.
    for name in pairs(type(held) == "userdata" and held or {}) do
      local word = name:match("^%l+")
      if word and not known[word] then known[word], keys[#keys + 1] = true, word end
    end
    return keys
  end,

  help = function(webhook_base_url)
    return "In Chargebee, open Settings > Configure Chargebee > Webhooks and add a webhook with the URL " .. webhook_base_url
      .. ". Turn on \"Protect webhook URL with basic authentication\" and give the user name and password of this"
      .. " connection as its webhook secret, written user:password."
  end,

  triggers = {
    updated_record = {
      title = "New, updated or deleted record",
      input_fields = {
        { name = "resource", label = "Resource", hint = "subscription, customer, invoice, ... in the singular" },
        { name = "since", label = "Since", type = "integer", optional = true,
          hint = "Unix seconds; records updated from then on are read. Left out: from one hour before the first start" },
      },
      output_fields = {
        { name = "id", label = "Id" },
        { name = "updated_at", label = "Updated at", type = "integer" },
        { name = "deleted", label = "Deleted", type = "boolean", optional = true },
      },
      sample_output = { id = "sub_1", updated_at = 1700000000, deleted = false, object = "subscription" },
      visibility_lag_seconds = 5,

      -- The first word, as webhook_keys takes it: credit_note hears credit_note_created under "credit".
      webhook_key = function(input)
        return resource_of(input):match("^%l+")
      end,
      poll = poll_updated,
      dedup = function(record)
        return record.id .. "@" .. record.updated_at .. (record.deleted == true and "@deleted" or "")
      end,
      -- For backfills: the poll steps back from the mark by itself.
      cursor_at = function(time)
        return { mark = time }
      end,
      record_time = function(record)
        return record.updated_at
      end,
      version_seconds = 1,

      -- What the poll reads, for `sluice connector simulate`.
      simulate = {
        input = { resource = "subscription" },
        records = "list",
        unwrap = "{input.resource}",
        cursor = {
          field = "updated_at",
          parameter = "updated_at[after]",
          type = "unix_seconds",
          exclusive = true,
          order = "asc",
          lookback_seconds = OVERLAP,
        },
        default_since_seconds_ago = HOUR,
        pagination = { token = { from = "next_offset", parameter = "offset", restart_from_mark = true } },
        page_size = { parameter = "limit", value = PAGE },
        dedup = { id = "id", version = "updated_at" },
        tombstone = { field = "deleted" },
      },
    },
  },
}
