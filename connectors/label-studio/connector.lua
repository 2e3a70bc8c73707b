-- Label Studio: every new or changed task of a project.
--
-- Its webhooks are sent once and are not signed, but carry headers that one sets: a secret header makes them trusted.
-- Sources: labelstud.io, API reference, "List tasks" (query: filters and ordering of the data manager), "Webhooks".
return {
  name = "label-studio",
  title = "Label Studio",
  version = "1.0.0",

  connection = {
    fields = {
      { name = "server_url", label = "Server URL", hint = "https://labels.example.com" },
      { name = "token", label = "Access token", secret = true, hint = "a legacy token of a user who may see the project" },
    },
  },

  webhook = { scheme = "header-token" },

  -- TASKS_CREATED, ANNOTATION_UPDATED and the rest.
  webhook_keys = function(request)
    return { tostring(request.json.project.id) }
  end,

  help = function(webhook_base_url)
    return "In Label Studio, the project's Settings > Webhooks: add " .. webhook_base_url
      .. " with payloads for all actions and a header of your choice with a long random value: set header and value as the"
      .. " connection's webhook header and secret."
  end,

  triggers = {
    updated_task = {
      title = "New or updated task",
      input_fields = {
        { name = "project", type = "integer", hint = "its number" },
        { name = "since", label = "From", type = "date_time", optional = true, hint = "one hour ago unless set" },
      },
      webhook_key = function(input)
        return tostring(input.project)
      end,

      incremental = {
        base_url = "{connection.server_url}",
        path = "/api/tasks",
        headers = { Authorization = "Token {connection.token}" },
        query = {
          project = "{input.project}",
          fields = "all",
          query = '{{"filters":{{"conjunction":"and","items":[{{"filter":"filter:tasks:updated_at","operator":"greater_or_equal",'
            .. '"type":"Datetime","value":"{cursor}"}}]}},"ordering":["tasks:updated_at"]}}',
        },
        records = "tasks",
        cursor = {
          field = "updated_at",
          type = "rfc3339",
          format = "%Y-%m-%dT%H:%M:%S.%fZ", -- without a fraction it answers status 500
          order = "asc",
          lookback_seconds = 60,
        },
        since = "{input.since}",
        default_since_seconds_ago = 3600,
        pagination = { page = { parameter = "page", ends_with = "short_page" } },
        page_size = { parameter = "page_size", value = 100 },
        dedup = { id = "id", version = "updated_at" },
      },
    },
  },
}
