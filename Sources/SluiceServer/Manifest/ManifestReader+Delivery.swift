import SluiceConnectors
import SluiceCore

/// What a destination says of how it is delivered to.
extension ManifestReader {
    /// `secret: S`, or `secrets: [S, {secret: S, expires: TIME}]`, the newest first.
    mutating func secrets(_ keys: [String: YAMLValue], into spec: inout DestinationSpec) {
        if let list = keys["secrets"] {
            if keys["secret"] != nil { issue(list.line, "destination \(spec.name) has `secret` and `secrets`: keep one of them") }
            guard case .sequence(let elements) = list.content, (1...WebhookSigner.secretsMax).contains(elements.count) else {
                return issue(list.line, "`secrets` is a list of 1 to \(WebhookSigner.secretsMax), the newest first")
            }
            for element in elements { secret(element, into: &spec) }
        } else if let value = keys["secret"] {
            secret(value, into: &spec)
        }
    }

    private mutating func secret(_ value: YAMLValue, into spec: inout DestinationSpec) {
        var text: YAMLValue? = value
        var expiresAt: Timestamp?
        if case .mapping = value.content {
            let keys = members(value, of: "a secret of destination \(spec.name)", allowed: ["secret", "expires"])
            text = keys["secret"]
            if text == nil { issue(value.line, "a secret of destination \(spec.name) needs `secret`") }
            if let expires = keys["expires"], let word = resolvedText(expires, "expires")?.text {
                expiresAt = Timestamp(rfc3339: word)
                if expiresAt == nil { issue(expires.line, "`expires` is a time such as 2027-01-31T12:00:00Z") }
            }
        }
        guard let text, let resolved = resolvedText(text, "secret") else { return }
        spec.secrets.append(SigningSecret(resolved.text, expiresAt: expiresAt))
        if !resolved.isReferenced { spec.hasInlineSecret = true }
    }

    mutating func networks(_ value: YAMLValue?) -> [IPNetwork] {
        guard let value else { return [] }
        guard case .sequence(let elements) = value.content, elements.count <= AddressAllowance.networksMax else {
            issue(
                value.line, "`allow_networks` is a list of at most \(AddressAllowance.networksMax), for example [10.0.0.0/8, \"fd00::/8\"]")
            return []
        }
        return elements.compactMap { element in
            guard let word = resolvedText(element, "allow_networks")?.text else { return nil }
            if let network = IPNetwork(word) { return network }
            issue(
                element.line, "`allow_networks` names networks as ADDRESS/BITS with nothing set behind the bits, for example 10.0.0.0/8")
            return nil
        }
    }

    mutating func retries(_ value: YAMLValue?) -> [Span]? {
        guard let value else { return nil }
        guard case .sequence(let elements) = value.content else {
            issue(value.line, "`retries` is a list of waits, for example [5s, 5m, 30m, 2h]")
            return nil
        }
        let waits = elements.compactMap { element -> Span? in
            guard let word = resolvedText(element, "retries")?.text else { return nil }
            if let wait = Words.span(word) { return wait }
            issue(element.line, "`retries` is a list of times with their units, for example [5s, 5m, 30m, 2h]")
            return nil
        }
        do {
            return try RetrySchedule(delays: waits).delays
        } catch {
            issue(value.line, "`retries`: \(error.message)")
            return nil
        }
    }

    mutating func deliveryRate(_ value: YAMLValue?) -> DeliveryRate? {
        guard let value, let word = resolvedText(value, "rate")?.text else { return nil }
        if let rate = DeliveryRate(word) { return rate }
        issue(value.line, "`rate` is a whole number a second, minute or hour: for example 10/s, 600/m or 5000/h")
        return nil
    }
}
