import SluiceCore

/// Verifies whatever a `SignatureDescription` describes. Several descriptions are alternatives: the first whose signature
/// header is there counts.
struct DescribedSignature: SignatureRecipe {
    /// More signatures than any rotation needs are not looked at.
    private static let signaturesMax = 16
    /// Verifying an asymmetric one costs a thousand times as much.
    private static let asymmetricMax = 4

    let alternatives: [SignatureDescription]

    func check(_ attempt: SignatureAttempt) throws(RefusalError) {
        let description = description(for: attempt)
        let keys = try SignatureKeys.read(attempt.secrets, description)
        try checkRequired(description, attempt.request)
        let given = try given(description, attempt)
        if given.signatures.isEmpty { throw malformed(description, given.header) }
        let timestamp = try timestamp(description, attempt, given)
        if let timestamp, let rule = description.timestamp { try checkAge(rule, timestamp.moment, attempt) }
        guard try matches(description, attempt, given, keys, timestampText: timestamp?.text) else {
            throw mismatch(description, attempt, given.header)
        }
        if let rule = description.timestamp, case .body(let path) = rule.place { try checkBodyAge(rule, path, attempt) }
    }

    /// The alternative that a request is meant for.
    func description(for attempt: SignatureAttempt) -> SignatureDescription {
        if alternatives.count > 1 {
            for alternative in alternatives where alternative.headers.contains(where: { attempt.request.header($0) != nil }) {
                return alternative
            }
        }
        return alternatives[0]
    }

    // MARK: - What the request shows

    struct Given {
        /// The header that held a signature, for messages.
        var header: String
        var signatures: [(algorithm: SignatureAlgorithm, bytes: [UInt8])] = []
        /// The text behind the timestamp's prefix in the list; nil if there is none or more than one.
        var timestamp: String?
        var timestamps = 0
    }

    static func headers(_ description: SignatureDescription, _ options: SchemeOptions) -> [String] {
        if let own = options.headerName, description.headerDefault != nil { return [own] }
        return description.headers.isEmpty ? [description.headerDefault ?? ""] : description.headers
    }

    private func given(_ description: SignatureDescription, _ attempt: SignatureAttempt) throws(RefusalError) -> Given {
        let names = Self.headers(description, attempt.options)
        let present = names.filter { attempt.request.header($0) != nil }
        var given = Given(header: present.first ?? names[0])
        if present.isEmpty, let parameter = description.queryParameter,
            let value = FormData.first(parameter, in: attempt.request.query)
        {
            given.header = "the query's \(parameter)"
            given.signatures = [(.secret, value)]
            return given
        }
        for name in present.isEmpty ? [names[0]] : present {
            let value = try SignedRequest.header(name, of: attempt.request)
            guard let list = description.list else {
                read(value[...], description, &given)
                continue
            }
            for item in value.utf8.split(separator: UInt8(ascii: list)) {
                read(Substring(item).trimmingSpaces(), description, &given)
            }
        }
        return given
    }

    private func read(_ item: Substring, _ description: SignatureDescription, _ given: inout Given) {
        if let rule = description.timestamp, case .item(let prefix) = rule.place, item.utf8.starts(with: prefix.utf8) {
            given.timestamps += 1
            given.timestamp = given.timestamps == 1 ? String(item.utf8.dropFirst(prefix.utf8.count)) : nil
            return
        }
        for (index, form) in description.forms.enumerated() {
            let most = form.algorithm.isAsymmetric ? Self.asymmetricMax : Self.signaturesMax
            guard given.signatures.count < most else { return }
            let hasPrefix =
                description.ignoresPrefixCase
                ? ASCII.equalIgnoringCase(String(item.prefix(form.prefix.count)), form.prefix) : item.utf8.starts(with: form.prefix.utf8)
            guard hasPrefix || index == 0 && description.isPrefixOptional else { continue }
            let text = item.utf8.dropFirst(hasPrefix ? form.prefix.utf8.count : 0)
            guard let bytes = description.encoding.decode(Substring(text).utf8), !bytes.isEmpty,
                bytes.count == form.algorithm.bytes ?? bytes.count
            else { continue }
            given.signatures.append((form.algorithm, bytes))
            return
        }
    }

