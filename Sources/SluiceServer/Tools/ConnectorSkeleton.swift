import SluiceCore

/// A new connector that works from the start: it loads, passes `check`, and can be tried on the answer beside it.
public enum ConnectorSkeleton: String, Sendable, CaseIterable {
    case incremental, lambdas, webhook

    /// Writes NAME/connector.lua and its fixtures. Throws `.invalid` for a name that connectors cannot have, `.conflict` where
    /// there is one already. Returns the files, the connector first.
    public func write(name: String, directory: String) throws -> [String] {
        let isName =
            !name.isEmpty && name.utf8.count <= 64 && !name.hasPrefix("-") && !name.hasSuffix("-")
            && name.utf8.allSatisfy { (0x61...0x7A).contains($0) || (0x30...0x39).contains($0) || $0 == UInt8(ascii: "-") }
        guard isName else {
            throw SluiceError(.invalid, "`\(name)` cannot be a connector's name: kebab-case, at most 64 characters, for example acme-desk")
        }
        let base = directory.hasSuffix("/") ? String(directory.dropLast()) : directory
        let folder = "\(base)/\(name)"
        guard !SmallFile.exists(folder) else {
            throw SluiceError(.conflict, "\(folder) exists already: nothing was written").with("file", folder)
        }
        let files = [("connector.lua", source(name))] + (isPolling ? fixtures(name) : [])
        try SmallFile.makeDirectory(folder)
        var paths: [String] = []
        for (file, text) in files {
            let path = "\(folder)/\(file)"
            if let slash = path.lastIndex(of: "/") { try SmallFile.makeDirectory(String(path[..<slash])) }
            try SmallFile.writePrivate(path, Array(text.utf8), isNew: true)
            paths.append(path)
        }
        return paths
    }

    /// Whether it reads a list: then it can be tried and simulated.
    public var isPolling: Bool { self != .webhook }

    func source(_ name: String) -> String {
        let template =
            switch self {
            case .incremental: ConnectorSkeleton.incrementalSource
            case .lambdas: ConnectorSkeleton.lambdasSource
            case .webhook: ConnectorSkeleton.webhookSource
            }
        return template.split(separator: "NAME", omittingEmptySubsequences: false).joined(separator: name)
    }

    private func fixtures(_ name: String) -> [(String, String)] {
        let trial = """
            {"type":"updated_item","connection":{"site_url":"https://api.example.com"},"input":{},"cursor":null,"now":1767261600000}

            """
        let date = "[\"Date\", \"Thu, 01 Jan 2026 10:00:00 GMT\"]"
        func exchange(_ query: String, _ items: String) -> String {
            """
            {
              "request": { "method": "GET", "url": "https://api.example.com/v1/items?\(query)" },
              "response": {
                "status": 200,
                "headers": [\(date), ["Content-Type", "application/json"]],
                "json": {
                  "items": [\(items)],
                  "next": null
                }
              },
              "milliseconds": 12
            }

            """
        }
        let items = """

                    { "id": "i1", "updated_at": "2026-01-01T09:58:00Z", "title": "One" },
                    { "id": "i2", "updated_at": "2026-01-01T09:58:00Z", "title": "Two" }
                  \("")
            """
        let exchanges =
            self == .lambdas
            ? [
                exchange("per_page=100&sort=updated_at&updated_since=2100-01-01T00%3A00%3A00Z", ""),
                exchange("per_page=100&sort=updated_at&updated_since=2026-01-01T08%3A59%3A00Z", items),
            ] : [exchange("sort=updated_at&per_page=100&updated_since=2026-01-01T08%3A58%3A55Z", items)]
        return [("fixtures/trial.json", trial)] + exchanges.enumerated().map { ("fixtures/000\($0.offset + 1).json", $0.element) }
    }

