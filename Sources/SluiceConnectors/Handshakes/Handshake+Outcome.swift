import SluiceCore

extension Handshake {
    /// A challenge is at most this long and holds printable ASCII only.
    public static let challengeBytesMax = 1024
    /// One that is answered with its signature is shorter, and holds letters, digits and `+/=_-` only: X sends a UUID or base64 of
    /// one, Zoom 22 letters. No webhook's body looks like that, nor what Zoom signs, `v0:{timestamp}:{body}`.
    public static let signedChallengeBytesMax = 128

    /// The first outcome among several handshakes that is one. `isVerified`: the signature was verified; those that need
    /// none are asked before that, the others after it.
    public static func outcome(
        _ request: HandshakeRequest, among handshakes: [Handshake], isVerified: Bool, _ context: @autoclosure () -> HandshakeContext
    ) -> HandshakeOutcome {
        for handshake in handshakes where handshake.needsSignature == isVerified && handshake.recognizes(request) {
            return handshake.outcome(request, context())
        }
        return .notAHandshake
    }

    func recognizes(_ request: HandshakeRequest) -> Bool {
        recognition.allSatisfy { sign in
            switch sign {
            case .method(let methods): return methods.contains(request.method)
            case .present(let place): return request.text(place) != nil
            case .absent(let place): return request.text(place) == nil
            case .equals(let place, let values): return request.text(place).map(values.contains) ?? false
            case .onlyMember(let key): return request.root?.members.map { $0.count == 1 && $0[0].key == key } ?? false
            case .emptyList(let path): return request.value(path)?.elements?.isEmpty ?? false
            case .formOfDigits(let name):
                let prefix = Array((name + "=").utf8)
                guard request.bodyText.starts(with: prefix) else { return false }
                let value = request.bodyText.dropFirst(prefix.count)
                return (1...20).contains(value.count) && value.allSatisfy { (0x30...0x39).contains($0) }
            }
        }
    }

    private func outcome(_ request: HandshakeRequest, _ context: HandshakeContext) -> HandshakeOutcome {
        do throws(HandshakeRefusal) {
            for proof in proofs { try check(proof, request, context) }
            let action = try task(request, context)
            return .answer(try answer(request, context), action)
        } catch {
            return .refused(status: error.status, reason: "\(name) handshake: \(error.reason)")
        }
    }

    private func check(_ proof: Proof, _ request: HandshakeRequest, _ context: HandshakeContext) throws(HandshakeRefusal) {
        switch proof {
        case .secretField(let place, let field):
            guard let own = context.fields[field], !own.isEmpty else {
                throw HandshakeRefusal(403, "the connection has no field \(field): set it to the token that was given to the provider")
            }
            guard let given = request.text(place), HMACSHA256.equalSecrets(Array(given.utf8), Array(own.utf8)) else {
                throw HandshakeRefusal(403, "the token is not the connection's \(field)")
            }
        case .field(let place, let field, let isOptional):
            guard let own = context.fields[field], !own.isEmpty else {
                if isOptional { return }
                throw HandshakeRefusal(404, "the connection has no field \(field): set it to what was asked for at the provider")
            }
            guard request.text(place) == own else {
                throw HandshakeRefusal(404, "it is about something else than the connection's \(field)")
            }
        }
    }

    private func answer(_ request: HandshakeRequest, _ context: HandshakeContext) throws(HandshakeRefusal) -> HandshakeAnswer {
        switch reply {
        case .status(let status): return HandshakeAnswer(status: status)
        case .text(let place):
            return .reflecting("text/plain; charset=utf-8", Array(try challenge(place, request).utf8))
        case .json(let members):
            var pairs: [(String, HandshakeReply.Value, String)] = []
            for (key, value) in members { pairs.append((key, value, try text(value, request, context))) }
            var writer = JSONWriter()
            writer.object { writer in
                for (key, value, text) in pairs {
                    if case .number(let number) = value { writer.member(key, number) } else { writer.member(key, text) }
                }
            }
            return .reflecting("application/json", writer.bytes)
        case .header(let name):
            let value = try challenge(.header(name), request)
            return HandshakeAnswer(status: 200, headers: [HTTPField(name, value)])
        case .permission(let origin, let rate): return try permission(origin, rate, request, context)
        }
    }

    private func text(
        _ value: HandshakeReply.Value, _ request: HandshakeRequest, _ context: HandshakeContext
    ) throws(HandshakeRefusal) -> String {
        switch value {
        case .number: return ""
        case .echo(let place): return try challenge(place, request)
        case .hmacHex(let place): return Hex.text(try code(place, request, context))
        case .hmacBase64(let place, let prefix):
            let code = try code(place, request, context)
            return prefix + Base64.encode((0..<32).map { code[$0] })
        }
    }

