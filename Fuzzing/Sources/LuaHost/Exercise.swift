import SluiceConnectors
import SluiceCore

@testable import SluiceLua

/// Calls everything that a connector has, in the order in which a server would.
struct Exercise {
    let connector: LuaConnector
    let provider: Provider
    let body: [UInt8]

    static let connection = document(#"{"api_key":"secret-key-1","site_url":"https://p.test","n":1e300,"deep":{"a":[1,2,{"b":null}]}}"#)
    static let input = document(#"{"resource":"r","since":"2024-01-01T00:00:00Z","list":[1,"2",3.5],"big":9007199254740993}"#)

    func run() {
        call { _ = try connector.webhookKeys(webhook) }
        _ = connector.help(webhookBaseURL: "https://s.test/w")
        for trigger in connector.definition.triggers.prefix(4) {
            call { _ = try connector.webhookKey(triggerType: trigger.name, input: Exercise.input) }
            call {
                for record in try connector.webhookNotification(webhook, triggerType: trigger.name, input: Exercise.input, output: nil) {
                    check(
                        (try? JSONDocument(Array(record.bytes), depthMax: 2000)) != nil || record.bytes.elementsEqual(body),
                        "a notification is not JSON")
                }
            }
            poll(trigger.name)
            if trigger.subscription != nil { subscription(trigger.name) }
        }
    }

    private var webhook: WebhookRequest {
        WebhookRequest(
            method: "POST", path: "/w/1", query: "a=b&c", headers: [HTTPField("X-A", "1"), HTTPField("x-a", "2")], body: body)
    }

    private func call(_ body: () throws -> Void) {
        do { try body() } catch { checkFailure(error) }
    }

    private func poll(_ trigger: String) {
        var (cursor, state): ([UInt8]?, [UInt8]?) = (nil, nil)
        for _ in 0..<3 {
            let request = PollRequest(
                triggerType: trigger, connection: Exercise.connection, input: Exercise.input, cursor: cursor, pageState: state,
                readBound: Timestamp(seconds: 1_700_000_000), recordsMax: 50)
            let (connector, provider) = (connector, provider)
            switch finish({ try await connector.poll(request, http: provider) }) {
            case .failure(let error): return checkFailure(error)
            case .success(let page):
                checkPage(page)
                keys(page, trigger)
                (cursor, state) = (page.cursor ?? cursor, page.pageState)
            }
        }
        check(connector.slots.freeCount == connector.limits.concurrentPollsMax, "a poll kept its slot")
    }

    private func keys(_ page: PollPage, _ trigger: String) {
        call {
            let keys = try connector.dedupKeys(triggerType: trigger, records: page.records)
            check(keys.count == page.records.count, "\(keys.count) keys for \(page.records.count) records")
            for case .success(let key) in keys {
                check(!key.isEmpty && key.count <= KeyedRecord.dedupKeyBytesMax, "a key of \(key.count) bytes")
            }
        }
    }

    private func subscription(_ trigger: String) {
        let request = SubscriptionRequest(
            triggerType: trigger, connection: Exercise.connection, input: Exercise.input, webhookURL: "https://s.test/w/u1",
            secret: "offered", output: Array(#"{"id":1}"#.utf8), now: Timestamp(seconds: 1_700_000_000))
        let (connector, provider) = (connector, provider)
        let calls: [@Sendable () async throws -> Void] = [
            { _ = try await connector.subscribe(request, http: provider) },
            { _ = try await connector.refreshSubscription(request, http: provider) },
            { _ = try await connector.checkSubscription(request, http: provider) },
            { try await connector.unsubscribe(request, http: provider) },
        ]
        for call in calls {
            if case .failure(let error) = finish(call) { checkFailure(error) }
        }
    }
}
