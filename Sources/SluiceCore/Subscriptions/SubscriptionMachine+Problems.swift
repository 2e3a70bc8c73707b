extension SubscriptionMachine {
    /// What people should know, one entry a kind of alarm. Follows from what is stored: a restart shows the same.
    public func problems(at now: Timestamp) -> [(kind: Alarm.Kind, message: String)] {
        var problems: [(kind: Alarm.Kind, message: String)] = []
        if wantedKey != nil, let newest {
            if let lapsed = entries.last(where: { $0.isLapsed(at: now) }), !isSubscribed(at: now), let end = lapsed.expiresAt {
                problems.append((.subscriptionLapsed, "its subscription ended at \(end), and it polls until there is another\(reason)"))
            } else if let lapsing = entries.first(where: { isLapsing($0, at: now) }), newest.phase != .active || newest.id == lapsing.id,
                let end = lapsing.expiresAt
            {
                problems.append((.subscriptionLapsing, "its subscription ends at \(end), and renewing it fails\(reason)"))
            } else if !isSubscribed(at: now), newest.phase == .subscribing, newest.attempts > 0 {
                problems.append((.subscriptionFailing, "it is not subscribed and polls until it is\(reason)"))
            }
        }
        if let stuck = entries.first(where: { $0.phase == .unsubscribing && $0.attempts >= 2 }), problems.isEmpty {
            let message = "its subscription cannot be removed at the provider, and this is tried again at \(stuck.nextAt)"
            problems.append((.subscriptionFailing, message + (stuck.lastError.map { ": \($0)" } ?? "")))
        }
        let left = entries.filter { $0.phase == .leftBehind || $0.mayBeDoubled }
        if let first = left.first {
            let certainty = first.phase == .leftBehind && first.hasOutput ? "has" : "may have"
            let others = left.count > 1 ? " and \(left.count - 1) more" : ""
            problems.append(
                (
                    .subscriptionLeftBehind,
                    "the provider \(certainty) a subscription that no trigger needs (number \(first.id)\(others)): see `sluice subscription "
                        + "list`, look at the provider, and remove it with `sluice subscription remove-left-behind \(first.id)`"
                ))
        }
        return problems
    }

    private var reason: String { newest?.lastError.map { ": \($0)" } ?? "" }

    /// Renewing has failed before, or was due for half of the time that was left then.
    private func isLapsing(_ entry: Subscription, at now: Timestamp) -> Bool {
        guard entry.phase == .active, let expiresAt = entry.expiresAt, let refreshAt = entry.refreshAt, now >= refreshAt else {
            return false
        }
        let failures = max(entry.attempts, newest.map { $0.phase == .subscribing ? $0.attempts : 0 } ?? 0)
        return failures >= 2 || now >= expiresAt - (expiresAt - refreshAt).part(0.5)
    }
}