    private static let head = """
        -- NAME: what it reads, and what its API promises (say where that is written).
        return {
          name = "NAME", -- the same as its folder
          title = "NAME",
          version = "0.1.0",

          connection = {
            fields = {
              { name = "site_url", label = "Site URL", hint = "https://api.example.com" },
              { name = "api_key", label = "API key", secret = true, hint = "a read-only key is enough" },
            },
          },

          -- How webhooks are verified (`sluice verify --list`), and what names a delivery: the same one twice is stored once.
          webhook = { scheme = "standard-webhooks", delivery_id = { header = "webhook-id" } },

          -- Which triggers a webhook wakes: those whose webhook_key is among these.
          webhook_keys = function(request)
            return { request.json.type:match("^[^.]+") } -- "item.updated" → "item"
          end,

          help = function(webhook_base_url)
            return "In the provider's settings for webhooks, add " .. webhook_base_url
              .. " and give its signing secret as the connection's webhook secret."
          end,

        """

    private static let incrementalSource =
        head + """

              triggers = {
                updated_item = {
                  title = "New or updated item",
                  input_fields = {
                    { name = "since", type = "date_time", optional = true, hint = "one hour ago unless set" },
                  },
                  webhook_key = function(input)
                    return "item"
                  end,

                  -- The poll as data: docs/CONNECTORS.md, "The keys of incremental". Sluice minds the traps.
                  incremental = {
                    base_url = "{connection.site_url}",
                    path = "/v1/items",
                    auth = { bearer = "{connection.api_key}" },
                    query = { sort = "updated_at" }, -- the oldest change first
                    records = "items",
                    cursor = {
                      field = "updated_at",
                      parameter = "updated_since", -- at or after; say exclusive = true if strictly after
                      type = "rfc3339",
                      order = "asc",
                      lookback_seconds = 60, -- how late a change may show up
                    },
                    since = "{input.since}",
                    default_since_seconds_ago = 3600,
                    pagination = { token = { from = "next", parameter = "after" } },
                    page_size = { parameter = "per_page", value = 100 },
                    dedup = { id = "id", version = "updated_at" },
                  },
                },
              },
            }

            """

    /// For a source that has no list to read: what its webhooks say becomes the jobs.
    private static let webhookSource = """
        -- NAME: what its webhooks say becomes jobs. Where the source has a list of the same, prefer to poll it: a webhook that is lost
        -- then costs nothing (`sluice connector new --from incremental`).
        return {
          name = "NAME", -- the same as its folder
          title = "NAME",
          version = "0.1.0",

          -- How webhooks are verified (`sluice verify --list`), and what names a delivery: the same one twice is one job.
          webhook = { scheme = "standard-webhooks", delivery_id = { header = "webhook-id" } },

          -- Which triggers a webhook is for: those whose webhook_key is among these.
          webhook_keys = function(request)
            return { request.json.type:match("^[^.]+") } -- "item.updated" → "item"
          end,

          help = function(webhook_base_url)
            return "In the provider's settings for webhooks, add " .. webhook_base_url
              .. " and give its signing secret as the connection's webhook secret."
          end,

          triggers = {
            item_event = {
              title = "Event of an item",
              webhook_key = function(input)
                return "item"
              end,
              -- The records of a webhook: one, or a list. Parts of request.json keep their bytes.
              webhook_notification = function(request)
                return request.json.data
              end,
            },
          },
        }

        """

