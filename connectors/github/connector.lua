-- GitHub: every new or changed issue and pull request of a repository (to GitHub, a pull request is an issue too).
--
-- An issue that changes while it is read moves to the end of the list: Sluice goes on from the last time instead of by page, so
-- nothing slips through. Within one time it follows the Link header: beyond 10,000 issues `page` is refused (422), and the link
-- holds a cursor (`after`).
-- Sources: https://docs.github.com/en/rest/issues/issues#list-repository-issues (state, sort, direction, since, per_page at most 100),
-- https://docs.github.com/en/rest/using-the-rest-api/using-pagination-in-the-rest-api (Link),
-- https://docs.github.com/en/rest/about-the-rest-api/api-versions (X-GitHub-Api-Version),
-- https://docs.github.com/en/webhooks/webhook-events-and-payloads (repository.full_name, X-GitHub-Delivery); the refusal of `page`:
-- https://github.com/google/go-github/issues/3565.
local input_fields = {
  { name = "owner", hint = "the user or organization" },
  { name = "repository", hint = "without the owner" },
  { name = "labels", optional = true, hint = "comma-separated; only issues that have them all" },
  { name = "since", label = "From", type = "date_time", optional = true, hint = "one hour ago unless set" },
}

local issues = {
  base_url = "{connection.base_url|https://api.github.com}",
  path = "/repos/{input.owner}/{input.repository}/issues",
  auth = { bearer = "{connection.token}" },
  headers = { Accept = "application/vnd.github+json", ["X-GitHub-Api-Version"] = "2022-11-28" },
  query = { state = "all", sort = "updated", direction = "asc", labels = "{input.labels}" },
  cursor = {
    field = "updated_at",
    parameter = "since", -- "after the given time": whole seconds, and perhaps strictly
    type = "rfc3339",
    exclusive = true,
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
  name = "github",
  title = "GitHub",
  version = "1.0.0",

  connection = {
    fields = {
      { name = "token", label = "Access token", secret = true, hint = "fine-grained; read access to issues is enough" },
      {
        name = "base_url", label = "API URL", optional = true, default = "https://api.github.com",
        hint = "only for GitHub Enterprise Server: https://HOST/api/v3",
      },
    },
  },

  webhook = { scheme = "github", delivery_id = { header = "X-GitHub-Delivery" }, handshake = "github" },

  -- issues, issue_comment, pull_request, pull_request_review and the rest: each is about a repository, and may have changed an issue.
  webhook_keys = function(request)
    return { request.json.repository.full_name:lower() }
  end,

  help = function(webhook_base_url)
    return "In GitHub, the repository's Settings > Webhooks: add " .. webhook_base_url
      .. " with content type application/json, the events Issues, Issue comments, Pull requests and their reviews, and a secret:"
      .. " set the same one as the connection's webhook secret."
  end,

  triggers = {
    updated_issue = {
      title = "New or updated issue or pull request",
      input_fields = input_fields,
      webhook_key = function(input)
        return (input.owner .. "/" .. input.repository):lower()
      end,
      incremental = issues,
    },

    -- The same, where the token may manage webhooks: Sluice makes the webhook, and removes it.
    watched_issue = {
      title = "New or updated issue or pull request (with a webhook made by Sluice)",
      input_fields = input_fields,
      incremental = issues,
      subscription = {
        base_url = "{connection.base_url|https://api.github.com}",
        auth = { bearer = "{connection.token}" },
        create = {
          path = "/repos/{input.owner}/{input.repository}/hooks",
          body = {
            name = "web", active = true,
            events = {
              "issues", "issue_comment", "pull_request", "pull_request_review", "pull_request_review_comment", "pull_request_review_thread",
            },
            config = { url = "{webhook.url}", secret = "{webhook.secret}", content_type = "json", insecure_ssl = "0" },
          },
        },
        list = {
          path = "/repos/{input.owner}/{input.repository}/hooks", query = { per_page = "100" },
          url = "config.url", active = { path = "active", is = "true" },
        },
        delete = { path = "/repos/{input.owner}/{input.repository}/hooks/{output.id}" },
      },
    },
  },
}
