-- Paddle Billing: every new or changed transaction.
--
-- Paddle pages by id, and its ids sort as they were made. Ordered by time, a page would begin after a record that may have moved
-- meanwhile, so the list is ordered by id, between two times. That Paddle takes both bounds at once is not said in its
-- documentation: hence experimental. Only transactions can be asked for by time.
-- Sources: developer.paddle.com, API reference, "List transactions" (updated_at[GTE], order_by, after, meta.pagination),
-- "Signature verification", "Respond to webhooks".
return {
  name = "paddle",
  title = "Paddle",
  version = "1.0.0",
  experimental = true,

  connection = {
    fields = {
      { name = "api_key", label = "API key", secret = true, hint = "with read permission for the resource" },
      {
        name = "base_url", label = "API URL", optional = true, default = "https://api.paddle.com",
        hint = "https://sandbox-api.paddle.com for the sandbox",
      },
    },
  },

  webhook = { scheme = "paddle", delivery_id = { body = { "event_id" } } },

  -- transaction.completed, subscription.updated and so on.
  webhook_keys = function(request)
    return { request.json.event_type:match("^[^.]+") }
  end,

  help = function(webhook_base_url)
    return "In Paddle, Developer tools > Notifications: add a destination for " .. webhook_base_url
      .. " with the events of the resource, and set its secret key (pdl_ntfset_…) as the connection's webhook secret."
  end,

  triggers = {
    updated_record = {
      title = "New or updated record",
      input_fields = {
        { name = "resource", optional = true, default = "transaction", hint = "transaction" },
        { name = "since", label = "From", type = "date_time", optional = true, hint = "one hour ago unless set" },
      },
      webhook_key = function(input)
        return input.resource
      end,

      incremental = {
        base_url = "{connection.base_url|https://api.paddle.com}",
        path = "/{input.resource}s",
        auth = { bearer = "{connection.api_key}" },
        query = { order_by = "id[ASC]" },
        records = "data",
        cursor = {
          field = "updated_at",
          parameter = "updated_at[GTE]",
          type = "rfc3339",
          upper_parameter = "updated_at[LTE]",
          order = "none",
          lookback_seconds = 60,
        },
        since = "{input.since}",
        default_since_seconds_ago = 3600,
        pagination = { keyset = { from = "id", parameter = "after", has_more = "meta.pagination.has_more" } },
        page_size = { parameter = "per_page", value = 30 },
        dedup = { id = "id", version = "updated_at" },
      },
    },
  },
}
