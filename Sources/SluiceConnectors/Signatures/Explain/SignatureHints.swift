import SluiceCore

/// Why a request was refused: what usually goes wrong is undone, one thing at a time, and tried again.
enum SignatureHints {
    private static let bodyBytesMax = 8 * 1024 * 1024
    private static let headersMax = 50
    private static let headerBytesMax = 4096

    /// `clean` takes secrets out of what the request holds; our own words stay as they are.
    static func hints(
        _ scheme: SignatureScheme, _ attempt: SignatureAttempt, _ refusal: Refusal, clean: (String) -> String
    ) -> [String] {
        var trial = attempt
        // Time is judged apart, so that an old capture can be examined.
        trial.now = scheme.recipe?.moment(attempt) ?? attempt.now
        if refusal.reason == .stale || refusal.reason == .fromTheFuture {
            return scheme.isValid(trial)
                ? ["the signature itself is right; only the time is not (verify with --now, or set another tolerance)"]
                : ["at the time that it names it would be refused as well"] + causes(scheme, trial, clean)
        }
        return causes(scheme, trial, clean) + explanations(scheme, attempt, refusal, clean)
    }

    // MARK: - Tried

    private static func causes(_ scheme: SignatureScheme, _ attempt: SignatureAttempt, _ clean: (String) -> String) -> [String] {
        guard attempt.request.body.count <= bodyBytesMax else { return [] }
        var found: [String] = []
        for (what, body) in bodies(attempt.request.body) {
            var trial = attempt
            trial.request.body = body
            if scheme.isValid(trial) { found.append("it would be valid if the body \(what)") }
        }
        for (what, secrets) in secrets(attempt.secrets) {
            var trial = attempt
            trial.secrets = secrets
            if scheme.isValid(trial) { found.append("it would be valid if the secret \(what)") }
        }
        if scheme.signsURL, let url = attempt.options.url(of: attempt.request) {
            for (what, candidate) in urls(url) {
                var trial = attempt
                trial.request.url = candidate
                if scheme.isValid(trial) { found.append("it would be valid if the URL \(what): \(clean(candidate))") }
            }
        }
        found += headers(scheme, attempt, clean)
        found += readings(scheme, attempt)
        if found.isEmpty {
            let others = SignatureScheme.all.filter { $0.name != scheme.name && $0.isSafe && $0.isValid(attempt) }.map { "`\($0.name)`" }
            if !others.isEmpty { found.append("the request is valid under the scheme \(others.prefix(4).joined(separator: ", "))") }
        }
        return found
    }

    /// Where a scheme leaves its header open, the signature may stand in another one.
    private static func headers(_ scheme: SignatureScheme, _ attempt: SignatureAttempt, _ clean: (String) -> String) -> [String] {
        guard scheme.leavesHeaderOpen else { return [] }
        let names = attempt.request.headers.filter { (1...headerBytesMax).contains($0.value.utf8.count) }.map(\.name)
        for name in names.prefix(headersMax) {
            var trial = attempt
            trial.options.headerName = name
            guard scheme.isValid(trial) else { continue }
            return ["it would be valid if the signature were read from the header \(clean(name)): `sluice verify --header \(clean(name))`"]
        }
        return []
    }

    private static func bodies(_ body: [UInt8]) -> [(String, [UInt8])] {
        var variants: [(String, [UInt8])] = []
        if body.suffix(2) == [0x0D, 0x0A] {
            variants.append(("did not end with a line end (CR LF): the file has one more than the sender signed", body.dropLast(2)))
        } else if body.last == 0x0A {
            variants.append(("did not end with a line feed: the file has one more than the sender signed", body.dropLast()))
        }
        let bare = withoutSpaceAround(body)
        if bare.count < body.count, body.last != 0x0A || bare.count < body.count - (body.suffix(2) == [0x0D, 0x0A] ? 2 : 1) {
            variants.append(("had no white space around it: the file has more than the sender signed", bare))
        }
        variants.append(("ended with a line feed, which the file lacks", body + [0x0A]))
        variants.append(("ended with CR LF, which the file lacks", body + [0x0D, 0x0A]))
        if body.starts(with: [0xEF, 0xBB, 0xBF]) { variants.append(("did not begin with a byte order mark", Array(body.dropFirst(3)))) }
        let lines = body.split(separator: 0x0A, omittingEmptySubsequences: false)
        if lines.count > 1 {
            if lines.dropLast().allSatisfy({ $0.last == 0x0D }) {
                variants.append(
                    ("had LF where the file has CR LF", Array(lines.map { $0.last == 0x0D ? $0.dropLast() : $0 }.joined(separator: [0x0A])))
                )
            } else {
                variants.append(("had CR LF where the file has LF", Array(lines.joined(separator: [0x0D, 0x0A]))))
            }
        }
        if let compact = respaced(body, comma: [], colon: []), compact != bare {
            variants.append(("were written without spaces: it was parsed and written again as JSON", compact))
        }
        if let spaced = respaced(body, comma: [0x20], colon: [0x20]), spaced != bare {
            variants.append(("had a space after each comma and colon: it was parsed and written again as JSON", spaced))
        }
        return variants
    }

