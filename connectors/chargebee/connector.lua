-- Chargebee: every new, changed or deleted record of one resource (subscription, customer, invoice and so on).
--
-- Chargebee has one webhook URL for all events and cannot be told which to send, so webhooks are matched by the first word of
-- their event_type, and of all that their content holds: payment_succeeded wakes the triggers on transactions, invoices, customers and
-- subscriptions too, credit_note_created those on credit_note.
-- Deleted records are listed where include_deleted may be asked for. Not every list can be sorted by the time of change.
-- Sources: Chargebee's API reference, "List subscriptions" and the other lists, "Webhooks", "Event types".
local cursor = {
  field = "updated_at",
  parameter = "updated_at[after]", -- strictly after
  type = "unix_seconds",
  exclusive = true,
  order = "asc",
  -- The lists may lag behind the webhooks.
  lookback_seconds = 60,
  visibility_lag_seconds = 5,
}
local unsorted = {}
for key, value in pairs(cursor) do unsorted[key] = value end
unsorted.order = "none"
local pages = { token = { from = "next_offset", parameter = "offset" } }
local deleted = { include_deleted = "true" }

local variants = { by = "{input.resource}" }
for resource in ("subscription customer invoice transaction order payment_source"):gmatch("%S+") do variants[resource] = {} end
for resource in ("item item_price usage"):gmatch("%S+") do variants[resource] = { query = { ["sort_by[asc]"] = "updated_at" } } end
for resource in ("credit_note plan addon quote"):gmatch("%S+") do
  variants[resource] = { cursor = unsorted, pagination = pages, query = deleted }
end
for resource in ("coupon virtual_bank_account"):gmatch("%S+") do
  variants[resource] = { cursor = unsorted, pagination = pages, query = {} }
end
variants.item_family = { path = "/api/v2/item_families", cursor = unsorted, pagination = pages, query = {} }

return {
  name = "chargebee",
  title = "Chargebee",
  version = "1.0.0",

  connection = {
    fields = {
      { name = "site_url", label = "Site URL", hint = "https://YOUR-SITE.chargebee.com" },
      { name = "api_key", label = "API key", secret = true, hint = "a read-only key is enough" },
    },
  },

  webhook = { scheme = "basic-auth", delivery_id = { body = { "id" } } },

  webhook_keys = function(request)
    local keys, held = { request.json.event_type:match("^[^_]+") }, request.json.content -- what it holds has changed as well
    local known = { [keys[1]] = true }
    for name in pairs(type(held) == "userdata" and held or {}) do
      local word = name:match("^[^_]+")
      if word and not known[word] then known[word], keys[#keys + 1] = true, word end
    end
    return keys
  end,

  help = function(webhook_base_url)
    return "In Chargebee, Settings > Configure Chargebee > Webhooks: add " .. webhook_base_url
      .. " with basic authentication, and set the same user and password as the connection's webhook secret, USER:PASSWORD."
  end,

  triggers = {
    updated_record = {
      title = "New, updated or deleted record",
      input_fields = {
        { name = "resource", hint = "subscription, customer, invoice, credit_note, item_price and so on" },
        { name = "since", label = "From", type = "date_time", optional = true, hint = "one hour ago unless set" },
      },
      webhook_key = function(input)
        return input.resource:match("^[^_]+")
      end,

      incremental = {
        base_url = "{connection.site_url}",
        path = "/api/v2/{input.resource}s",
        auth = { basic = { user = "{connection.api_key}", password = "" } },
        query = { ["sort_by[asc]"] = "updated_at", include_deleted = "true" },
        records = "list",
        unwrap = "{input.resource}",
        cursor = cursor,
        since = "{input.since}",
        default_since_seconds_ago = 3600,
        pagination = { token = { from = "next_offset", parameter = "offset", restart_from_mark = true } },
        page_size = { parameter = "limit", value = 100 },
        dedup = { id = "id", version = "updated_at" },
        tombstone = { field = "deleted" },
        variants = variants,
      },
      simulate = { input = { resource = "subscription" } },
    },
  },
}
