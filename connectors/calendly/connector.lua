-- Calendly: every scheduled event of an organization, when it is booked and whenever it changes (cancelled, rescheduled).
--
-- The list knows no order by change, so the events from a day on are read in full each time, and dedup keeps what was seen.
-- Sources: developer.calendly.com, API reference, "List events" (organization, min_start_time, page_token), "Webhook signatures",
-- "Webhook payload".
return {
  name = "calendly",
  title = "Calendly",
  version = "1.0.0",

  connection = {
    fields = {
      { name = "token", label = "Personal access token", secret = true, hint = "of an owner or admin of the organization" },
      { name = "organization", label = "Organization URI", hint = "https://api.calendly.com/organizations/AAAA…" },
      { name = "base_url", label = "API URL", optional = true, default = "https://api.calendly.com", hint = "only for a stand-in" },
    },
  },

  webhook = { scheme = "calendly" },

  -- invitee.created and invitee.canceled are about an event of the organization.
  webhook_keys = function(request)
    return { request.json.event:match("^[^.]+") }
  end,

  help = function(webhook_base_url)
    return "Calendly takes webhooks by its API only: POST https://api.calendly.com/webhook_subscriptions with url = " .. webhook_base_url
      .. ", events = invitee.created and invitee.canceled, scope = organization, and a signing_key:"
      .. " set the same one as the connection's webhook secret."
  end,

  triggers = {
    updated_event = {
      title = "New or changed event",
      input_fields = {
        { name = "from", type = "date_time", hint = "events that begin at or after this, such as 2026-01-01T00:00:00Z" },
      },
      webhook_key = function(input)
        return "invitee"
      end,

      incremental = {
        base_url = "{connection.base_url|https://api.calendly.com}",
        path = "/scheduled_events",
        auth = { bearer = "{connection.token}" },
        query = { organization = "{connection.organization}", min_start_time = "{input.from}", sort = "start_time:asc" },
        records = "collection",
        pagination = { token = { from = "pagination.next_page_token", parameter = "page_token" } },
        page_size = { parameter = "count", value = 100 },
        dedup = { id = "uri", version = "updated_at" },
      },
    },
  },
}
