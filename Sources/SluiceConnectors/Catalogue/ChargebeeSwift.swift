import SluiceCore

/// Chargebee as lambdas in Swift: what `connectors/chargebee` says as data, by hand. It shows what a poll in code has to
/// mind, and a test holds both to the same jobs.
///
/// Source: Chargebee's API reference, "List subscriptions" (`updated_at[after]` is strict, `offset` and `next_offset`) and
/// "Webhooks" (basic authentication; `event_type` such as `subscription_created`).
public enum ChargebeeSwift {
    /// How far each cycle reads again: Chargebee's lists may lag behind its webhooks.
    private static let lookbackSeconds: Int64 = 60
    private static let visibilityLagSeconds: Int64 = 5

    /// Lists that cannot be sorted by the time of change, and those that take no include_deleted.
    private static let unsorted: Set = ["credit_note", "plan", "addon", "quote", "coupon", "virtual_bank_account", "item_family"]
    private static let living: Set = ["item", "item_price", "usage", "coupon", "virtual_bank_account", "item_family"]

    public static let connector = ConnectorDescription("chargebee-swift", title: "Chargebee (Swift)", version: "1.0.0") {
        Field("site_url", label: "Site URL", hint: "https://YOUR-SITE.chargebee.com")
        Field("api_key", label: "API key", isSecret: true, hint: "a read-only key is enough")
        Webhook(scheme: "basic-auth", deliveryID: .body(["id"])) { request in
            let event = try request.json()
            guard let type = event["event_type"]?.string, let word = type.split(separator: "_").first else {
                throw SluiceError(.invalid, "the webhook has no event_type")
            }
            // payment_succeeded and card_added name no resource; their content does.
            var keys = [String(word)]
            for name in (event["content"]?.members ?? []).map(\.key) {
                guard let word = name.split(separator: "_").first.map(String.init), !keys.contains(word) else { continue }
                keys.append(word)
            }
            return keys
        }
        TriggerType(
            "updated_record", title: "New, updated or deleted record", visibilityLag: .seconds(visibilityLagSeconds),
            lookback: lookbackSeconds + 1, versionSpan: .seconds(1)
        ) {
            Input(Field("resource", hint: "subscription, customer, invoice and so on"))
            Input(Field("since", label: "From", type: .dateTime, isOptional: true, hint: "one hour ago unless set"))
            // The first word, as with webhooks: credit_note hears credit_note_created under "credit".
            WebhookKey { input in input["resource"]?.string?.split(separator: "_").first.map(String.init) }
            Poll(poll)
            CursorAt { time, _ in Array("{\"since\":\(time.seconds)}".utf8) }
            RecordTime { record in record["updated_at"]?.int64.map(Timestamp.init(seconds:)) }
            Dedup { record in
                guard let id = record["id"]?.text, let version = record["updated_at"]?.text else {
                    throw SluiceError(.connector, "the record has no id and updated_at")
                }
                return "\(id)@\(version)" + (record["deleted"]?.bool == true ? "@deleted" : "")
            }
        }
        Help { base in
            "In Chargebee, Settings > Configure Chargebee > Webhooks: add \(base) with basic authentication, and set the same user and password as the connection's webhook secret, USER:PASSWORD."
        }
    }

