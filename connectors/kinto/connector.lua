-- Kinto: every new, changed or deleted record of a collection. A deletion comes as a tombstone, {"deleted": true}.
--
-- last_modified is unique within a collection and only ever grows, so nothing is lost strictly after it.
-- Sources: docs.kinto-storage.org, "Records" (filtering, sorting, pagination), "Server timestamps", "Backoff indicators".
return {
  name = "kinto",
  title = "Kinto",
  version = "1.0.0",

  connection = {
    fields = {
      { name = "server_url", label = "Server URL", hint = "https://kinto.example.com/v1" },
      { name = "user", label = "User" },
      { name = "password", label = "Password", secret = true },
    },
  },

  triggers = {
    changed_record = {
      title = "New, changed or deleted record",
      input_fields = {
        { name = "bucket", optional = true, default = "default" },
        { name = "collection" },
      },

      incremental = {
        base_url = "{connection.server_url}",
        path = "/buckets/{input.bucket}/collections/{input.collection}/records",
        auth = { basic = { user = "{connection.user}", password = "{connection.password}" } },
        query = { _sort = "last_modified" },
        records = "data",
        cursor = {
          field = "last_modified",
          parameter = "_since", -- strictly after
          type = "integer",
          exclusive = true,
          unique = true,
          order = "asc",
        },
        pagination = { next_url = { header = "Next-Page" } },
        page_size = { parameter = "_limit", value = 1000 },
        dedup = { id = "id", version = "last_modified" },
        tombstone = { field = "deleted" },
      },
    },
  },
}
