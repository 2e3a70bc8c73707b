-- Zendesk Support: every new or changed ticket.
--
-- The incremental export leaves out the last minute, so a poll covers only webhooks that are older than that. It answers
-- with a cursor even at the end: end_of_stream tells the last page. Further pages are asked for with start_time beside their cursor, which
-- the documentation neither shows nor forbids: hence experimental.
-- Sources: developer.zendesk.com, "Incremental exports" (cursor-based), "Using the incremental export API", "Verifying webhooks".
return {
  name = "zendesk",
  title = "Zendesk",
  version = "1.0.0",
  experimental = true,

  connection = {
    fields = {
      { name = "site_url", label = "Site URL", hint = "https://YOUR-SITE.zendesk.com" },
      { name = "email", label = "Agent", hint = "the e-mail address of the admin that the token belongs to" },
      { name = "api_token", label = "API token", secret = true },
    },
  },

  webhook = { scheme = "zendesk", delivery_id = { header = "X-Zendesk-Webhook-Invocation-Id" } },

  webhook_keys = function(request)
    return { "ticket" }
  end,

  help = function(webhook_base_url)
    return "In Zendesk, Admin Center > Apps and integrations > Webhooks: add " .. webhook_base_url
      .. ", connect it to a trigger on tickets, and set its signing secret as the connection's webhook secret."
  end,

  triggers = {
    updated_ticket = {
      title = "New or updated ticket",
      input_fields = {
        { name = "since", label = "From", type = "date_time", optional = true, hint = "one hour ago unless set" },
      },
      webhook_key = function(input)
        return "ticket"
      end,

      incremental = {
        base_url = "{connection.site_url}",
        path = "/api/v2/incremental/tickets/cursor.json",
        auth = { basic = { user = "{connection.email}/token", password = "{connection.api_token}" } },
        records = "tickets",
        cursor = {
          field = "generated_timestamp", -- what the export compares with; updated_at may be older
          parameter = "start_time", -- at or after
          type = "unix_seconds",
          order = "asc", -- allow unordered-as-ordered: the export is in this order
          lookback_seconds = 60,
          visibility_lag_seconds = 60,
        },
        since = "{input.since}",
        default_since_seconds_ago = 3600,
        pagination = { token = { from = "after_cursor", parameter = "cursor", is_last = "end_of_stream" } },
        page_size = { parameter = "per_page", value = 1000 },
        dedup = { id = "id", version = "generated_timestamp" },
      },
    },
  },
}
