-- Square: every new or changed payment of a location.
--
-- Square signs the URL that it calls together with the body: start Sluice with --public-url. Its lists are eventually consistent.
-- Sources: developer.squareup.com, "List payments" (updated_at_begin_time, sort_field, cursor), "Verify and validate an event
-- notification", "Webhooks: event data".
return {
  name = "square",
  title = "Square",
  version = "1.0.0",

  connection = {
    fields = {
      { name = "access_token", label = "Access token", secret = true, hint = "with PAYMENTS_READ" },
      {
        name = "base_url", label = "API URL", optional = true, default = "https://connect.squareup.com",
        hint = "https://connect.squareupsandbox.com for the sandbox",
      },
    },
  },

  webhook = { scheme = "square", delivery_id = { body = { "event_id" } } },

  -- payment.created, payment.updated, refund.created and so on.
  webhook_keys = function(request)
    return { request.json.type:match("^[^.]+") }
  end,

  help = function(webhook_base_url)
    return "In the Square Developer Console, Webhooks > Subscriptions: add " .. webhook_base_url
      .. " with payment.created and payment.updated, and set its signature key as the connection's webhook secret."
  end,

  triggers = {
    updated_payment = {
      title = "New or updated payment",
      visibility_lag_seconds = 10, -- "several seconds"
      input_fields = {
        { name = "location", optional = true, hint = "a location's id; the main one unless set" },
        { name = "since", label = "From", type = "date_time", optional = true, hint = "one hour ago unless set" },
      },
      webhook_key = function(input)
        return "payment"
      end,

      incremental = {
        base_url = "{connection.base_url|https://connect.squareup.com}",
        path = "/v2/payments",
        auth = { bearer = "{connection.access_token}" },
        headers = { ["Square-Version"] = "2025-01-23" },
        query = { sort_field = "UPDATED_AT", sort_order = "ASC", location_id = "{input.location}" },
        records = "payments",
        cursor = {
          field = "updated_at",
          parameter = "updated_at_begin_time",
          type = "rfc3339",
          order = "asc",
          lookback_seconds = 120,
        },
        since = "{input.since}",
        default_since_seconds_ago = 3600,
        pagination = { token = { from = "cursor", parameter = "cursor" } },
        page_size = { parameter = "limit", value = 100 },
        dedup = { id = "id", version = "updated_at" },
      },
    },
  },
}
