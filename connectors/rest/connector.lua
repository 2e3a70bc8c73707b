-- Any JSON API that lists records, read in full at each poll: each record once, and again whenever one of its version fields changes,
-- or, where it has none, anything in it.
--
-- For lists of up to some thousand records; where the API can filter by time, a connector of its own asks for less
-- (docs/CONNECTORS.md: ten minutes). Pages are followed by the Link header or by a URL inside the answer, on the same host.
-- Source: RFC 8288 (Link); everything else is given by the input.
local function at(value, path)
  for key in path:gmatch("[^.]+") do
    if value == nil or value == json_null then return nil end
    value = value[key]
  end
  if value == json_null then return nil end
  return value
end

-- The first of these fields that says anything.
local function first(record, names)
  for name in names:gmatch("%S+") do
    local value = record[name]
    if value ~= nil and value ~= json_null then return value, name end
  end
end

-- Text of a text or a number.
local function plain(value)
  local text = tostring(value)
  if type(value) == "string" or not text:find("^[%[{]") then return text end
end

local function link(response)
  for target, relation in (response.headers.link or ""):gmatch('<([^>]*)>[^,]-rel="?([^",;]+)"?') do
    if relation == "next" then return target end
  end
end

local function origin(url)
  return url:match("^https?://[^/?#]+")
end

local function poll(connection, input, closure)
  local url = closure and closure.url or connection.base_url .. input.path
  local headers = {}
  if connection.header_name then headers[connection.header_name] = connection.header_value end
  local response = get(url, { headers = headers })
  if response.status ~= 200 then
    poll_failure(closure and closure.url and "page_state_expired" or "permanent", "the API answered status " .. response.status)
  end
  local records = response.json
  if input.records then records = at(records, input.records) end
  if records == nil then poll_failure("permanent", "the answer has no list at `" .. (input.records or "its root") .. "`") end

  local following = input.next and at(response.json, input.next) or link(response)
  if following and following:sub(1, 1) == "/" then following = origin(url) .. following end
  if following and origin(following) ~= origin(url) then
    poll_failure("permanent", "the next page lies on another host, and credentials are not sent there")
  end
  local pages = (closure and closure.pages or 0) + 1
  if pages >= 1000 then poll_failure("permanent", "more than 1,000 pages: this list is too long to be read in full") end
  local events = {}
  for _, record in ipairs(records) do
    events[#events + 1] = record
  end
  return { events = events, can_poll_more = following ~= nil, next_poll = following and { url = following, pages = pages } or nil }
end

return {
  name = "rest",
  title = "REST (any JSON list)",
  version = "1.0.0",
  connection = {
    fields = {
      { name = "base_url", label = "API URL", hint = "https://api.example.com, without a slash at the end" },
      { name = "header_name", label = "Credential header", optional = true, hint = "such as Authorization or X-API-Key" },
      { name = "header_value", label = "Its value", optional = true, secret = true, hint = "such as Bearer TOKEN" },
    },
  },
  triggers = {
    updated_record = {
      title = "New or changed record",
      input_fields = {
        { name = "path", hint = "with its query, such as /v1/orders?status=open" },
        { name = "records", optional = true, hint = "where the list stands, such as data.items; the answer itself unless set" },
        { name = "next", optional = true, hint = "where the next page's URL stands; the Link header unless set" },
      },
      poll = poll,
      dedup = function(record)
        local id, name = first(record, "id uuid uri _id")
        if id == nil then error("the record has no id, uuid, uri or _id: this API needs a connector of its own") end
        local identity = plain(id)
        if identity == nil then error(name .. " is neither text nor a number: this API needs a connector of its own") end
        -- All that there are: one of them may never move.
        local versions = {}
        for name in ("updated_at updatedAt modified last_modified version updated"):gmatch("%S+") do
          local value = record[name]
          local version = value ~= nil and value ~= json_null and plain(value) or nil
          if version then versions[#versions + 1] = version end
        end
        -- Without a version, whatever changes in the record makes it new.
        return identity .. "@" .. (versions[1] and table.concat(versions, "@") or hmac_sha256_hex("rest", tostring(record)))
      end,
      -- What the poll reads, for `sluice connector simulate`.
      simulate = {
        input = { path = "/items", records = "items", next = "next" },
        records = "items",
        pagination = { next_url = { from = "next" } },
        dedup = { id = "id", version = "updated_at" },
      },
    },
  },
}
