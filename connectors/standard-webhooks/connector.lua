-- Any sender that signs its webhooks as Standard Webhooks says (Svix, and many others): each webhook becomes a job.
--
-- There is nothing to poll, so what was never received stays unknown; a webhook that came twice is one job, by its id. A connection
-- may set another scheme (`sluice verify --list`) for senders that sign in another way.
-- Sources: github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md.
return {
  name = "standard-webhooks",
  title = "Standard Webhooks (any sender)",
  version = "1.0.0",

  connection = { fields = {} },

  webhook = { scheme = "standard-webhooks", delivery_id = { header = "webhook-id" } },

  -- The type as it is, and its first word: invoice.paid wakes triggers on "invoice.paid", on "invoice" and on everything.
  webhook_keys = function(request)
    local type = request.json.type or ""
    return { "*", type, type:match("^[^.]*") }
  end,

  help = function(webhook_base_url)
    return "At the sender, add an endpoint for " .. webhook_base_url
      .. " and set its signing secret (whsec_…) as the connection's webhook secret."
  end,

  triggers = {
    new_webhook = {
      title = "New webhook",
      input_fields = {
        { name = "type", optional = true, default = "*", hint = "such as invoice.paid, or invoice for all that begin so; everything unless set" },
      },
      webhook_key = function(input)
        return input.type
      end,
      webhook_notification = function(request, input, output)
        return { request.json }
      end,
    },
  },
}
