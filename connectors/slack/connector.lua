-- Slack: every message of a channel.
--
-- Slack lists the newest first and gives times as text with six decimals, which are the message's id as well.
-- An app that is distributed outside of Slack's Marketplace gets 15 messages a request and one request a minute: Sluice waits
-- as Slack asks. Internal apps and those of the Marketplace are not limited so.
-- Threads are not listed: their replies are in conversations.replies. An edited message keeps its time and does not come again.
-- Sources: api.slack.com, "conversations.history" (oldest, inclusive, cursor), "Verifying requests from Slack",
-- "url_verification event".
return {
  name = "slack",
  title = "Slack",
  version = "1.0.0",

  connection = {
    fields = {
      { name = "token", label = "Bot token", secret = true, hint = "xoxb-…, with channels:history (groups:history for private channels)" },
      { name = "base_url", label = "API URL", optional = true, default = "https://slack.com/api", hint = "only for a stand-in" },
    },
  },

  webhook = { scheme = "slack", delivery_id = { body = { "event_id" } }, handshake = "slack" },

  webhook_keys = function(request)
    local event = request.json.event
    return { event.channel or event.item and event.item.channel or event.type }
  end,

  help = function(webhook_base_url)
    return "In your Slack app, Event Subscriptions: set the request URL to " .. webhook_base_url
      .. ", subscribe to message.channels, and set the app's signing secret as the connection's webhook secret."
  end,

  triggers = {
    new_message = {
      title = "New message",
      input_fields = {
        { name = "channel", hint = "its id, such as C0123456789; the bot must be in it" },
        { name = "since", label = "From", optional = true, hint = "a time such as 1700000000.000000; one hour ago unless set" },
      },
      webhook_key = function(input)
        return input.channel
      end,

      incremental = {
        base_url = "{connection.base_url|https://slack.com/api}",
        path = "/conversations.history",
        auth = { bearer = "{connection.token}" },
        query = { channel = "{input.channel}", inclusive = "true" },
        records = "messages",
        error = { -- with status 200
          path = "error",
          expired = { "invalid_cursor" },
          unauthorized = {
            "invalid_auth", "not_authed", "account_inactive", "token_expired", "token_revoked", "missing_scope", "no_permission",
            "ekm_access_denied", "org_login_required", "access_denied",
          },
          transient = { "internal_error", "fatal_error", "service_unavailable", "request_timeout", "ratelimited", "team_added_to_org" },
        },
        cursor = {
          field = "ts",
          parameter = "oldest",
          type = "unix_decimal",
          order = "desc",
          lookback_seconds = 60,
        },
        since = "{input.since}",
        default_since_seconds_ago = 3600,
        pagination = { token = { from = "response_metadata.next_cursor", parameter = "cursor" } },
        page_size = { parameter = "limit", value = 200 },
        dedup = { id = "ts" },
      },
    },
  },
}
