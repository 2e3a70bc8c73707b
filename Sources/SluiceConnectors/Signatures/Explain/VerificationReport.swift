import SluiceCore

/// What a verification found, for a person who looks for a fault. Says neither a secret nor the expected signature.
public struct VerificationReport: Sendable {
    public struct Fact: Sendable, Equatable {
        public var name: String
        public var text: String
        /// Whether it is one part of the signed content.
        public var isPart = false
    }
    public var scheme: String
    public var verdict: Verdict
    public var facts: [Fact] = []
    /// What is likely wrong; the first are certain, since they were tried.
    public var hints: [String] = []

    public var isValid: Bool { verdict == .valid }

    /// Lines for people.
    public var text: String {
        var lines: [String] = []
        switch verdict {
        case .valid: lines.append("valid: \(scheme)")
        case .refused(let refusal): lines.append("not valid: \(scheme): \(refusal.reason.rawValue): \(refusal.message)")
        }
        let names = facts.map { ($0.isPart ? "  " : "") + $0.name }
        let width = names.map(\.count).max() ?? 0
        for (name, fact) in zip(names, facts) {
            lines.append("  \(name)\(String(repeating: " ", count: width - name.count))  \(fact.text)")
        }
        for hint in hints { lines.append("hint: \(hint)") }
        return lines.joined(separator: "\n")
    }

    public var json: [UInt8] {
        var writer = JSONWriter()
        writer.object { writer in
            writer.member("scheme", scheme)
            writer.member("valid", isValid)
            if case .refused(let refusal) = verdict {
                writer.member("reason", refusal.reason.rawValue)
                writer.member("message", refusal.message)
            }
            writer.key("facts")
            writer.object { writer in for fact in facts where !fact.isPart { writer.member(fact.name, fact.text) } }
            writer.key("signed_parts")
            writer.object { writer in for fact in facts where fact.isPart { writer.member(fact.name, fact.text) } }
            writer.key("hints")
            writer.array { writer in for hint in hints { writer.value(hint) } }
        }
        return writer.bytes
    }
}

extension SignatureScheme {
    /// Verifies as `verify` does, and says what it saw. On a refusal it tries what usually goes wrong, so it takes longer:
    /// for people, never on the way of a webhook.
    public func report(
        _ request: WebhookRequest, secrets: [String], now: Timestamp, options: SchemeOptions = SchemeOptions(), notes: [String] = []
    ) -> VerificationReport {
        let attempt = SignatureAttempt(request: request, secrets: secrets, now: now, options: options)
        let verdict = verify(request, secrets: secrets, now: now, options: options)
        var report = VerificationReport(scheme: name, verdict: verdict)
        let scrubber = SignatureScheme.scrubber(attempt)
        report.facts = facts(attempt, scrubber)
        report.hints = notes
        if case .refused(let refusal) = verdict { report.hints += SignatureHints.hints(self, attempt, refusal, clean: scrubber.scrubbed) }
        if isExperimental { report.hints.append("the recipe of \(name) is experimental: nothing of the provider confirmed it yet") }
        if name == "none" { report.hints.append("this scheme verifies nothing") }
        return report
    }

    /// A body or a URL may hold the secret: some providers repeat it, and some take user and password in the address.
    private static func scrubber(_ attempt: SignatureAttempt) -> SecretScrubber {
        var secrets = attempt.secrets
        for secret in attempt.secrets {
            secrets += secret.split(whereSeparator: \.isWhitespace).map(String.init)
            if secret.hasPrefix("whsec_") { secrets.append(String(secret.dropFirst(6))) }
        }
        if let url = attempt.options.url(of: attempt.request), let mark = url.firstRange(of: "://") {
            let authority = url[mark.upperBound...].prefix { !"/?#".contains($0) }
            if let at = authority.lastIndex(of: "@") {
                let user = authority[..<at]
                secrets.append(String(user))
                secrets += user.split(separator: ":", maxSplits: 1).dropFirst().map(String.init)
            }
        }
        return SecretScrubber(secrets)
    }

