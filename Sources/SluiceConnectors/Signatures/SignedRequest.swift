import SluiceCore

/// What the schemes share: reading headers so that every oddity becomes a refusal, and judging timestamps.
enum SignedRequest {
    /// A signature header longer than this is refused unread.
    static let headerBytesMax = 8 * 1024
    /// Digits of a timestamp in seconds: enough for some 30,000 years, too few to overflow.
    private static let timestampDigitsMax = 12

    /// A header that must be there once. Throws a refusal that names it.
    static func header(_ name: String, of request: WebhookRequest, bytesMax: Int = headerBytesMax) throws(RefusalError) -> String {
        var found: String?
        for field in request.headers where ASCII.equalIgnoringCase(field.name, name) {
            if found != nil { throw RefusalError(.malformedHeader, "the header \(name) came more than once") }
            found = field.value
        }
        guard let found else {
            throw RefusalError(.missingHeader, "the header \(name) is missing: the sender does not sign, or not with this scheme")
        }
        let count = found.utf8.count
        if count == 0 { throw RefusalError(.malformedHeader, "the header \(name) is empty") }
        if count > bytesMax {
            throw RefusalError(.malformedHeader, "the header \(name) has \(count) bytes, and at most \(bytesMax) are read")
        }
        return found
    }

    /// Whole seconds since 1970, digits only; nil for anything else.
    static func seconds(_ digits: some Collection<UInt8>) -> Int64? {
        self.digits(digits, max: timestampDigitsMax)
    }

    /// A whole number of at most so many digits, at most 18; nil for anything else.
    static func digits(_ digits: some Collection<UInt8>, max: Int) -> Int64? {
        guard (1...max).contains(digits.count) else { return nil }
        var value: Int64 = 0
        for byte in digits {
            guard byte &- 0x30 < 10 else { return nil }
            value = value * 10 + Int64(byte - 0x30)
        }
        return value
    }

    /// Refuses a signed moment that lies too far from now, in either direction.
    static func checkAge(_ seconds: Int64, header: String, now: Timestamp, tolerance: Span) throws(RefusalError) {
        try checkAge(Timestamp(seconds: seconds), place: header, now: now, tolerance: tolerance)
    }

    /// The same for a moment that stands elsewhere.
    static func checkAge(_ moment: Timestamp, place header: String, now: Timestamp, tolerance: Span) throws(RefusalError) {
        let age = now - moment
        if age <= tolerance, Span.zero - age <= tolerance { return }
        let allowed = "at most \(tolerance.milliseconds / 1000) s are accepted"
        if age > tolerance {
            throw RefusalError(
                .stale,
                "the timestamp in \(header) is \((age.milliseconds + 999) / 1000) s old, and \(allowed): a replay, or a clock that is wrong"
            )
        } else {
            throw RefusalError(
                .fromTheFuture,
                "the timestamp in \(header) lies \((999 - age.milliseconds) / 1000) s ahead, and \(allowed): check this machine's clock")
        }
    }

    /// The keys that hold, empty secrets left out: an empty key would let anybody sign.
    static func keys(_ secrets: [String], _ read: (String) -> [[UInt8]]) throws(RefusalError) -> [[UInt8]] {
        let keys = secrets.flatMap(read).filter { !$0.isEmpty }
        if keys.isEmpty { throw RefusalError(.noSecret, "the connection has no usable webhook secret for this scheme: set one") }
        return keys
    }

    /// A scheme's check from a body that throws refusals.
    static func verdict(_ body: () throws(RefusalError) -> Void) -> Verdict {
        do throws(RefusalError) {
            try body()
            return .valid
        } catch {
            return .refused(error.refusal)
        }
    }
}

/// Carries a refusal out of the parts of a check.
struct RefusalError: Error {
    var refusal: Refusal
    init(_ reason: Refusal.Reason, _ message: String) { refusal = Refusal(reason, message) }
}
