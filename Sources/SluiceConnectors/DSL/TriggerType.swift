import SluiceCore

/// A trigger type of a `ConnectorDescription`, made of `Input`, `Output`, `WebhookKey` or `DynamicWebhook`, one `Poll` and,
/// unless the poll is an `Incremental`, one `Dedup`. With a `LongPoll` besides it is long polling. Without a `Poll` but with a
/// `WebhookKey`, a `DynamicWebhook` or a `WebhookNotification` it is webhook-only: its records are what the webhooks carry.
public struct TriggerType: ConnectorPart {
    let definition: TriggerTypeDefinition
    let webhookKey: WebhookKey?
    let dynamicWebhook: DynamicWebhook?
    let notification: WebhookNotification?
    let poll: Poll?
    let longPoll: LongPoll?
    let dedup: Dedup?
    let cursorAt: CursorAt?
    let recordTime: RecordTime?

    /// `name` in snake_case. `visibilityLag` and `lookback` are taken from an incremental poll where they are not given. `versionSpan`,
    /// for a poll that is code: how long the time in the dedup key stays the same, a second for times in whole seconds.
    public init(
        _ name: String, title: String, sampleOutput: String? = nil, visibilityLag: Span? = nil, lookback: Int64? = nil,
        retention: Span? = nil, versionSpan: Span? = nil, @TriggerBuilder _ parts: () -> [any TriggerPart]
    ) {
        var inputs: [Field] = []
        var outputs: [Field] = []
        var key: WebhookKey?
        var dynamic: DynamicWebhook?
        var poll: Poll?
        var dedup: Dedup?
        var notification: WebhookNotification?
        var longPoll: LongPoll?
        var cursorAt: CursorAt?
        var recordTime: RecordTime?
        for part in parts() {
            switch part {
            case let value as Input: inputs.append(value.field)
            case let value as Output: outputs.append(value.field)
            case let value as WebhookKey: key = value
            case let value as DynamicWebhook: dynamic = value
            case let value as Poll: poll = value
            case let value as Dedup: dedup = value
            case let value as WebhookNotification: notification = value
            case let value as LongPoll: longPoll = value
            case let value as CursorAt: cursorAt = value
            case let value as RecordTime: recordTime = value
            default: break
            }
        }
        dedup = dedup ?? poll?.incremental.map(Dedup.init)
        precondition(
            poll != nil || key != nil || dynamic != nil || notification != nil,
            "the trigger type \(name) needs a Poll, or a WebhookKey, DynamicWebhook or WebhookNotification where webhooks carry everything")
        precondition(poll == nil || dedup != nil, "the trigger type \(name) needs a Dedup unless its poll is an Incremental")
        precondition(
            poll == nil || notification == nil, "the trigger type \(name) polls, so a WebhookNotification has no effect: remove one")
        precondition(longPoll == nil || poll != nil && key == nil && dynamic == nil, "the LongPoll of \(name) needs a Poll and no webhooks")
        precondition(longPoll?.isRule != true || poll?.incremental != nil, "the LongPoll of \(name) as rules needs a Poll(incremental)")
        precondition(
            cursorAt == nil && recordTime == nil || poll != nil && poll?.incremental == nil,
            "CursorAt and RecordTime of \(name) are for a Poll that is code; an Incremental says both itself")
        precondition(
            versionSpan.map { recordTime != nil && $0 >= .milliseconds(1) && $0 <= CoarseVersions.granuleMax } ?? true,
            "versionSpan of \(name) is a millisecond to a day, and needs a RecordTime, which says when a record was changed")
        let kind: TriggerKind = poll == nil ? .webhook : longPoll != nil ? .longPolling : key == nil && dynamic == nil ? .polling : .hybrid
        let rules = poll?.incremental
        var definition = TriggerTypeDefinition(
            name: name, title: title, kind: kind, inputFields: inputs, outputFields: outputs,
            sampleOutput: sampleOutput.map { Array($0.utf8) }, visibilityLag: visibilityLag ?? rules?.visibilityLag ?? .zero,
            lookback: lookback ?? rules?.lookback ?? 0, retention: retention ?? rules?.retention,
            subscription: dynamic?.traits, countsByDelivery: kind == .webhook && dedup == nil)
        definition.hasCursorAt = cursorAt != nil
        definition.hasRecordTime = recordTime != nil
        definition.versionSpan = versionSpan
        definition.readsOnce = rules?.cursor?.kind == .opaque
        self.definition = definition
        self.cursorAt = cursorAt
        self.recordTime = recordTime
        webhookKey = key
        dynamicWebhook = dynamic
        self.notification = notification
        self.longPoll = longPoll
        self.poll = poll
        self.dedup = dedup
    }
}

/// What may stand inside a `TriggerType`.
public protocol TriggerPart: Sendable {}

/// A field of the trigger's input.
public struct Input: TriggerPart {
    let field: Field
    public init(_ field: Field) { self.field = field }
}