    @Sendable private static func poll(_ request: PollRequest, _ http: any HTTPSending) async throws -> PollPage {
        let committed = try request.cursor.flatMap { try JSONDocument($0).root["since"]?.int64 }
        let open = try request.pageState.map { try JSONDocument($0).root }
        // Without a cursor the server is asked for its clock first: the default start must not come from ours.
        let since: Int64
        if let known = try open?["since"]?.int64 ?? committed ?? given(request) {
            since = known
        } else {
            let reply = try await page(request, after: request.readBound.seconds, offset: nil, limit: 1, http)
            since = (reply.serverDate ?? request.readBound).seconds - 3600
        }
        // updated_at[after] is strict, so one second less asks for the boundary second again; dedup drops what was seen.
        let after = open?["after"]?.int64 ?? max(since - lookbackSeconds - 1, 0)
        let reply = try await page(request, after: after, offset: open?["offset"]?.string, limit: 100, http)
        let answer = try reply.json().root
        let resource = request.input.root["resource"]?.string ?? ""
        let list = (answer["list"]?.elements ?? []).compactMap { $0[resource] }
        let marks = list.map { $0["updated_at"]?.int64 ?? Int64.max }
        let seen = max(open?["seen"]?.int64 ?? since, marks.filter { $0 != Int64.max }.max() ?? since)
        // The cursor moves after the last page only, and never beyond the server's clock less what may be hidden still.
        let next = answer["next_offset"]?.string
        let now = (reply.serverDate ?? request.readBound).seconds
        // In a list without order, what changes while it is read may lie on a page that was read already.
        let bound = open?["bound"]?.int64 ?? now
        let mark = min(seen, (unsorted.contains(resource) ? bound : now) - visibilityLagSeconds)
        let cursor = next == nil ? max(committed ?? since, mark) : committed ?? since
        return PollPage(
            records: list.map { Record(bytes: $0.bytes, isDeletion: $0["deleted"]?.bool == true) }, marks: marks,
            cursor: json { $0.member("since", cursor) }, cursorMark: cursor,
            pageState: next.map { next in
                json {
                    $0.member("since", since)
                    $0.member("seen", seen)
                    $0.member("bound", bound)
                    // Offsets skip records when others leave earlier pages by changing: in order, they serve within one second only.
                    let reached = unsorted.contains(resource) ? after : max(after, seen - 1)
                    $0.member("after", reached)
                    if reached == after { $0.member("offset", next) }
                }
            }, more: next != nil)
    }

    private static func page(
        _ request: PollRequest, after: Int64, offset: String?, limit: Int, _ http: any HTTPSending
    ) async throws -> HTTPReply {
        let connection = request.connection.root
        guard let site = connection["site_url"]?.string, let key = connection["api_key"]?.string,
            let resource = request.input.root["resource"]?.string
        else {
            throw PollFailure(.permanent, SluiceError(.invalid, "set site_url and api_key of the connection and resource of the input"))
        }
        var query = [("updated_at[after]", String(after)), ("limit", String(limit))]
        if !unsorted.contains(resource) { query.insert(("sort_by[asc]", "updated_at"), at: 0) }
        if !living.contains(resource) { query.append(("include_deleted", "true")) }
        if let offset { query.append(("offset", offset)) }
        let url = "\(site)/api/v2/\(resource == "item_family" ? "item_families" : HTTPRequestPlan.percentEncoded(resource) + "s")"
        let reply = try await http.send(.get(url, query: query, user: key))
        if reply.status == 400, offset != nil {
            throw PollFailure(.pageStateExpired, SluiceError(.providerStatus, "Chargebee no longer knows the offset"))
        }
        guard reply.status == 200 else {
            throw PollFailure(
                .permanent, SluiceError(.providerStatus, "Chargebee refuses the list of \(resource)s").with("status", String(reply.status)))
        }
        return reply
    }

    /// The start that the input gives, as seconds or an RFC 3339 time.
    private static func given(_ request: PollRequest) throws -> Int64? {
        guard let text = request.input.root["since"]?.text else { return nil }
        guard let value = CursorRule(field: JSONPath([]), parameter: nil, kind: .unixSeconds).value(ofText: text) else {
            throw PollFailure(.permanent, SluiceError(.invalid, "since must be a time such as 2026-01-31T09:00:00Z"))
        }
        return value.mark
    }

    private static func json(_ body: (inout JSONWriter) -> Void) -> [UInt8] {
        var writer = JSONWriter()
        writer.object(body)
        return writer.bytes
    }
}