    private func checkRequired(_ description: SignatureDescription, _ request: WebhookRequest) throws(RefusalError) {
        for field in description.required {
            let value = try SignedRequest.header(field.name, of: request)
            if value != field.value {
                throw RefusalError(.malformedHeader, "\(field.name) must be \(field.value): this scheme knows no other")
            }
        }
        for name in description.pointless where try SignedRequest.header(name, of: request).utf8.contains(UInt8(ascii: ".")) {
            throw RefusalError(.malformedHeader, "\(name) must not contain a point")
        }
        if let host = description.keyHost {
            let url = try SignedRequest.header(host.name, of: request)
            if !KeyURL.isAllowed(url, hostSuffixes: [host.value]) {
                throw RefusalError(.malformedHeader, "\(host.name) must be an https URL of a host under \(host.value)")
            }
        }
    }

    // MARK: - When it was signed

    private func timestamp(
        _ description: SignatureDescription, _ attempt: SignatureAttempt, _ given: Given
    ) throws(RefusalError) -> (text: String, moment: Timestamp?)? {
        guard let rule = description.timestamp else { return nil }
        let text: String
        let place: String
        switch rule.place {
        case .body: return nil
        case .header(let name):
            text = try SignedRequest.header(name, of: attempt.request)
            place = name
        case .item(let prefix):
            place = given.header
            guard let found = given.timestamp else {
                throw RefusalError(.malformedHeader, "\(place) must hold one \(prefix) with \(rule.unitName)")
            }
            text = found
        }
        guard let moment = rule.read(text) else {
            if rule.toleranceSeconds == nil, attempt.options.tolerance == nil { return (text, nil) }
            throw RefusalError(.malformedHeader, "the timestamp in \(place) must be \(rule.unitName)")
        }
        return (text, moment)
    }

    private func checkAge(_ rule: SignatureTimestamp, _ moment: Timestamp?, _ attempt: SignatureAttempt) throws(RefusalError) {
        guard let tolerance = attempt.options.tolerance ?? rule.toleranceSeconds.map(Span.seconds), let moment else { return }
        let place =
            switch rule.place {
            case .header(let name): name
            case .item: Self.headers(description(for: attempt), attempt.options)[0]
            case .body(let path): "the body's \(path.joined(separator: "."))"
            }
        try SignedRequest.checkAge(moment, place: place, now: attempt.now, tolerance: tolerance)
    }

    private func checkBodyAge(_ rule: SignatureTimestamp, _ path: [String], _ attempt: SignatureAttempt) throws(RefusalError) {
        guard let text = (try? JSONDocument(attempt.request.body))?.root[path: path]?.text, let moment = rule.read(text) else {
            throw RefusalError(.malformedBody, "the body's \(path.joined(separator: ".")) must hold \(rule.unitName)")
        }
        try checkAge(rule, moment, attempt)
    }

    // MARK: - Whether it matches

    private func matches(
        _ description: SignatureDescription, _ attempt: SignatureAttempt, _ given: Given, _ keys: [VerificationKey], timestampText: String?
    ) throws(RefusalError) -> Bool {
        var matches = false
        for url in try urls(description, attempt) {
            for key in keys {
                let pieces = try pieces(description, attempt, timestampText: timestampText, url: url, key: key)
                var made: [SignatureAlgorithm: [UInt8]] = [:]
                for (algorithm, bytes) in given.signatures {
                    switch key {
                    case .publicKey(let publicKey):
                        if publicKey.verifies(bytes, algorithm, pieces) { matches = true }
                    case .secret(let secret) where algorithm == .secret:
                        if HMACSHA256.equalSecrets(bytes, secret) { matches = true }
                    case .secret(let secret):
                        let code = made[algorithm] ?? MessageCode.code(algorithm, key: secret, pieces)
                        made[algorithm] = code
                        if ConstantTime.equal(bytes, code) { matches = true }
                    }
                }
            }
        }
        return matches
    }

    /// The forms of the URL that may have been signed; one nil where none is.
    private func urls(_ description: SignatureDescription, _ attempt: SignatureAttempt) throws(RefusalError) -> [String?] {
        guard description.content.contains(.url) else { return [nil] }
        let url = try SignedURL.required(attempt)
        return description.decodesURL ? SignedURL.candidates(url) : [url]
    }

