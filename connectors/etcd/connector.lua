-- Changes of keys in etcd, over the JSON gateway of its v3 API: https://etcd.io/docs/v3.5/dev-guide/api_grpc_gateway/
--
-- A poll reads the keys as they are, once; from then on a watch goes on from the last revision. A record is a key-value as etcd
-- writes it: keys and values in base64, revisions as strings. A deleted key has neither `value` nor `create_revision`.
local PAGE = 500
-- How long a watch may say nothing before it is opened anew.
local SILENCE = 300

-- The end of the range of all keys that begin with a prefix; "\0" means all keys.
local function range_end(prefix)
  for position = #prefix, 1, -1 do
    local byte = prefix:byte(position)
    if byte < 255 then return prefix:sub(1, position - 1) .. string.char(byte + 1) end
  end
  return "\0"
end

local function range(input)
  local prefix = input.prefix or ""
  return base64_encode(prefix == "" and "\0" or prefix), base64_encode(range_end(prefix))
end

local function call(connection, path, body, options)
  options = options or {}
  options.json = body
  if connection.token then options.headers = { Authorization = connection.token } end
  local response = post(connection.base_url .. path, options)
  if response.status == 400 and response.body:find("compacted", 1, true) then
    poll_failure("page_state_expired", "etcd was compacted while its keys were read: they are read again")
  end
  if response.status ~= 200 then
    poll_failure("permanent", "etcd answered status " .. response.status .. ": " .. response.body:sub(1, 200))
  end
  return response.json
end

-- Reads the keys changed after a revision, as they are now, in the order of their changes. `reading` is where it stands: the
-- revision at which it reads, and the last one read. No two keys of one page end between the keys of one transaction: the
-- revision is asked for again inclusively, and dedup drops what was there.
local function read(connection, input, reading, warnings)
  local key, stop = range(input)
  local answer = call(connection, "/v3/kv/range", {
    key = key, range_end = stop, limit = tostring(reading.limit or PAGE), revision = reading.at,
    min_mod_revision = reading.from, sort_target = "MOD", sort_order = "ASCEND",
  })
  local at, kvs = reading.at or answer.header.revision, answer.kvs or {}
  local last = #kvs > 0 and kvs[#kvs].mod_revision
  if not answer.more then
    return {
      events = kvs, next_poll = { revision = at, cluster = answer.header.cluster_id }, can_poll_more = false, warnings = warnings,
    }
  end
  -- One transaction larger than a page: a larger page.
  local limit = last == reading.from and math.min((reading.limit or PAGE) * 2, 10000) or nil
  return {
    events = kvs, can_poll_more = true, warnings = warnings,
    next_poll = { revision = reading.revision, reading = { revision = reading.revision, at = at, from = last, limit = limit } },
  }
end

local function after(revision) return string.format("%d", math.tointeger(tonumber(revision)) + 1) end

local function poll(connection, input, closure)
  if closure and closure.reading then return read(connection, input, closure.reading) end
  if not (closure and closure.revision) then return read(connection, input, {}) end
  -- The watch goes on from the revision: etcd keeps what happened since, or says that it does not. A revision that was never
  -- reached it would wait for in silence, and one of another cluster means nothing here.
  local key, stop = range(input)
  local header = call(connection, "/v3/kv/range", { key = key, range_end = stop, limit = "1", keys_only = true }).header
  local now, cluster = header.revision, header.cluster_id
  if tonumber(now) >= tonumber(closure.revision) and (closure.cluster or cluster) == cluster then
    return { events = {}, next_poll = { revision = closure.revision, cluster = cluster }, can_poll_more = false }
  end
  return read(connection, input, {}, {
    "gap: etcd is at revision " .. now .. " and the cursor stood at " .. closure.revision
      .. ": it was restored or begun anew; all keys are read",
  })
end

local function long_poll(connection, input, closure)
  if closure.reading then return read(connection, input, closure.reading) end
  local key, stop = range(input)
  local lines = call(connection, "/v3/watch", {
    create_request = { key = key, range_end = stop, start_revision = after(closure.revision), progress_notify = true },
  }, { stream = true, timeout_seconds = SILENCE })

  local events, revision = {}, closure.revision
  for _, line in ipairs(lines) do
    if line.error then poll_failure("transient", "the watch ended: " .. tostring(line.error.message)) end
    local result = line.result
    if result.canceled then
      if not result.compact_revision then poll_failure("transient", "etcd canceled the watch: " .. tostring(result.cancel_reason)) end
      if #events > 0 then break end -- the next call meets it again
      return read(connection, input, { revision = revision, from = after(revision) }, {
        "gap: etcd was compacted up to revision " .. result.compact_revision .. " while the cursor stood at " .. revision ..
          ": keys are read as they are now; values between, and keys that were deleted, are not to be had any more",
      })
    end
    for _, event in ipairs(result.events or {}) do
      events[#events + 1] = event.kv
      -- The header of an answer that catches up holds the newest revision, not that of its events.
      revision = event.kv.mod_revision
    end
    if not result.events and not result.created then revision = result.header.revision end
  end
  return { events = events, next_poll = { revision = revision, cluster = closure.cluster }, can_poll_more = false }
end

return {
  name = "etcd",
  title = "etcd",
  version = "1.0.0",
  connection = {
    fields = {
      { name = "base_url", label = "Address", hint = "http://127.0.0.1:2379" },
      { name = "token", label = "Token", secret = true, optional = true, hint = "where authentication is on" },
    },
  },
  help = function(webhook_base_url)
    return "etcd sends no webhooks: Sluice holds a watch open."
  end,
  triggers = {
    changed_key = {
      title = "Changed key",
      input_fields = { { name = "prefix", optional = true, hint = "keys that begin with this; all unless set" } },
      simulate = {
        dialect = "etcd", records = "kvs",
        cursor = { field = "mod_revision", parameter = "min_mod_revision", type = "integer", order = "asc" },
        pagination = { token = { from = "more", parameter = "revision" } }, dedup = { id = "key", version = "version" },
      },
      sample_output = { key = "Zm9v", create_revision = "2", mod_revision = "3", version = "2", value = "YmFy" },
      poll = poll,
      long_poll = long_poll,
      dedup = function(record)
        return record.key .. "@" .. record.mod_revision
      end,
    },
  },
}