/// A field of the records.
public struct Output: TriggerPart {
    let field: Field
    public init(_ field: Field) { self.field = field }
}

/// The key under which a trigger with this input hears webhooks (`webhook_key`); it makes the trigger type a hybrid.
public struct WebhookKey: TriggerPart {
    let key: @Sendable (JSONView) throws -> String?
    public init(_ key: @escaping @Sendable (_ input: JSONView) throws -> String?) { self.key = key }
}

/// The records of a webhook of a webhook-only trigger (`webhook_notification`). Without one the body is the record.
public struct WebhookNotification: TriggerPart {
    let records: @Sendable (WebhookRequest, _ input: JSONView, _ output: JSONView?) throws -> [Record]

    /// `records` throws where the webhook cannot be read: it is quarantined. A record whose bytes are a part of the body keeps
    /// them; mark others as derived.
    public init(_ records: @escaping @Sendable (_ request: WebhookRequest, _ input: JSONView, _ output: JSONView?) throws -> [Record]) {
        self.records = records
    }
}

/// Holds a request open until there is news, as rules beside a `Poll(incremental)` or as code; it makes the trigger type long
/// polling. The poll connects: it runs at the start, after each failure and each safety interval.
public struct LongPoll: TriggerPart {
    let rule: LongPollRule?
    let read: (@Sendable (PollRequest, any HTTPSending) async throws -> PollPage)?
    var isRule: Bool { rule != nil }

    public init(_ rule: LongPollRule) { (self.rule, read) = (rule, nil) }

    /// `read` sends requests with a `holdSpan`, and throws as a `Poll` does.
    public init(_ read: @escaping @Sendable (PollRequest, any HTTPSending) async throws -> PollPage) { (rule, self.read) = (nil, read) }
}

/// Reads one page, as rules or as code.
public struct Poll: TriggerPart {
    let incremental: Incremental?
    let read: @Sendable (PollRequest, any HTTPSending) async throws -> PollPage

    /// A description that would lose records stops the program: it is a mistake of the programmer.
    public init(_ incremental: Incremental) {
        do { try incremental.check() } catch { preconditionFailure(error.message) }
        self.incremental = incremental
        read = { try await incremental.run($0, http: $1) }
    }

    /// `read` throws `PollFailure`, or `SluiceError` for a fault of its own.
    public init(_ read: @escaping @Sendable (PollRequest, any HTTPSending) async throws -> PollPage) {
        incremental = nil
        self.read = read
    }
}

/// Beside a `Poll` that is code: where a backfill begins (`cursor_at`).
public struct CursorAt: TriggerPart {
    let cursor: @Sendable (Timestamp, JSONView) throws -> [UInt8]

    /// `cursor` gives JSON from which the poll reads everything that was changed at the time or later; `input` is the trigger's.
    public init(_ cursor: @escaping @Sendable (_ time: Timestamp, _ input: JSONView) throws -> [UInt8]) { self.cursor = cursor }
}

/// Beside a `Poll` that is code: when a record was changed (`record_time`), by which a backfill keeps to its window.
public struct RecordTime: TriggerPart {
    let time: @Sendable (JSONView) -> Timestamp?

    /// `time` gives nil for a record without a readable time.
    public init(_ time: @escaping @Sendable (JSONView) -> Timestamp?) { self.time = time }
}

/// Identity and version of a record (`dedup`).
public struct Dedup: TriggerPart {
    let keys: @Sendable ([Record]) -> [Result<[UInt8], SluiceError>]

    /// `key` throws where a record has no identity: it is quarantined, and the others go on.
    public init(_ key: @escaping @Sendable (JSONView) throws -> String) {
        keys = { records in
            records.map { record in
                do {
                    return .success(Array(try key(record.view).utf8))
                } catch let error as SluiceError {
                    return .failure(error)
                } catch {
                    return .failure(SluiceError(.connector, "the dedup key cannot be made: \(error)"))
                }
            }
        }
    }

    init(_ incremental: Incremental) { keys = { incremental.dedupKeys(records: $0) } }
}

/// Collects the parts of a trigger type.
@resultBuilder public enum TriggerBuilder {
    public static func buildExpression(_ part: any TriggerPart) -> [any TriggerPart] { [part] }
    public static func buildBlock(_ parts: [any TriggerPart]...) -> [any TriggerPart] { parts.flatMap { $0 } }
    public static func buildArray(_ parts: [[any TriggerPart]]) -> [any TriggerPart] { parts.flatMap { $0 } }
    public static func buildOptional(_ parts: [any TriggerPart]?) -> [any TriggerPart] { parts ?? [] }
    public static func buildEither(first parts: [any TriggerPart]) -> [any TriggerPart] { parts }
    public static func buildEither(second parts: [any TriggerPart]) -> [any TriggerPart] { parts }
}
