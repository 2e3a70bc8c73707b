-- GitLab: every new or changed issue or merge request of a project.
-- Sources: https://docs.gitlab.com/api/issues/#list-project-issues and
-- https://docs.gitlab.com/api/merge_requests/#list-project-merge-requests (scope, order_by, sort, updated_after: on or after),
-- https://docs.gitlab.com/api/rest/#pagination (Link, per_page at most 100; the links rather than URLs of one's own),
-- https://docs.gitlab.com/api/project_webhooks/,
-- https://docs.gitlab.com/user/project/integrations/webhooks/ (X-Gitlab-Token, X-Gitlab-Event, Idempotency-Key).
local input_fields = {
  { name = "project", hint = "its number, or its path such as group/project" },
  { name = "resource", optional = true, default = "issues", hint = "issues or merge_requests" },
  { name = "since", label = "From", type = "date_time", optional = true, hint = "one hour ago unless set" },
}

local records = {
  base_url = "{connection.base_url|https://gitlab.com}",
  path = "/api/v4/projects/{input.project}/{input.resource}",
  headers = { ["PRIVATE-TOKEN"] = "{connection.token}" },
  query = { scope = "all", order_by = "updated_at", sort = "asc" },
  cursor = {
    field = "updated_at",
    parameter = "updated_after", -- on or after
    type = "rfc3339",
    order = "asc",
    lookback_seconds = 30,
  },
  since = "{input.since}",
  default_since_seconds_ago = 3600,
  pagination = { link = true },
  page_size = { parameter = "per_page", value = 100 },
  dedup = { id = "id", version = "updated_at" },
}

return {
  name = "gitlab",
  title = "GitLab",
  version = "1.0.0",

  connection = {
    fields = {
      { name = "token", label = "Access token", secret = true, hint = "a project access token with scope read_api is enough" },
      { name = "base_url", label = "GitLab URL", optional = true, default = "https://gitlab.com", hint = "of your own instance" },
    },
  },

  -- The key stays the same when a delivery is repeated.
  webhook = { scheme = "gitlab", delivery_id = { header = "Idempotency-Key" } },

  -- issue, merge_request, note and the rest; a note changes what it is written to.
  webhook_keys = function(request)
    return { tostring(request.json.project.id), request.json.project.path_with_namespace:lower() }
  end,

  help = function(webhook_base_url)
    return "In GitLab, the project's Settings > Webhooks: add " .. webhook_base_url
      .. " with issues, merge requests and comments, and a secret token: set the same one as the connection's webhook secret."
  end,

  triggers = {
    updated_record = {
      title = "New or updated issue or merge request",
      input_fields = input_fields,
      webhook_key = function(input)
        return tostring(input.project):lower()
      end,
      incremental = records,
    },

    -- The same, where the token may manage webhooks (scope api): Sluice makes the webhook, and removes it.
    watched_record = {
      title = "New or updated issue or merge request (with a webhook made by Sluice)",
      input_fields = input_fields,
      incremental = records,
      subscription = {
        base_url = "{connection.base_url|https://gitlab.com}",
        headers = { ["PRIVATE-TOKEN"] = "{connection.token}" },
        create = {
          path = "/api/v4/projects/{input.project}/hooks",
          body = {
            url = "{webhook.url}", token = "{webhook.secret}", push_events = false,
            issues_events = true, confidential_issues_events = true, merge_requests_events = true,
            note_events = true, confidential_note_events = true,
          },
        },
        list = {
          path = "/api/v4/projects/{input.project}/hooks", query = { per_page = "100" }, url = "url",
          -- GitLab disables webhooks that fail; older servers do not say so.
          active = { path = "alert_status", is = "executable", optional = true },
        },
        delete = { path = "/api/v4/projects/{input.project}/hooks/{output.id}" },
      },
    },
  },
}