    private func facts(_ attempt: SignatureAttempt, _ scrubber: SecretScrubber) -> [VerificationReport.Fact] {
        var facts: [VerificationReport.Fact] = []
        for name in shownHeaders(attempt) {
            let values = attempt.request.headers.filter { ASCII.equalIgnoringCase($0.name, name) }.map(\.value)
            guard !values.isEmpty else { continue }
            facts.append(
                .init(
                    name: name,
                    text: isShown(name) ? values.map { Shown.text(scrubber.scrubbed($0)) }.joined(separator: " | ") : "(not shown)"))
        }
        if let moment = recipe?.moment(attempt) {
            let age = attempt.now - moment
            let seconds = abs(age.milliseconds) / 1000
            let relation = age.milliseconds >= 0 ? "\(seconds) s before" : "\(seconds) s after"
            facts.append(.init(name: "timestamp", text: "\(moment), \(relation) now (\(attempt.now))"))
        }
        if signsURL {
            facts.append(.init(name: "url", text: attempt.options.url(of: attempt.request).map { scrubber.scrubbed($0) } ?? "not known"))
        }
        if let content = recipe?.content(attempt) {
            facts.append(.init(name: "signed content", text: content.template))
            for part in content.parts where !part.name.hasPrefix("\"") {
                guard let bytes = part.bytes else {
                    facts.append(.init(name: part.name, text: "(not shown)", isPart: true))
                    continue
                }
                let start = scrubber.scrubbed(Array(bytes.prefix(Shown.scrubbedBytes)))
                facts.append(.init(name: part.name, text: "\(bytes.count) bytes: \(Shown.start(start))", isPart: true))
            }
            // Where a plain hash is the signature, the hash of the content would be the expected one.
            if let bytes = content.bytes {
                facts.append(.init(name: "all of it", text: "\(bytes.count) bytes, SHA-256 \(Shown.hash(bytes))", isPart: true))
            }
        } else if recipe != nil {
            facts.append(.init(name: "signed content", text: "none: a secret is compared"))
        }
        facts.append(.init(name: "body", text: "\(attempt.request.body.count) bytes, SHA-256 \(Shown.hash(attempt.request.body))"))
        return facts
    }

    private func shownHeaders(_ attempt: SignatureAttempt) -> [String] {
        if let own = attempt.options.headerName, leavesHeaderOpen { return [own] }
        return summary.headers
    }

    /// A header that shows a secret or a token is not printed.
    private func isShown(_ header: String) -> Bool {
        !credentialHeaders.contains(header) && header != "Authorization" && summary.algorithm != SignatureAlgorithm.secret.rawValue
    }
}

/// How bytes are shown: short, in one line, in ASCII.
enum Shown {
    private static let startBytes = 48
    /// So much is searched for secrets, of which the start is shown: one that is cut off there is found whole.
    static let scrubbedBytes = 8192

    static func hash(_ bytes: [UInt8]) -> String { Hex.text(HMACSHA256.sha256(bytes)) }

    static func start(_ bytes: [UInt8]) -> String {
        escaped(bytes.prefix(startBytes)) + (bytes.count > startBytes ? "…" : "")
    }

    static func text(_ text: String) -> String {
        let bytes = Array(text.utf8)
        return escaped(bytes.prefix(96)) + (bytes.count > 96 ? "… (\(bytes.count) bytes)" : "")
    }

    private static func escaped(_ bytes: ArraySlice<UInt8>) -> String {
        var text = ""
        for byte in bytes {
            switch byte {
            case 0x0A: text += "\\n"
            case 0x0D: text += "\\r"
            case 0x09: text += "\\t"
            case 0x20...0x7E: text.unicodeScalars.append(Unicode.Scalar(byte))
            default: text += "\\x" + Hex.text(bytes: [byte])
            }
        }
        return text
    }
}
