-- Chargebee: every new or changed record of one resource (subscription, customer, invoice and so on).
--
-- Chargebee has one webhook URL for all events and cannot be told which to send, so webhooks are matched by the first
-- word of their event_type: subscription_created, subscription_changed and the rest wake the triggers on subscriptions.
-- Sources: Chargebee's API reference, "List subscriptions" and "Webhooks".
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
    return { request.json.event_type:match("^[^_]+") }
  end,

  help = function(webhook_base_url)
    return "In Chargebee, Settings > Configure Chargebee > Webhooks: add " .. webhook_base_url
      .. " with basic authentication, and set the same user and password as the connection's webhook secret, USER:PASSWORD."
  end,

  triggers = {
    updated_record = {
      title = "New or updated record",
      input_fields = {
        { name = "resource", hint = "subscription, customer, invoice and so on" },
        { name = "since", label = "From", type = "date_time", optional = true, hint = "one hour ago unless set" },
      },
      webhook_key = function(input)
        return input.resource
      end,

      incremental = {
        base_url = "{connection.site_url}",
        path = "/api/v2/{input.resource}s",
        auth = { basic = { user = "{connection.api_key}", password = "" } },
        query = { ["sort_by[asc]"] = "updated_at" },
        records = "list",
        unwrap = "{input.resource}",
        cursor = {
          field = "updated_at",
          parameter = "updated_at[after]", -- strictly after
          type = "unix_seconds",
          exclusive = true,
          order = "asc",
          -- The lists may lag behind the webhooks.
          lookback_seconds = 60,
          visibility_lag_seconds = 5,
        },
        since = "{input.since}",
        default_since_seconds_ago = 3600,
        pagination = { token = { from = "next_offset", parameter = "offset", restart_from_mark = true } },
        page_size = { parameter = "limit", value = 100 },
        dedup = { id = "id", version = "updated_at" },
      },
      simulate = { input = { resource = "subscription" } },
    },
  },
}
