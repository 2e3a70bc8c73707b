import SluiceCore

/// A provider, a store and a process that may die at any step, around the machine alone. One trigger.
struct SubscriptionWorld {
    struct Held: Equatable {
        var url: Int
        var expiresAt: Timestamp?
        /// What its webhooks are signed with, where the provider makes it.
        var secret: UInt64?
        var isBroken = false
    }

    struct Random {
        var state: UInt64
        mutating func next() -> UInt64 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            var mixed = state
            mixed = (mixed ^ (mixed >> 33)) &* 0xFF51_AFD7_ED55_8CCD
            return mixed ^ (mixed >> 33)
        }
        mutating func unit() -> Double { Double(next() >> 11) / Double(1 << 53) }
        mutating func happens(_ probability: Double) -> Bool { unit() < probability }
        mutating func below(_ count: Int) -> Int { Int(next() % UInt64(count)) }
    }

    var random: Random
    var now = Timestamp(seconds: 1_700_000_000)
    let abilities: SubscriptionAbilities
    let lifetime: Span?
    /// The provider's answer to a request to subscribe, and nothing else, holds the secret of its webhooks.
    let givesSecret: Bool
    /// What the provider has, by its own number.
    var held: [Int: Held] = [:]
    var numbersGiven = 0
    /// Requests to subscribe that were cut off and take effect later.
    var late: [(at: Timestamp, url: Int)] = []
    /// What is recorded, with what the provider calls it.
    var stored: [SubscriptionID: (entry: Subscription, url: Int, output: Int?, secret: UInt64?)] = [:]
    var idsGiven: Int64 = 0
    var machine: SubscriptionMachine
    var key: String? = "a"
    /// Probability that a request fails, that the process dies at a step, and that the provider loses or breaks one.
    var trouble = 0.0
    var steps = 0
    var polls = 0

    init(seed: UInt64, abilities: SubscriptionAbilities, lifetime: Span?, givesSecret: Bool = false) {
        random = Random(state: seed)
        self.abilities = abilities
        self.lifetime = lifetime
        self.givesSecret = givesSecret
        machine = SubscriptionMachine(abilities: abilities, at: now)
        machine.want(key)
    }

    /// One step of the process, or a leap in time.
    mutating func step() {
        steps += 1
        if random.happens(trouble * 0.1) { mischief() }
        arriveLate()
        held = held.filter { $0.value.expiresAt.map { $0 > now } ?? true }
        machine.want(key)
        guard let step = machine.next(at: now) else { return leap() }
        if dies() { return }
        record()
        switch step {
        case .create:
            idsGiven += 1
            let entry = Subscription(id: SubscriptionID(idsGiven), phase: .subscribing, key: key ?? "?", at: now)
            stored[entry.id] = (entry, Int(idsGiven), nil, nil)
            if dies() { return }
            machine.created(entry)
        case .call(let operation, let id): call(operation, id)
        }
    }

    private mutating func leap() {
        let wake = machine.wake() ?? now + .hours(1)
        let span = max(wake - now, .milliseconds(1))
        now = now + min(span, .minutes(30 + Int64(random.below(60))))
    }

    /// True: the process is gone, and another one began from what was recorded.
    private mutating func dies() -> Bool {
        guard random.happens(trouble * 0.3) else { return false }
        machine = SubscriptionMachine(entries: stored.values.map(\.entry), abilities: abilities, at: now, random: random.unit())
        return true
    }

    private mutating func record() {
        let (changed, removed) = machine.takeChanges()
        for entry in changed {
            if stored[entry.id]?.entry.phase == .active, entry.phase == .subscribing { stored[entry.id]?.secret = nil }
            stored[entry.id]?.entry = entry
            if !entry.hasOutput { stored[entry.id]?.output = nil }
        }
        for entry in removed { stored[entry.id] = nil }
    }

    private mutating func call(_ operation: SubscriptionMachine.Operation, _ id: SubscriptionID) {
        guard let row = stored[id] else { return }
        let fails = random.happens(trouble)
        let isSilent = fails && random.happens(0.5)
        var output = row.output
        var secret = row.secret
        var outcome: SubscriptionMachine.Outcome
        var others: [(number: Int, url: Int)] = []
        if fails, !isSilent {
            outcome = .failed(.init("refused", isPermanent: random.happens(0.3), mayHaveActed: false))
        } else {
            switch operation {
            case .subscribe:
                if isSilent, random.happens(0.3) {
                    late.append((now + .milliseconds(Int64(random.below(25_000))), row.url))
                    outcome = .subscribed(expiresAt: nil)
                } else {
                    output = make(row.url)
                    if !isSilent { secret = held[output ?? 0]?.secret }
                    outcome = .subscribed(expiresAt: held[output ?? 0]?.expiresAt)
                }
            case .refresh:
                if let number = row.output, held[number] != nil {
                    held[number]?.expiresAt = lifetime.map { now + $0 }
                    outcome = .refreshed(expiresAt: lifetime.map { now + $0 })
                } else {
                    outcome = .checked(.init(.missing))
                }
            case .unsubscribe:
                if let number = row.output { held[number] = nil }
                outcome = .unsubscribed
            case .check:
                let mine = held.filter { $0.value.url == row.url }.sorted { $0.key < $1.key }
                let subject = row.output.map { number in mine.first { $0.key == number } } ?? mine.first
                if let subject {
                    output = subject.key
                    outcome = .checked(
                        .init(
                            subject.value.isBroken ? .drifted : .active, expiresAt: subject.value.expiresAt,
                            lacksSecret: givesSecret && secret == nil))
                } else {
                    outcome = .checked(.init(.missing))
                }
                others = held.filter { $0.key != subject?.key }.map { ($0.key, $0.value.url) }
            }
            if isSilent { outcome = .failed(.init("no answer", mayHaveActed: operation == .subscribe)) }
        }
        if dies() { return }
        if case .checked(var check) = outcome, operation == .check {
            let known = Set(stored.values.map(\.url))
            check.others = others.map { other in
                .init(
                    foundID: String(other.number),
                    url: other.url == row.url ? .thisOne : known.contains(other.url) ? .anotherKnown : .unknown)
            }
            outcome = .checked(check)
        }
        let consequence = machine.finish(outcome, at: now, random: random.unit())
        if consequence.polls { polls += 1 }
        if dies() { return }
        if let entry = machine.entries.first(where: { $0.id == id }), entry.hasOutput {
            stored[id]?.output = output
            stored[id]?.secret = secret
        }
        record()
        for addition in consequence.additions {
            idsGiven += 1
            let entry = Subscription(
                id: SubscriptionID(idsGiven), phase: addition.phase, key: "found", foundID: addition.foundID, hasOutput: true, at: now)
            stored[entry.id] = (entry, Int(idsGiven) + 1_000_000, Int(addition.foundID), nil)
            if dies() { return }
            machine.created(entry)
        }
    }

    private mutating func make(_ url: Int) -> Int {
        if abilities.isIdempotent { held = held.filter { $0.value.url != url } }
        numbersGiven += 1
        held[numbersGiven] = Held(
            url: url, expiresAt: lifetime.map { now + $0 }, secret: givesSecret ? UInt64(numbersGiven) &* 0x9E37_79B9 : nil)
        return numbersGiven
    }

    private mutating func arriveLate() {
        for request in late where request.at <= now { _ = make(request.url) }
        late.removeAll { $0.at <= now }
    }

    /// Somebody does something at the provider, or asks for something else here.
    private mutating func mischief() {
        let numbers = held.keys.sorted()
        switch random.below(6) {
        case 0: if let number = numbers.first, abilities.canCheck { held[number] = nil }
        case 1: if let number = numbers.last, abilities.canCheck { held[number]?.isBroken = true }
        case 2: if let number = numbers.last, let url = held[number]?.url, abilities.canCheck { _ = make(url) }
        case 3: key = key == nil ? "a" : nil
        case 4: key = key == "a" ? "b" : "a"
        default: machine = SubscriptionMachine(entries: stored.values.map(\.entry), abilities: abilities, at: now, random: random.unit())
        }
    }
}