    private static let lambdasSource = """
        local HOUR = 3600
        -- Seconds below the mark that are read again, for changes that show up late.
        local OVERLAP = 60

        -- The clock that counts is the provider's.
        local function server_now(response)
          return parse_http_date(response.headers.date or "") or poll_failure("transient", "the answer has no Date")
        end

        -- Whole seconds since 1970 of a time in UTC, rounded down, and back (days from the civil calendar).
        local function to_seconds(text)
          local y, m, d, h, min, s = tostring(text):match("^(%d+)-(%d+)-(%d+)T(%d+):(%d+):(%d+)[%d.]*Z$")
          if not y then
            return nil -- it does not move the mark
          end
          y, m, d = tonumber(y), tonumber(m), tonumber(d)
          if m <= 2 then
            y, m = y - 1, m + 12
          end
          local days = 365 * y + y // 4 - y // 100 + y // 400 + (153 * (m - 3) + 2) // 5 + d - 719469
          return ((days * 24 + tonumber(h)) * 60 + tonumber(min)) * 60 + tonumber(s)
        end

        local function to_text(seconds)
          local days, rest = seconds // 86400 + 719468, seconds % 86400
          local era = days // 146097
          local doe = days - era * 146097
          local yoe = (doe - doe // 1460 + doe // 36524 - doe // 146096) // 365
          local doy = doe - (365 * yoe + yoe // 4 - yoe // 100)
          local mp = (5 * doy + 2) // 153
          local day, month = doy - (153 * mp + 2) // 5 + 1, mp < 10 and mp + 3 or mp - 9
          local year = yoe + era * 400 + (month <= 2 and 1 or 0)
          return string.format("%04d-%02d-%02dT%02d:%02d:%02dZ", year, month, day, rest // 3600, rest // 60 % 60, rest % 60)
        end

        local function list(connection, after, token)
          local response = get(connection.site_url .. "/v1/items", {
            headers = { Authorization = "Bearer " .. connection.api_key },
            params = { updated_since = to_text(after), after = token, per_page = 100, sort = "updated_at" },
          })
          if response.status ~= 200 then
            -- 429, 401, 403, 408 and 5xx never come here: Sluice knows what they mean.
            poll_failure(token and "page_state_expired" or "permanent", "the provider answered status " .. response.status)
          end
          return response
        end

        local function poll(connection, input, closure)
          -- closure: nil at first, then what next_poll was. Nothing is as new as 2100: only the Date of that answer is wanted.
          closure = closure or { mark = server_now(list(connection, 4102444800)) - HOUR }
          local response = list(connection, closure.mark - OVERLAP, closure.token)
          local body, now = response.json, server_now(response)
          local cap = closure.cap or now -- a date in the future must not carry the mark past what is still to come

          local highest = closure.highest or closure.mark
          for _, item in ipairs(body.items) do
            highest = math.max(highest, math.min(to_seconds(item.updated_at) or 0, cap))
          end
          if body.next then
            -- The mark moves after the last page only: a token that expires begins this cycle again.
            return {
              events = body.items,
              can_poll_more = true,
              next_poll = { mark = closure.mark, highest = highest, cap = cap, token = body.next },
            }
          end
          return { events = body.items, can_poll_more = false, next_poll = { mark = highest } }
        end


        """ + head + """

              triggers = {
                updated_item = {
                  title = "New or updated item",
                  -- For Sluice: dedup keys outlive the overlap, in the cursor's unit.
                  lookback = OVERLAP,
                  visibility_lag_seconds = 10, -- how long after its webhook a change may stay invisible
                  webhook_key = function(input)
                    return "item"
                  end,
                  poll = poll,
                  dedup = function(record)
                    return record.id .. "@" .. record.updated_at
                  end,
                  -- For backfills: where the poll begins to read what was changed at a time or later, and when a record was changed.
                  cursor_at = function(time)
                    return { mark = time }
                  end,
                  record_time = function(record)
                    return record.updated_at
                  end,
                  version_seconds = 1, -- for so long updated_at stays the same, whatever else changes
                  -- What the poll reads, for `sluice connector simulate`: the words of incremental.
                  simulate = {
                    records = "items",
                    cursor = {
                      field = "updated_at", parameter = "updated_since", type = "rfc3339", granularity = 1000, order = "asc",
                      lookback_seconds = 59,
                    },
                    default_since_seconds_ago = 3600,
                    pagination = { token = { from = "next", parameter = "after" } },
                    page_size = { parameter = "per_page", value = 100 },
                    dedup = { id = "id", version = "updated_at" },
                  },
                },
              },
            }

            """
}
