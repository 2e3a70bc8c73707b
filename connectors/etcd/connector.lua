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

local function send(connection, path, body, options)
  options = options or {}
  options.json = body
  if connection.token then options.headers = { Authorization = connection.token } end
  return post(connection.base_url .. path, options)
end

local function says(response, text) return response.status == 400 and response.body:find(text, 1, true) ~= nil end

local function call(connection, path, body, options)
  local response = send(connection, path, body, options)
  if says(response, "compacted") then
    poll_failure("page_state_expired", "etcd was compacted while its keys were read: they are read again")
  end
  if response.status ~= 200 then
    poll_failure("permanent", "etcd answered status " .. response.status .. ": " .. response.body:sub(1, 200))
  end
  return response.json
end

-- Revisions count within one life of a cluster: `life` stands in the cursor and is a part of the dedup keys, so that revision 2 of
-- one life never swallows revision 2 of another. A cluster that is made anew of the same configuration has the same cluster_id: the
-- lives are numbered as well.
local function epoch(life) return life.cluster .. "." .. life.number end

-- What must stand at the cursor's revision for as long as the life goes on: the last key that changed, and when. A key that was
-- deleted has no revision there.
local function anchor(kv) return { key = kv.key, revision = kv.create_revision and kv.mod_revision or nil } end

-- Whether the etcd at hand is the one that the cursor was read from; if not, what tells it.
local function has_begun_anew(connection, input, closure)
  local last = closure.last
  local body = { key = last and last.key or range(input), revision = closure.revision, limit = "1", keys_only = true }
  local response = send(connection, "/v3/kv/range", body)
  if says(response, "future revision") then return "it has not reached revision " .. closure.revision .. ", where the cursor stood" end
  if says(response, "compacted") then
    last, body.revision = nil, nil
    response = send(connection, "/v3/kv/range", body)
  end
  if response.status ~= 200 then
    poll_failure("permanent", "etcd answered status " .. response.status .. ": " .. response.body:sub(1, 200))
  end
  local header = response.json.header
  if header.cluster_id ~= closure.life.cluster then return "its cluster_id is another" end
  if tonumber(header.revision) < tonumber(closure.revision) then
    return "it is at revision " .. header.revision .. " and the cursor stood at " .. closure.revision
  end
  local kv = last and (response.json.kvs or {})[1]
  if last and (kv and kv.mod_revision) ~= last.revision then return "at revision " .. closure.revision .. " it holds something else" end
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
  local life = reading.life or { cluster = answer.header.cluster_id, number = reading.number or 0 }
  local last = #kvs > 0 and kvs[#kvs].mod_revision
  if not answer.more then
    return {
      events = kvs, can_poll_more = false, epoch = epoch(life), warnings = warnings,
      next_poll = { revision = at, life = life, last = last and anchor(kvs[#kvs]) or nil },
    }
  end
  -- One transaction larger than a page: a larger page.
  local limit = last == reading.from and math.min((reading.limit or PAGE) * 2, 10000) or nil
  return {
    events = kvs, can_poll_more = true, epoch = epoch(life), warnings = warnings,
    next_poll = {
      revision = reading.revision, reading = { revision = reading.revision, at = at, from = last, limit = limit, life = life },
    },
  }
end

local function after(revision) return string.format("%d", math.tointeger(tonumber(revision)) + 1) end

local function poll(connection, input, closure)
  if closure and closure.reading then return read(connection, input, closure.reading) end
  if not (closure and closure.life) then return read(connection, input, {}) end
  -- The watch goes on from the revision: etcd keeps what happened since, or says that it does not. A revision that was never
  -- reached it would wait for in silence, and those of another life it would pass off as what comes next.
  local sign = has_begun_anew(connection, input, closure)
  if not sign then return { events = {}, next_poll = closure, can_poll_more = false } end
  return read(connection, input, { number = closure.life.number + 1 }, {
    "gap: etcd was restored or begun anew: " .. sign .. ". All keys are read; changes between are not to be had any more",
  })
end

local function long_poll(connection, input, closure)
  if closure.reading then return read(connection, input, closure.reading) end
  local key, stop = range(input)
  local lines = call(connection, "/v3/watch", {
    create_request = { key = key, range_end = stop, start_revision = after(closure.revision), progress_notify = true },
  }, { stream = true, timeout_seconds = SILENCE })

  local events, revision, last = {}, closure.revision, closure.last
  for _, line in ipairs(lines) do
    if line.error then poll_failure("transient", "the watch ended: " .. tostring(line.error.message)) end
    local result = line.result
    local header = result.header
    if header.cluster_id ~= closure.life.cluster or result.created and tonumber(header.revision) < tonumber(revision) then
      poll_failure("transient", "the watch was opened at an etcd that was restored or begun anew: a poll looks what it holds")
    end
    if result.canceled then
      if not result.compact_revision then poll_failure("transient", "etcd canceled the watch: " .. tostring(result.cancel_reason)) end
      if #events > 0 then break end -- the next call meets it again
      return read(connection, input, { revision = revision, from = after(revision), life = closure.life }, {
        "gap: etcd was compacted up to revision " .. result.compact_revision .. " while the cursor stood at " .. revision ..
          ": keys are read as they are now; values between, and keys that were deleted, are not to be had any more",
      })
    end
    for _, event in ipairs(result.events or {}) do
      events[#events + 1] = event.kv
      -- The header of an answer that catches up holds the newest revision, not that of its events.
      revision, last = event.kv.mod_revision, anchor(event.kv)
    end
    if not result.events and not result.created then revision = header.revision end
  end
  return {
    events = events, can_poll_more = false, epoch = epoch(closure.life),
    next_poll = { revision = revision, life = closure.life, last = last },
  }
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