    private static func withoutSpaceAround(_ body: [UInt8]) -> [UInt8] {
        func isSpace(_ byte: UInt8) -> Bool { [0x20, 0x09, 0x0A, 0x0D].contains(byte) }
        guard let start = body.firstIndex(where: { !isSpace($0) }), let end = body.lastIndex(where: { !isSpace($0) }) else { return [] }
        return Array(body[start...end])
    }

    /// The same JSON with other white space; nil if it is none.
    private static func respaced(_ body: [UInt8], comma: [UInt8], colon: [UInt8]) -> [UInt8]? {
        guard (try? JSONDocument(body)) != nil else { return nil }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(body.count)
        var (isInString, isEscaped) = (false, false)
        for byte in body {
            if isInString {
                bytes.append(byte)
                if isEscaped {
                    isEscaped = false
                } else if byte == UInt8(ascii: "\\") {
                    isEscaped = true
                } else if byte == UInt8(ascii: "\"") {
                    isInString = false
                }
                continue
            }
            switch byte {
            case 0x20, 0x09, 0x0A, 0x0D: continue
            case UInt8(ascii: ","): bytes += [byte] + comma
            case UInt8(ascii: ":"): bytes += [byte] + colon
            default:
                bytes.append(byte)
                isInString = byte == UInt8(ascii: "\"")
            }
        }
        return bytes
    }

    private static func secrets(_ secrets: [String]) -> [(String, [String])] {
        func changed(_ what: String, _ change: (String) -> String?) -> (String, [String])? {
            let variants = secrets.compactMap { secret in change(secret).flatMap { $0 == secret || $0.isEmpty ? nil : $0 } }
            return variants.isEmpty ? nil : (what, variants)
        }
        return [
            changed("had no white space around it") { secret in
                String(secret.drop { $0.isWhitespace }.reversed().drop { $0.isWhitespace }.reversed())
            },
            changed("ended with a line feed") { $0 + "\n" },
            changed("had no quotes around it") { secret in
                guard let first = secret.first, first == secret.last, first == "\"" || first == "'", secret.count > 2 else { return nil }
                return String(secret.dropFirst().dropLast())
            },
            changed("began without whsec_") { $0.hasPrefix("whsec_") ? String($0.dropFirst(6)) : nil },
            changed("began with whsec_") { $0.hasPrefix("whsec_") ? nil : "whsec_" + $0 },
        ].compactMap(\.self)
    }

    /// Proxies and settings change the URL in these ways.
    private static func urls(_ url: String) -> [(String, String)] {
        guard let mark = url.firstRange(of: "://") else { return [("began with https://", "https://" + url)] }
        let scheme = url[..<mark.lowerBound]
        let rest = url[mark.upperBound...]
        let pathEnd = rest.firstIndex { $0 == "?" || $0 == "#" } ?? rest.endIndex
        let hostEnd = rest[..<pathEnd].firstIndex(of: "/") ?? pathEnd
        let tail = String(rest[pathEnd...])
        let place = String(rest[..<pathEnd])
        let toggled = place.hasSuffix("/") ? String(place.dropLast()) : place + "/"
        let slash = place.hasSuffix("/") ? "did not end with a slash" : "ended with a slash"
        let other = scheme == "https" ? "http" : "https"
        var variants = [
            ("began with \(other)://", "\(other)://\(rest)"), (slash, "\(scheme)://\(toggled)\(tail)"),
            ("began with \(other):// and \(slash)", "\(other)://\(toggled)\(tail)"),
        ]
        if !tail.isEmpty { variants.append(("had no query", "\(scheme)://\(place)")) }
        let host = rest[..<hostEnd]
        if let colon = host.lastIndex(of: ":") {
            variants.append(("had no port", "\(scheme)://\(host[..<colon])\(rest[hostEnd...])"))
            variants.append(("began with \(other):// and had no port", "\(other)://\(host[..<colon])\(rest[hostEnd...])"))
        }
        return variants
    }

