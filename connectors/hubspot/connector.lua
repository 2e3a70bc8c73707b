-- HubSpot: every new or changed object of one type (contacts, companies, deals, tickets).
--
-- The search gives at most 10,000 results for one question, so Sluice asks anew from the last time instead of paging on; and
-- what has just changed may be missing from it for some moments.
-- Sources: developers.hubspot.com, "CRM search" (filterGroups, sorts, after, limits), "Validating requests" (version 3),
-- "Webhooks" (subscriptionType, eventId).
local contacts = "lastmodifieddate"
-- What generic webhooks (object.creation and so on) call the types.
local types = { ["0-1"] = "contact", ["0-2"] = "company", ["0-3"] = "deal", ["0-5"] = "ticket" }

return {
  name = "hubspot",
  title = "HubSpot",
  version = "1.0.0",

  connection = {
    fields = {
      { name = "token", label = "Private app token", secret = true, hint = "with read access to the objects" },
      { name = "base_url", label = "API URL", optional = true, default = "https://api.hubapi.com", hint = "only for a stand-in" },
    },
  },

  webhook = { scheme = "hubspot-v3" },

  -- One webhook holds many events: contact.propertyChange, deal.creation, or object.creation with an objectTypeId.
  webhook_keys = function(request)
    local keys, seen = {}, {}
    for _, event in ipairs(request.json) do
      local key = event.subscriptionType:match("^[^.]+")
      if key == "object" then key = types[event.objectTypeId] or event.objectTypeId or key end
      if not seen[key] then
        seen[key] = true
        keys[#keys + 1] = key
      end
    end
    return keys
  end,

  help = function(webhook_base_url)
    return "In your HubSpot app, Webhooks: set the target URL to " .. webhook_base_url
      .. ", subscribe to the object's creation and property changes, and set the app's client secret as the connection's webhook secret."
  end,

  triggers = {
    updated_object = {
      title = "New or updated object",
      visibility_lag_seconds = 60, -- the search knows of a change some moments after its webhook
      input_fields = {
        { name = "object", optional = true, default = "contacts", hint = "contacts, companies, deals or tickets" },
        { name = "properties", type = "array", optional = true, hint = "such as [\"email\"]; a few that HubSpot chooses unless set" },
        { name = "since", label = "From", type = "date_time", optional = true, hint = "one hour ago unless set" },
      },
      webhook_key = function(input)
        return ({ contacts = "contact", companies = "company", deals = "deal", tickets = "ticket" })[input.object] or input.object
      end,

      incremental = {
        method = "POST",
        base_url = "{connection.base_url|https://api.hubapi.com}",
        path = "/crm/v3/objects/{input.object}/search",
        auth = { bearer = "{connection.token}" },
        body = { json = {
          filterGroups = { { filters = { { propertyName = "hs_lastmodifieddate", operator = "GTE", value = "{cursor:text}" } } } },
          sorts = { { propertyName = "hs_lastmodifieddate", direction = "ASCENDING" } },
          properties = "{input.properties}",
          limit = 100,
        } },
        records = "results",
        cursor = { field = "updatedAt", type = "rfc3339", format = "unix_milliseconds", order = "asc", lookback_seconds = 120 },
        since = "{input.since}",
        default_since_seconds_ago = 3600,
        pagination = { token = { from = "paging.next.after", parameter = "after", ["in"] = "body", restart_from_mark = true } },
        dedup = { id = "id", version = "updatedAt" },
        variants = {
          by = "{input.object}",
          contacts = { body = { json = {
            filterGroups = { { filters = { { propertyName = contacts, operator = "GTE", value = "{cursor:text}" } } } },
            sorts = { { propertyName = contacts, direction = "ASCENDING" } },
            properties = "{input.properties}",
            limit = 100,
          } } },
          companies = {}, deals = {}, tickets = {},
        },
      },
    },
  },
}
