-- Shopify: every new or changed record of one resource (orders, products, customers and so on) of a shop.
--
-- No order is documented for these lists (what `order=` does differs from one resource to the next): they are read whole, link by
-- link, and the cursor moves once the last page was read. A link is taken as it is, since nothing may stand beside its page_info.
-- The REST Admin API is legacy since October 2024, and stays for custom apps.
-- Sources: https://shopify.dev/docs/api/admin-rest/latest/resources/order (updated_at_min: at or after; status; 60 days unless the app may
-- read all orders), https://shopify.dev/docs/api/admin-rest/usage/pagination (Link, page_info, limit at most 250),
-- https://shopify.dev/docs/api/usage/versioning, https://shopify.dev/docs/apps/build/webhooks/ignore-duplicates (X-Shopify-Event-Id),
-- https://shopify.dev/docs/apps/build/webhooks/subscribe/https (X-Shopify-Hmac-Sha256, X-Shopify-Topic),
-- https://shopify.dev/docs/api/webhooks (the topics), https://shopify.dev/docs/api/admin-rest/latest/resources/webhook.
local input_fields = {
  { name = "resource", optional = true, default = "orders", hint = "orders, products, customers or draft_orders" },
  { name = "since", label = "From", type = "date_time", optional = true, hint = "one hour ago unless set" },
}

local records = {
  base_url = "{connection.shop_url}",
  path = "/admin/api/{connection.api_version|2025-10}/{input.resource}.json",
  headers = { ["X-Shopify-Access-Token"] = "{connection.access_token}" },
  cursor = {
    field = "updated_at",
    parameter = "updated_at_min", -- at or after; whole seconds
    type = "rfc3339",
    granularity = 1000,
    order = "none",
    lookback_seconds = 60,
  },
  since = "{input.since}",
  default_since_seconds_ago = 3600,
  pagination = { link = true },
  page_size = { parameter = "limit", value = 250 },
  dedup = { id = "id", version = "updated_at" },
  variants = {
    by = "{input.resource}",
    orders = { records = "orders", query = { status = "any" } },
    products = { records = "products" },
    customers = { records = "customers" },
    draft_orders = { records = "draft_orders" },
  },
}

-- A webhook has one topic, and what is made need not be told as changed: so there are two. Only orders are "updated".
local topics = {
  orders = { "orders/create", "orders/updated" },
  products = { "products/create", "products/update" },
  customers = { "customers/create", "customers/update" },
  draft_orders = { "draft_orders/create", "draft_orders/update" },
}

local function url_of(connection, rest)
  return connection.shop_url:gsub("/+$", "") .. "/admin/api/" .. (connection.api_version or "2025-10") .. "/webhooks" .. rest
end

local function options(connection, more)
  more.headers = { ["X-Shopify-Access-Token"] = connection.access_token }
  return more
end

local function refused(answer)
  poll_failure("permanent", "Shopify answered status " .. answer.status)
end

-- All webhooks of the app, page after page.
local function webhooks(connection)
  local all, url, params = {}, url_of(connection, ".json"), { limit = "250" }
  for _ = 1, 20 do
    local answer = get(url, options(connection, { params = params }))
    if answer.status ~= 200 then refused(answer) end
    for _, item in ipairs(answer.json.webhooks) do all[#all + 1] = item end
    local query
    for link in (answer.headers.link or ""):gmatch("[^,]+") do
      if link:find('rel="next"', 1, true) then query = link:match("page_info=([^&>]+)") end
    end
    if not query then return all end
    params = { limit = "250", page_info = query }
  end
  poll_failure("permanent", "Shopify lists webhooks on more than 20 pages")
end

-- Which topics have a webhook to this URL, by its id.
local function made(all, webhook_url)
  local ids = {}
  for _, item in ipairs(all) do
    if item.address == webhook_url then ids[item.topic] = item.id end
  end
  return ids
end

local function wanted(input)
  local resource = input.resource or "orders"
  return topics[resource] or error("the resource '" .. resource .. "' is none of orders, products, customers and draft_orders")
end

return {
  name = "shopify",
  title = "Shopify",
  version = "1.0.0",

  connection = {
    fields = {
      { name = "shop_url", label = "Shop URL", hint = "https://YOUR-SHOP.myshopify.com" },
      { name = "access_token", label = "Admin API access token", secret = true, hint = "of a custom app that may read the resource" },
      { name = "api_version", label = "API version", optional = true, default = "2025-10" },
    },
  },

  webhook = { scheme = "shopify", delivery_id = { header = "X-Shopify-Event-Id" } },

  -- The topic is orders/updated, products/create and so on.
  webhook_keys = function(request)
    return { request.headers["x-shopify-topic"]:match("^[^/]+") }
  end,

  help = function(webhook_base_url)
    return "In Shopify, Settings > Notifications > Webhooks: add " .. webhook_base_url
      .. " in JSON for the events of the resource, and set the signing secret that is shown there as the connection's webhook secret."
  end,

  triggers = {
    updated_record = {
      title = "New or updated record",
      input_fields = input_fields,
      webhook_key = function(input)
        return input.resource
      end,
      incremental = records,
    },

    -- The same with a webhook made by Sluice. It is signed with the app's client secret: the connection's webhook secret.
    watched_record = {
      title = "New or updated record (with a webhook made by Sluice)",
      input_fields = input_fields,
      incremental = records,
      subscription_input = {},
      -- What a crash has left of the two is kept: Shopify takes no second webhook of the same topic and address.
      webhook_subscribe = function(webhook_url, connection, input, secret)
        local ids, output = made(webhooks(connection), webhook_url), {}
        for index, topic in ipairs(wanted(input)) do
          if not ids[topic] then
            local answer = post(url_of(connection, ".json"), options(connection, {
              json = { webhook = { topic = topic, address = webhook_url, format = "json" } },
            }))
            if answer.status ~= 201 then refused(answer) end
            ids[topic] = answer.json.webhook.id
          end
          output[index] = ids[topic]
        end
        return { output = { ids = output } }
      end,
      webhook_check = function(webhook_url, connection, input, output)
        local all, base, found = webhooks(connection), webhook_url:match("^.*/"), {}
        local ids, own, status = made(all, webhook_url), {}, "active"
        for _, topic in ipairs(wanted(input)) do
          if ids[topic] then own[#own + 1] = ids[topic] else status = "missing" end
        end
        for _, item in ipairs(all) do
          if item.address ~= webhook_url and item.address:sub(1, #base) == base then
            found[#found + 1] = { id = tostring(item.id), url = item.address, output = { ids = { item.id } } }
          end
        end
        return { status = status, output = #own > 0 and { ids = own } or nil, found = found }
      end,
      webhook_unsubscribe = function(webhook_url, connection, input, output)
        for _, id in ipairs(output.ids or { output.id }) do
          local answer = delete(url_of(connection, "/" .. id .. ".json"), options(connection, {}))
          if answer.status ~= 200 and answer.status ~= 404 then refused(answer) end
        end
      end,
    },
  },
}
