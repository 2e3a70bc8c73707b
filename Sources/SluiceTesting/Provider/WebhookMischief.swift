import SluiceCore

/// A POST to the configured URL, planned: who sends it decides nothing any more.
public struct PlannedWebhook: Sendable {
    public enum Kind: String, Sendable {
        /// Sent by the provider.
        case real
        /// Sent by somebody without the credentials: must be answered 401.
        case forged
        /// About an invented record, but with the right credentials, as after a leak: must not become a job.
        case spoofed
    }

    public enum Credentials: Sendable { case right, wrongPassword, wrongUser, missing }

    public var kind: Kind
    public var credentials: Credentials
    public var sendAt: Timestamp
    /// The body: one JSON object, Chargebee's event.
    public var body: [UInt8]
}

/// Decides what happens to the webhooks of a hostile provider. Pure: time and randomness are passed in.
public struct WebhookMischief: Sendable {
    /// Shares between 0 and 1. Dropped, doubled and late are drawn independently of each other.
    public struct Rates: Sendable {
        public var dropped: Double
        public var doubled: Double
        /// Half of these are held back for 2 to 8 s, half for up to 1.5 s, which is enough to reorder them.
        public var late: Double
        /// Webhooks in addition, one forged for every change drawn.
        public var forged: Double
        public var spoofed: Double

        public init(dropped: Double, doubled: Double, late: Double, forged: Double, spoofed: Double = 0) {
            self.dropped = dropped
            self.doubled = doubled
            self.late = late
            self.forged = forged
            self.spoofed = spoofed
        }

        /// 30% dropped, 30% doubled, 20% late or reordered, 10% forged.
        public static let hostile = Rates(dropped: 0.3, doubled: 0.3, late: 0.2, forged: 0.1)
        /// Every webhook arrives once, at once.
        public static let none = Rates(dropped: 0, doubled: 0, late: 0, forged: 0)
    }

    /// How many webhooks were planned, by what was done to them.
    public struct Counts: Sendable, Equatable {
        /// Real POSTs, copies included.
        public var real = 0
        public var dropped = 0
        public var doubled = 0
        public var late = 0
        public var reordered = 0
        public var forged = 0
        public var spoofed = 0
    }

    public var rates: Rates
    public private(set) var counts = Counts()
    private var events = 0

    public init(rates: Rates) { self.rates = rates }

    /// The webhooks that a change made at `now` leads to, forged ones included; possibly none.
    public mutating func plan(_ change: ProviderChange, at now: Timestamp, using random: inout ProviderRandom) -> [PlannedWebhook] {
        var planned: [PlannedWebhook] = []
        if random.chance(rates.dropped) {
            counts.dropped += 1
        } else {
            planned = real(change, at: now, using: &random)
        }
        if random.chance(rates.forged) { planned.append(forged(change, at: now, using: &random)) }
        if random.chance(rates.spoofed) {
            counts.spoofed += 1
            let body = body(
                invented(change.resource, at: now, using: &random), of: change.resource, kind: .created, at: now, using: &random)
            planned.append(PlannedWebhook(kind: .spoofed, credentials: .right, sendAt: now, body: body))
        }
        return planned
    }

    private mutating func real(_ change: ProviderChange, at now: Timestamp, using random: inout ProviderRandom) -> [PlannedWebhook] {
        let body = body(marked(change.record), of: change.resource, kind: change.kind, at: now, using: &random)
        var copies = 1
        if random.chance(rates.doubled) {
            counts.doubled += 1
            copies = 2
        }
        var delay = Span.zero
        if random.chance(rates.late) {
            if random.chance(0.5) {
                counts.late += 1
                delay = .milliseconds(Int64.random(in: 2000...8000, using: &random))
            } else {
                counts.reordered += 1
                delay = .milliseconds(Int64.random(in: 200...1500, using: &random))
            }
        }
        counts.real += copies
        return (0..<copies).map { copy in
            // The second copy follows after a moment, so that it meets the first one stored as well as on its way.
            let gap = copy == 0 ? 0 : Int64.random(in: 0...400, using: &random)
            return PlannedWebhook(kind: .real, credentials: .right, sendAt: now + delay + .milliseconds(gap), body: body)
        }
    }

    private mutating func forged(_ change: ProviderChange, at now: Timestamp, using random: inout ProviderRandom) -> PlannedWebhook {
        counts.forged += 1
        let credentials: [PlannedWebhook.Credentials] = [.wrongPassword, .wrongUser, .missing]
        let record = random.chance(0.5) ? change.record : invented(change.resource, at: now, using: &random)
        return PlannedWebhook(
            kind: .forged, credentials: credentials[Int.random(in: 0..<credentials.count, using: &random)], sendAt: now,
            body: body(record, of: change.resource, kind: .created, at: now, using: &random))
    }

    /// A webhook's copy of a record says so, so that a job made from it instead of from a poll is found out.
    private func marked(_ record: [UInt8]) -> [UInt8] { Array("{\"from_webhook\":true,".utf8) + record.dropFirst() }

    private func invented(_ resource: String, at now: Timestamp, using random: inout ProviderRandom) -> [UInt8] {
        let facts = ProviderRecord.Facts(
            resource: resource, id: "invented_\(random.letters(10))", number: 1, createdAtSeconds: now.seconds, updatedAt: now,
            isDeleted: false, version: 1)
        return ProviderRecord.bytes(facts, using: &random)
    }

    private mutating func body(
        _ record: [UInt8], of resource: String, kind: ProviderChange.Kind, at now: Timestamp, using random: inout ProviderRandom
    ) -> [UInt8] {
        events += 1
        var json = JSONWriter()
        json.object { json in
            json.member("id", "ev_\(random.letters(10))\(events)")
            json.member("occurred_at", now.seconds)
            json.member("source", "api")
            json.member("object", "event")
            json.member("api_version", "v2")
            json.key("content")
            json.object { json in
                json.key(resource)
                json.raw(record)
            }
            json.member("event_type", "\(resource)_\(kind.rawValue)")
        }
        return json.bytes
    }
}