    /// The same request with the secret or the signature read in another form.
    private static func readings(_ scheme: SignatureScheme, _ attempt: SignatureAttempt) -> [String] {
        guard let recipe = scheme.recipe as? DescribedSignature, recipe.alternatives[0].forms[0].algorithm != .secret else { return [] }
        func isValid(_ change: (inout SignatureDescription) -> Void) -> Bool {
            let changed = recipe.alternatives.map { alternative in
                var copy = alternative
                change(&copy)
                return copy
            }
            do throws(RefusalError) {
                try DescribedSignature(alternatives: changed).check(attempt)
                return true
            } catch {
                return false
            }
        }
        // The recipe in words reads headers more kindly than the scheme does: then nothing is wrong but how they are written.
        if isValid({ _ in }) { return writing(scheme, attempt) }
        let first = recipe.alternatives[0]
        var found: [String] = []
        if !first.forms[0].algorithm.isAsymmetric {
            for (form, what) in [
                (SignatureKeyForm.text, "taken as text"), (.hex, "decoded from hex"), (.standardWebhooks, "decoded from base64"),
            ] where form != first.key && isValid({ $0.key = form }) {
                found.append("it would be valid if the secret were \(what), which this scheme does not do: is the scheme right?")
                // What is no base64 counts as text there: the first form that fits is the one.
                break
            }
        }
        for encoding in [SignatureEncoding.hexAnyCase, .base64, .base64URL] where encoding != first.encoding {
            if isValid({
                $0.encoding = encoding; $0.isPrefixOptional = true
            }) {
                found.append("the signature is right, but written in another way (\(encoding.rawValue)) than this provider does")
                break
            }
        }
        if first.content.description != "{body}", isValid({ $0.content = "{body}" }) {
            found.append("the signature covers the body alone, not \"\(first.content)\"")
        }
        return found
    }

    private static func writing(_ scheme: SignatureScheme, _ attempt: SignatureAttempt) -> [String] {
        let names = attempt.options.headerName.map { [$0] } ?? scheme.summary.headers
        let spaced = names.first { attempt.request.header($0)?.contains { $0.isWhitespace } == true }
        guard let spaced else { return ["the signature is right, but the header is not written as this provider does"] }
        return [
            "the signature is right, but there is white space in the header \(spaced), which this provider does not send: look for what adds it"
        ]
    }

    // MARK: - Said

    private static func explanations(
        _ scheme: SignatureScheme, _ attempt: SignatureAttempt, _ refusal: Refusal, _ clean: (String) -> String
    ) -> [String] {
        switch refusal.reason {
        case .missingHeader, .malformedHeader:
            let open = scheme.leavesHeaderOpen ? ["this scheme leaves the header open: name it with `sluice verify --header NAME`"] : []
            return [seen(attempt.request, clean)] + open
        case .noSecret: return ["the secret must be: \(scheme.secretHint)"]
        case .noURL: return ["give the URL that the provider calls with --url"]
        case .mismatch:
            return [
                "if none of this fits: the secret is of another webhook or account (it must be: \(scheme.secretHint)); or the body was changed on its way, for example parsed and written again, decompressed, or recoded"
            ]
        default: return []
        }
    }

    private static func seen(_ request: WebhookRequest, _ clean: (String) -> String) -> String {
        let words = ["signature", "hmac", "token", "authorization", "webhook", "hook"]
        let names = request.headers.map(\.name).filter { name in words.contains { name.lowercased().contains($0) } }
        return names.isEmpty
            ? "no header of the request looks like a signature"
            : "headers that look like signatures: \(names.prefix(8).map(clean).joined(separator: ", "))"
    }
}

extension SignatureScheme {
    fileprivate func isValid(_ attempt: SignatureAttempt) -> Bool {
        verify(attempt.request, secrets: attempt.secrets, now: attempt.now, options: attempt.options) == .valid
    }
}
