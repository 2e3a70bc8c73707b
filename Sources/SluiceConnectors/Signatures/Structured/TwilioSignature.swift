import SluiceCore

/// Twilio: HMAC-SHA1 over the URL and, for forms, all fields sorted by name; for other bodies the URL holds their SHA-256.
/// Source: Twilio, "Validating Signatures from Twilio"; twilio-python, `request_validator.py`.
struct TwilioSignature: SignatureRecipe {
    static let header = "X-Twilio-Signature"
    static let template = "{url} and each form field's name and value, sorted; or {url} whose bodySHA256 is that of {body}"
    private static let hashParameter = "bodySHA256"

    func check(_ attempt: SignatureAttempt) throws(RefusalError) {
        let keys = try SignedRequest.keys(attempt.secrets) { [Array($0.utf8)] }
        let header = try SignedRequest.header(Self.header, of: attempt.request)
        guard let code = SignatureEncoding.base64.decode(header[...].utf8), code.count == 20 else {
            throw RefusalError(.malformedHeader, "\(Self.header) must be 20 bytes in base64")
        }
        let url = try SignedURL.required(attempt)
        let fields = try fields(attempt.request, url: url)
        var matches = false
        for candidate in Self.candidates(url) {
            for key in keys where ConstantTime.equal(code, MessageCode.code(.hmacSHA1, key: key, [Array(candidate.utf8), fields])) {
                matches = true
            }
        }
        if !matches {
            throw RefusalError(
                .mismatch, "\(Self.header) is not the HMAC-SHA1 of the URL and the sorted form fields under a secret of this connection")
        }
    }

    /// The form's names and values as they are signed; empty for other bodies, whose hash the URL must hold.
    private func fields(_ request: WebhookRequest, url: String) throws(RefusalError) -> [UInt8] {
        let query = url.split(separator: "?", maxSplits: 1).dropFirst().first.map(String.init) ?? ""
        if let hash = FormData.first(Self.hashParameter, in: query) {
            guard let given = Hex.bytes(hash), ConstantTime.equal(given, HMACSHA256.bytes(HMACSHA256.sha256(request.body))) else {
                throw RefusalError(
                    .mismatch, "the URL's \(Self.hashParameter) is not the SHA-256 of the body (\(request.body.count) bytes)")
            }
            return []
        }
        if request.body.isEmpty { return [] }
        let type = request.header("Content-Type") ?? ""
        guard ASCII.equalIgnoringCase(String(type.prefix(33)), "application/x-www-form-urlencoded") else {
            throw RefusalError(.malformedHeader, "the body is no form, and the URL holds no \(Self.hashParameter): nothing signs the body")
        }
        guard let pairs = FormData.pairs(request.body) else {
            throw RefusalError(.malformedBody, "the form has more than \(FormData.pairsMax) fields")
        }
        return Self.sorted(pairs)
    }

    /// By name, then by value; a field that is there twice with the same value counts once.
    private static func sorted(_ pairs: [FormData.Pair]) -> [UInt8] {
        let sorted = pairs.sorted { left, right in
            left.name == right.name
                ? left.value.lexicographicallyPrecedes(right.value) : left.name.lexicographicallyPrecedes(right.name)
        }
        var bytes: [UInt8] = []
        for (index, pair) in sorted.enumerated() where index == 0 || sorted[index - 1] != pair { bytes += pair.name + pair.value }
        return bytes
    }

    /// The URL as it is, and with or without the port that its scheme implies: Twilio signs either.
    static func candidates(_ url: String) -> [String] {
        guard let mark = url.firstRange(of: "://") else { return [url] }
        let port = url[..<mark.lowerBound] == "https" ? ":443" : url[..<mark.lowerBound] == "http" ? ":80" : ""
        let rest = url[mark.upperBound...]
        let end = rest.firstIndex { $0 == "/" || $0 == "?" || $0 == "#" } ?? rest.endIndex
        let host = rest[..<end]
        if port.isEmpty { return [url] }
        if host.hasSuffix(port) { return [url, String(url[..<mark.upperBound]) + host.dropLast(port.count) + rest[end...]] }
        if host.contains(":") { return [url] }
        return [url, String(url[..<mark.upperBound]) + host + port + rest[end...]]
    }

    func content(_ attempt: SignatureAttempt) -> SignedContent? {
        guard let url = attempt.options.url(of: attempt.request), let fields = try? fields(attempt.request, url: url) else { return nil }
        return SignedContent(
            template: Self.template, parts: [.init(name: "url", bytes: Array(url.utf8)), .init(name: "fields", bytes: fields)])
    }
}

/// Forms as browsers and Twilio write them (WHATWG URL, application/x-www-form-urlencoded).
enum FormData {
    static let pairsMax = 10_000

    struct Pair: Equatable {
        var name: [UInt8]
        var value: [UInt8]
    }

    /// Nil for more pairs than anybody sends.
    static func pairs(_ bytes: some Collection<UInt8>) -> [Pair]? {
        var pairs: [Pair] = []
        for part in bytes.split(separator: UInt8(ascii: "&")) {
            if pairs.count == pairsMax { return nil }
            let halves = part.split(separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
            pairs.append(Pair(name: decode(halves[0]), value: halves.count == 2 ? decode(halves[1]) : []))
        }
        return pairs
    }

    /// The first value of a name; nil if there is none.
    static func first(_ name: String, in query: String) -> [UInt8]? {
        let wanted = Array(name.utf8)
        return pairs(query.utf8)?.first { $0.name == wanted }?.value
    }

    /// `+` is a space; a percent sign without two digits stands for itself.
    private static func decode(_ text: some Collection<UInt8>) -> [UInt8] {
        let bytes = Array(text)
        var decoded: [UInt8] = []
        decoded.reserveCapacity(bytes.count)
        var index = 0
        while index < bytes.count {
            if bytes[index] == UInt8(ascii: "%"), index + 2 < bytes.count,
                let byte = Hex.bytes(bytes[index + 1...index + 2], allowsCapitals: true)?.first
            {
                decoded.append(byte)
                index += 3
            } else {
                decoded.append(bytes[index] == UInt8(ascii: "+") ? 0x20 : bytes[index])
                index += 1
            }
        }
        return decoded
    }
}
