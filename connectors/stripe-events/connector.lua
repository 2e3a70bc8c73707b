-- Stripe events: each event of an account once, whether its webhook came or not.
--
-- Events never change, so their id alone tells them apart. Stripe lists them newest first; others that speak its API list
-- the oldest first, so no order is assumed and the cursor moves after the last page only.
-- Sources: Stripe's API reference, "List all events" and "Pagination"; Stripe keeps events for 30 days.
return {
  name = "stripe-events",
  title = "Stripe events",
  version = "1.0.0",

  connection = {
    fields = {
      { name = "api_key", label = "API key", secret = true, hint = "a restricted key that may read events is enough" },
      {
        name = "base_url", label = "API URL", optional = true, default = "https://api.stripe.com",
        hint = "only for a stand-in of Stripe's API",
      },
    },
  },

  webhook = { scheme = "stripe", delivery_id = { body = { "id" } } },

  -- Every trigger of the account hears of every event; the poll then asks for those it wants.
  webhook_keys = function(request)
    return { "events", request.json.type }
  end,

  help = function(webhook_base_url)
    return "In Stripe, Developers > Webhooks: add an endpoint for " .. webhook_base_url
      .. " and set its signing secret (whsec_…) as the connection's webhook secret."
  end,

  triggers = {
    event = {
      title = "New event",
      input_fields = {
        { name = "type", label = "Event type", optional = true, hint = "for example invoice.paid, or invoice.* for several; every type unless set" },
        { name = "since", label = "From", type = "date_time", optional = true, hint = "one hour ago unless set" },
      },
      webhook_key = function(input)
        -- invoice.* and * stand for several types, and no webhook is of such a one.
        if not input.type or input.type:find("*", 1, true) then return "events" end
        return input.type
      end,

      incremental = {
        base_url = "{connection.base_url|https://api.stripe.com}",
        path = "/v1/events",
        auth = { bearer = "{connection.api_key}" },
        query = { type = "{input.type}" },
        records = "data",
        cursor = {
          field = "created",
          parameter = "created[gte]",
          upper_parameter = "created[lte]",
          type = "unix_seconds",
          order = "none",
          -- An event may be listed some seconds after the moment that it names.
          lookback_seconds = 60,
        },
        since = "{input.since}",
        default_since_seconds_ago = 3600,
        pagination = { keyset = { from = "id", parameter = "starting_after", has_more = "has_more" } },
        page_size = { parameter = "limit", value = 100 },
        dedup = { id = "id" },
        retention_seconds = 2592000,
      },
    },
  },
}
