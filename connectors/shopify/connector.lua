-- Shopify: every new or changed record of one resource (orders, products, customers and so on) of a shop.
--
-- The link to a further page (page_info) only says that there is one: Sluice goes on from the last time, so that an order which
-- changes while it is read hides no other.
-- Sources: shopify.dev, Admin REST API, "Order" (updated_at_min, order), "Make paginated requests with REST";
-- "Webhooks: HTTPS" (X-Shopify-Hmac-Sha256, X-Shopify-Topic, X-Shopify-Event-Id).
local input_fields = {
  { name = "resource", optional = true, default = "orders", hint = "orders, products, customers or draft_orders" },
  { name = "since", label = "From", type = "date_time", optional = true, hint = "one hour ago unless set" },
}

local records = {
  base_url = "{connection.shop_url}",
  path = "/admin/api/{connection.api_version|2025-01}/{input.resource}.json",
  headers = { ["X-Shopify-Access-Token"] = "{connection.access_token}" },
  query = { order = "updated_at asc" },
  cursor = {
    field = "updated_at",
    parameter = "updated_at_min", -- at or after; whole seconds
    type = "rfc3339",
    granularity = 1000,
    order = "asc",
    lookback_seconds = 60,
  },
  since = "{input.since}",
  default_since_seconds_ago = 3600,
  pagination = { link = true },
  page_size = { parameter = "limit", value = 250 },
  dedup = { id = "id", version = "updated_at" },
  variants = {
    by = "{input.resource}",
    orders = { records = "orders", query = { order = "updated_at asc", status = "any" } },
    products = { records = "products" },
    customers = { records = "customers" },
    draft_orders = { records = "draft_orders" },
  },
}

return {
  name = "shopify",
  title = "Shopify",
  version = "1.0.0",

  connection = {
    fields = {
      { name = "shop_url", label = "Shop URL", hint = "https://YOUR-SHOP.myshopify.com" },
      { name = "access_token", label = "Admin API access token", secret = true, hint = "of a custom app that may read the resource" },
      { name = "api_version", label = "API version", optional = true, default = "2025-01" },
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
      subscription = {
        base_url = "{connection.shop_url}",
        headers = { ["X-Shopify-Access-Token"] = "{connection.access_token}" },
        create = {
          path = "/admin/api/{connection.api_version|2025-01}/webhooks.json",
          body = { webhook = { topic = "{input.resource}/updated", address = "{webhook.url}", format = "json" } },
        },
        id = "webhook.id",
        list = {
          path = "/admin/api/{connection.api_version|2025-01}/webhooks.json", query = { limit = "250" }, items = "webhooks", url = "address",
        },
        delete = { path = "/admin/api/{connection.api_version|2025-01}/webhooks/{output.id}.json" },
      },
    },
  },
}
