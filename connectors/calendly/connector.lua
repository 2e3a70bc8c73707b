-- Calendly: every scheduled event of an organization, when it is booked and whenever it changes (cancelled, rescheduled).
--
-- The list knows no order by change, so the events from a day on are read in full each time, and dedup keeps what was seen.
-- Sources: developer.calendly.com, API reference, "List events" (organization, min_start_time, page_token), "Webhook signatures",
-- "Create webhook subscription".
local input_fields = {
  { name = "from", type = "date_time", hint = "events that begin at or after this, such as 2026-01-01T00:00:00Z" },
}

local events = {
  base_url = "{connection.base_url|https://api.calendly.com}",
  path = "/scheduled_events",
  auth = { bearer = "{connection.token}" },
  query = { organization = "{connection.organization}", min_start_time = "{input.from}", sort = "start_time:asc" },
  records = "collection",
  pagination = { token = { from = "pagination.next_page_token", parameter = "page_token" } },
  page_size = { parameter = "count", value = 100 },
  dedup = { id = "uri", version = "updated_at" },
}

local function api(connection)
  return (connection.base_url or "https://api.calendly.com") .. "/webhook_subscriptions"
end

local function options(connection, more)
  more.headers = { Authorization = "Bearer " .. connection.token }
  return more
end

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
      input_fields = input_fields,
      webhook_key = function(input)
        return "invitee"
      end,
      incremental = events,
    },

    -- The same with a webhook made by Sluice (paid plans). Calendly names a subscription by its URI, so this is code.
    watched_event = {
      title = "New or changed event (with a webhook made by Sluice)",
      input_fields = input_fields,
      incremental = events,
      subscription_input = {},
      webhook_subscribe = function(webhook_url, connection, input, secret)
        local answer = post(api(connection), options(connection, { json = {
          url = webhook_url, events = { "invitee.created", "invitee.canceled" },
          organization = connection.organization, scope = "organization", signing_key = secret,
        } }))
        if answer.status ~= 201 then poll_failure("permanent", "Calendly answered status " .. answer.status) end
        return { output = { uri = answer.json.resource.uri }, secret = secret }
      end,
      webhook_check = function(webhook_url, connection, input, output)
        local status, found, base, own, token = "missing", {}, webhook_url:match("^.*/"), nil, nil
        for _ = 1, 50 do
          local answer = get(api(connection), options(connection, {
            params = { organization = connection.organization, scope = "organization", count = 100, page_token = token },
          }))
          if answer.status ~= 200 then return { status = "unknown" } end
          for _, item in ipairs(answer.json.collection) do
            if output and item.uri == output.uri or not output and not own and item.callback_url == webhook_url then
              own = { uri = item.uri }
              status = item.state ~= "active" and "disabled" or item.callback_url ~= webhook_url and "drifted" or "active"
            elseif item.callback_url:sub(1, #base) == base then
              found[#found + 1] = { id = item.uri, url = item.callback_url, output = { uri = item.uri } }
            end
          end
          token = (answer.json.pagination or {}).next_page_token
          if token == nil or token == json_null or token == "" then return { status = status, output = own, found = found } end
        end
        return { status = "unknown" }
      end,
      webhook_unsubscribe = function(webhook_url, connection, input, output)
        local uuid = output.uri:match("[^/]+$")
        local answer = delete(api(connection) .. "/" .. uuid, options(connection, {}))
        if answer.status ~= 204 and answer.status ~= 404 then
          poll_failure("permanent", "Calendly answered status " .. answer.status)
        end
      end,
    },
  },
}