    /// What is signed, in pieces that are not joined: the body is not copied.
    func pieces(
        _ description: SignatureDescription, _ attempt: SignatureAttempt, timestampText: String?, url: String?, key: VerificationKey?
    ) throws(RefusalError) -> [[UInt8]] {
        var pieces: [[UInt8]] = []
        pieces.reserveCapacity(description.content.parts.count)
        for part in description.content.parts {
            pieces.append(try bytes(part, attempt, timestampText: timestampText, url: url, key: key))
        }
        return pieces
    }

    private func bytes(
        _ part: ContentTemplate.Part, _ attempt: SignatureAttempt, timestampText: String?, url: String?, key: VerificationKey?
    ) throws(RefusalError) -> [UInt8] {
        switch part {
        case .text(let bytes): return bytes
        case .body: return attempt.request.body
        case .timestamp: return Array((timestampText ?? "").utf8)
        case .method: return Array(attempt.request.method.utf8)
        case .url: return Array((url ?? "").utf8)
        case .secret:
            if case .secret(let secret)? = key { return secret }
            return []
        case .crc32: return Array(String(CRC32.of(attempt.request.body)).utf8)
        case .header(let name): return Array(try SignedRequest.header(name, of: attempt.request).utf8)
        case .parameter(let name):
            guard let value = attempt.options.parameters[name], !value.isEmpty else {
                throw RefusalError(.noSecret, "the connection's webhook needs the parameter \(name) for this scheme: set it")
            }
            return Array(value.utf8)
        }
    }

    // MARK: - What is said of it

    private func malformed(_ description: SignatureDescription, _ header: String) -> RefusalError {
        let prefixes = description.forms.map(\.prefix).filter { !$0.isEmpty }
        let algorithm = description.forms[0].algorithm
        let length = algorithm.bytes.map { "\($0) bytes in " } ?? ""
        let what = "\(length)\(description.encoding.rawValue)"
        let before = prefixes.isEmpty ? "" : "\(prefixes.joined(separator: " or ")) and "
        return RefusalError(
            .malformedHeader, "\(header) \(description.list == nil ? "must be" : "holds no") \(before)\(what) (\(algorithm.rawValue))")
    }

    private func mismatch(_ description: SignatureDescription, _ attempt: SignatureAttempt, _ header: String) -> RefusalError {
        let algorithm = description.forms[0].algorithm
        if algorithm == .secret {
            return RefusalError(.mismatch, "\(header) holds another \(secretName(description)) than this connection")
        }
        let kind = description.forms.map(\.algorithm.rawValue).joined(separator: " or ")
        return RefusalError(
            .mismatch,
            "\(header) is not the \(kind) of \"\(description.content)\" (a body of \(attempt.request.body.count) bytes) under a \(algorithm.isAsymmetric ? "key" : "secret") of this connection"
        )
    }

    private func secretName(_ description: SignatureDescription) -> String {
        description.key == .userPassword ? "user or password" : "token"
    }

    func content(_ attempt: SignatureAttempt) -> SignedContent? {
        let description = description(for: attempt)
        if description.forms[0].algorithm == .secret { return nil }
        let timestampText = timestampText(description, attempt)
        let url = attempt.options.url(of: attempt.request)
        var parts: [SignedContent.Part] = []
        for part in description.content.parts {
            let made = try? bytes(part, attempt, timestampText: timestampText, url: url, key: nil)
            parts.append(SignedContent.Part(name: part.name, bytes: part == .secret ? nil : made ?? []))
        }
        return SignedContent(template: description.content.description, parts: parts)
    }

    private func timestampText(_ description: SignatureDescription, _ attempt: SignatureAttempt) -> String? {
        guard let found = try? given(description, attempt), let stamp = try? timestamp(description, attempt, found) else { return nil }
        return stamp.text
    }

    func moment(_ attempt: SignatureAttempt) -> Timestamp? {
        let description = description(for: attempt)
        guard let rule = description.timestamp else { return nil }
        if case .body(let path) = rule.place {
            return (try? JSONDocument(attempt.request.body))?.root[path: path]?.text.flatMap(rule.read)
        }
        guard let found = try? given(description, attempt), let stamp = try? timestamp(description, attempt, found) else { return nil }
        return stamp.moment
    }
}

extension Substring {
    /// Without the spaces and tabs around it.
    fileprivate func trimmingSpaces() -> Substring {
        var bytes = utf8[...]
        while bytes.first == 0x20 || bytes.first == 0x09 { bytes.removeFirst() }
        while bytes.last == 0x20 || bytes.last == 0x09 { bytes.removeLast() }
        return Substring(bytes)
    }
}