    private func code(
        _ place: Place, _ request: HandshakeRequest, _ context: HandshakeContext
    ) throws(HandshakeRefusal) -> HMACSHA256.Code {
        guard let secret = context.secrets.first, !secret.isEmpty else {
            throw HandshakeRefusal(403, "the connection has no webhook secret to answer with: set it")
        }
        let text = try challenge(place, request)
        // Otherwise whoever knows the address could have a webhook signed: the same key signs bodies.
        guard text.utf8.count <= Handshake.signedChallengeBytesMax, text.utf8.allSatisfy(Handshake.isTokenByte) else {
            throw HandshakeRefusal(
                400, "the challenge is longer than \(Handshake.signedChallengeBytesMax) bytes or holds other characters than a token's")
        }
        return HMACSHA256.code(key: Array(secret.utf8), Array(text.utf8), [])
    }

    /// What may be reflected: short, printable, ASCII.
    private func challenge(_ place: Place, _ request: HandshakeRequest) throws(HandshakeRefusal) -> String {
        guard let text = request.text(place), !text.isEmpty else { throw HandshakeRefusal(400, "it has no challenge") }
        guard text.utf8.count <= Handshake.challengeBytesMax, text.utf8.allSatisfy({ (0x20...0x7E).contains($0) }) else {
            throw HandshakeRefusal(400, "the challenge is longer than \(Handshake.challengeBytesMax) bytes or not printable ASCII")
        }
        return text
    }

    private func permission(
        _ origin: String, _ rate: String, _ request: HandshakeRequest, _ context: HandshakeContext
    ) throws(HandshakeRefusal) -> HandshakeAnswer {
        let sender = try challenge(.header(origin), request)
        guard sender.utf8.count <= 255, sender == "*" || sender.utf8.allSatisfy(Handshake.isHostByte) else {
            throw HandshakeRefusal(400, "the origin is no DNS name")
        }
        var headers = [HTTPField("Allow", "POST, PUT"), HTTPField("WebHook-Allowed-Origin", sender)]
        if let asked = request.text(.header(rate)) {
            guard asked == "*" || (asked.utf8.count <= 9 && Int(asked) ?? 0 > 0) else {
                throw HandshakeRefusal(400, "the rate is neither a positive number nor *")
            }
            headers.append(HTTPField("WebHook-Allowed-Rate", String(min(Int(asked) ?? .max, context.requestsPerMinuteMax))))
        }
        return HandshakeAnswer(status: 200, headers: headers)
    }

    // MARK: - What is done besides

    private func task(_ request: HandshakeRequest, _ context: HandshakeContext) throws(HandshakeRefusal) -> HandshakeAction? {
        switch action {
        case nil: return nil
        case .learnSecret(let place):
            // Otherwise whoever learns the address could replace the secret and sign with his own.
            guard context.mayLearnSecret else {
                throw HandshakeRefusal(409, "this address has its secret already: give the provider a new address (rotate-url)")
            }
            return .learnSecret(try challenge(place, request))
        case .confirm(let place, let rule):
            guard let text = request.text(place) else { return nil }
            guard let address = try? WebAddress(text), address.isSecure, address.literal == nil, text.utf8.count <= 2048,
                allows(address, rule, request)
            else { throw HandshakeRefusal(400, "the URL to confirm is not https at a host of the provider") }
            return .confirm(url: address.url)
        }
    }

    private func allows(_ address: WebAddress, _ rule: HandshakeTask.HostRule, _ request: HandshakeRequest) -> Bool {
        let labels = address.host.split(separator: ".", omittingEmptySubsequences: false)
        switch rule {
        case .simpleNotificationService:
            let tail = labels.dropFirst(2).joined(separator: ".")
            return address.port == 443 && labels.first == "sns" && ["amazonaws.com", "amazonaws.com.cn"].contains(tail)
        case .kinOf(let header):
            guard let origin = request.text(.header(header))?.lowercased(), origin.split(separator: ".").count >= 2 else { return false }
            return labels.count >= 2
                && (address.host == origin || address.host.hasSuffix("." + origin) || origin.hasSuffix("." + address.host))
        }
    }

    private static func isTokenByte(_ byte: UInt8) -> Bool {
        ASCII.lowercased(byte) &- 0x61 < 26 || byte &- 0x30 < 10 || "+/=_-".utf8.contains(byte)
    }

    private static func isHostByte(_ byte: UInt8) -> Bool {
        ASCII.lowercased(byte) &- 0x61 < 26 || byte &- 0x30 < 10 || "-._:".utf8.contains(byte)
    }
}

/// A handshake that must not be answered.
private struct HandshakeRefusal: Error {
    var status: Int
    var reason: String
    init(_ status: Int, _ reason: String) {
        self.status = status
        self.reason = reason
    }
}
