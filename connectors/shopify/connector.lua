-- Shopify: every new or changed record of one resource (orders, products, customers and so on) of a shop.
--
-- No order is documented for these lists (what `order=` does differs from one resource to the next): they are read whole, link by
-- link, and the cursor moves once the last page was read. A link is taken as it is, since nothing may stand beside its page_info.
-- The REST Admin API is legacy since October 2024, and stays for custom apps.
-- Sources: https://shopify.dev/docs/api/admin-rest/latest/resources/order (updated_at_min: at or after; status; 60 days unless the app may
-- read all orders), https://shopify.dev/docs/api/admin-rest/usage/pagination (Link, page_info, limit at most 250),
-- https://shopify.dev/docs/api/usage/versioning, https://shopify.dev/docs/apps/build/webhooks/ignore-duplicates (X-Shopify-Event-Id),
-- https://shopify.dev/docs/apps/build/webhooks/subscribe/https (X-Shopify-Hmac-Sha256, X-Shopify-Topic).
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
      subscription = {
        base_url = "{connection.shop_url}",
        headers = { ["X-Shopify-Access-Token"] = "{connection.access_token}" },
        create = {
          path = "/admin/api/{connection.api_version|2025-10}/webhooks.json",
          body = { webhook = { topic = "{input.resource}/updated", address = "{webhook.url}", format = "json" } },
        },
        id = "webhook.id",
        list = {
          path = "/admin/api/{connection.api_version|2025-10}/webhooks.json", query = { limit = "250" },
          items = "webhooks", url = "address",
        },
        delete = { path = "/admin/api/{connection.api_version|2025-10}/webhooks/{output.id}.json" },
      },
    },
  },
}
