-- Jira Cloud: every new or changed issue that a JQL filter finds.
--
-- JQL reads a written date in the time zone of whoever asks and only to the minute, so the time is given as milliseconds
-- since 1970. That JQL takes those is known from practice and not from Atlassian's documentation: hence experimental. The search
-- is eventually consistent.
-- Sources: developer.atlassian.com, Jira Cloud REST API v3, "Search for issues using JQL enhanced search"; "Webhooks".
return {
  name = "jira",
  title = "Jira",
  version = "1.0.0",
  experimental = true,

  connection = {
    fields = {
      { name = "site_url", label = "Site URL", hint = "https://YOUR-SITE.atlassian.net" },
      { name = "email", label = "Account", hint = "the e-mail address of the account that the token belongs to" },
      { name = "api_token", label = "API token", secret = true },
    },
  },

  webhook = { scheme = "atlassian", delivery_id = { header = "X-Atlassian-Webhook-Identifier" } },

  -- jira:issue_updated, comment_created and the rest.
  webhook_keys = function(request)
    return { request.json.issue.fields.project.key:upper() }
  end,

  help = function(webhook_base_url)
    return "In Jira, Settings > System > Webhooks: add " .. webhook_base_url
      .. " for issues and comments with a secret: set the same one as the connection's webhook secret."
  end,

  triggers = {
    updated_issue = {
      title = "New or updated issue",
      visibility_lag_seconds = 10, -- a webhook comes before the search knows of it
      input_fields = {
        { name = "project", hint = "its key, such as OPS" },
        { name = "fields", optional = true, default = "*all", hint = "comma-separated; with updated among them" },
        { name = "since", label = "From", type = "date_time", optional = true, hint = "one hour ago unless set" },
      },
      webhook_key = function(input)
        return input.project:upper() -- JQL takes both
      end,

      incremental = {
        base_url = "{connection.site_url}",
        path = "/rest/api/3/search/jql",
        auth = { basic = { user = "{connection.email}", password = "{connection.api_token}" } },
        query = {
          jql = 'project = "{input.project}" AND updated >= {cursor} ORDER BY updated ASC, key ASC',
          fields = "{input.fields|*all}",
        },
        records = "issues",
        cursor = {
          field = "fields.updated",
          type = "strftime",
          pattern = "%Y-%m-%dT%H:%M:%S.%f%z",
          format = "unix_milliseconds",
          order = "asc",
          lookback_seconds = 120,
        },
        since = "{input.since}",
        default_since_seconds_ago = 3600,
        pagination = { token = { from = "nextPageToken", parameter = "nextPageToken" } },
        page_size = { parameter = "maxResults", value = 100 },
        dedup = { id = "id", version = "fields.updated" },
      },
    },
  },
}
