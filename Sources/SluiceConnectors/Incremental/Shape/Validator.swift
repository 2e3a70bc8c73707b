import SluiceCore

/// What a provider gave to ask later whether a list has changed: an ETag or a Last-Modified (RFC 9110, 8.8 and 13.1).
///
/// A 304 means that nothing is new, so a validator is only kept where that follows from it:
/// - of a cycle's first page, and only if it was the last one too. Otherwise the news may be on a page that was not asked for;
/// - if that page had room for more, or the list is in descending order. A full page stays as it is when another begins;
/// - for exactly that request: the same URL, headers and body. A cursor that moved makes another URL;
/// - a Last-Modified only if it lay a minute before the answer's Date: a second change in the same second leaves it as it is;
/// - for so many polls in a row and for a day. Then the list is read whole, which also renews the dedup keys of lists without
///   marks (P4), and lets the mark of an idle feed follow the clock.
struct Validator: Equatable, Sendable {
    /// Tells the request that it is for: hex of a hash.
    var request: String
    var etag: String?
    var lastModified: String?
    /// When the answer came, by the clock passed in.
    var at = Timestamp.distantPast
    /// Answers with 304 in a row.
    var unchanged: Int64 = 0

    /// A list is read whole at the latest after this many answers without news; a fraction of `DedupRetention.cyclesKept`.
    static let unchangedMax: Int64 = 50
    static let ageMax = Span.days(1)
    static let strongAge = Span.seconds(60)
    private static let textBytesMax = 1024

    /// What an answer gives; nil where it gives nothing that can be relied on.
    init?(of reply: HTTPReply, for request: String, at now: Timestamp) {
        self.request = request
        at = now
        if let etag = reply.headers.first("ETag"), Validator.isUsable(etag) {
            self.etag = etag
        } else if let text = reply.headers.first("Last-Modified"), Validator.isUsable(text), let time = HTTPDate.parse(text),
            let date = reply.serverDate, date - time >= Validator.strongAge
        {
            lastModified = text
        } else {
            return nil
        }
    }

    private static func isUsable(_ text: String) -> Bool {
        !text.isEmpty && text.utf8.count <= textBytesMax && text.utf8.allSatisfy { $0 >= 0x20 && $0 < 0x7F }
    }

    init?(_ view: JSONView) {
        guard let request = view["for"]?.string else { return nil }
        self.request = request
        etag = view["etag"]?.string
        lastModified = view["last_modified"]?.string
        at = view["at"]?.int64.map { Timestamp(milliseconds: $0) } ?? .distantPast
        unchanged = view["unchanged"]?.int64 ?? 0
    }

    func write(to writer: inout JSONWriter) {
        writer.object { writer in
            writer.member("for", request)
            if let etag { writer.member("etag", etag) }
            if let lastModified { writer.member("last_modified", lastModified) }
            writer.member("at", at.milliseconds)
            if unchanged > 0 { writer.member("unchanged", unchanged) }
        }
    }

    /// Adds If-None-Match or If-Modified-Since; false if this is not the time or the request for it.
    func condition(_ plan: inout HTTPRequestPlan, of poll: PollRequest) -> Bool {
        guard unchanged < Validator.unchangedMax, poll.now >= at, poll.now < at + Validator.ageMax,
            request == Validator.fingerprint(plan, poll.connection)
        else { return false }
        if let etag {
            plan.headers.set("If-None-Match", etag)
        } else if let lastModified {
            plan.headers.set("If-Modified-Since", lastModified)
        } else {
            return false
        }
        return true
    }

    /// Whose answer, and to what: the connection (whose credentials may be added later), method, URL, headers and body.
    static func fingerprint(_ plan: HTTPRequestPlan, _ connection: JSONDocument) -> String {
        var writer = JSONWriter()
        writer.array { writer in
            writer.raw(connection.root.bytes)
            writer.value(plan.method)
            writer.value(plan.url)
            for field in plan.headers {
                writer.value(field.name)
                writer.value(field.value)
            }
        }
        return String(Hex.text(HMACSHA256.sha256(writer.bytes + plan.body)).prefix(32))
    }
}
