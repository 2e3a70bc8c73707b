import Crypto
import SluiceConnectors
import SluiceCore
import SluiceStore

/// Turns a verified webhook into what the inbox keeps: whom it signals, how a repetition is recognised, and a copy of
/// the request without what must stay secret. Pure but for the call of the connector.
enum InboxDraft {
    static func entry(
        for request: WebhookRequest, connection: GatewayConnection, jsonDepthMax: Int, isForced: Bool, at now: Timestamp
    ) -> InboxEntry {
        var request = request
        let deliveryID = deliveryID(of: &request, connection: connection, jsonDepthMax: jsonDepthMax)
        let match = match(request, connection: connection, jsonDepthMax: jsonDepthMax)
        // Where nothing is signed, anyone who knows the URL could claim ids first and so suppress genuine webhooks.
        let digest = connection.scheme.signsBody ? deliveryID.map { Self.digest(connection, request, deliveryID: $0) } : nil
        return InboxEntry(
            namespace: connection.namespace, connection: connection.id, receivedAt: now, method: request.method,
            path: visiblePath(request.path), query: connection.scheme.visibleQuery(request.query),
            headers: visibleHeaders(request.headers, of: connection),
            body: request.body, deliveryID: deliveryID, deliveryDigest: digest, isForced: isForced, topics: match.topics,
            unmatchedReason: match.unmatchedReason)
    }

    // MARK: - Whom it signals

    struct Match: Equatable {
        var topics: [TopicID]
        var unmatchedReason: String?
    }

    /// The topics of the keys that triggers listen for. What cannot be read signals the whole connection; a key that is
    /// simply unknown signals nobody. The body need not be JSON if the connector can do without.
    static func match(_ request: WebhookRequest, connection: GatewayConnection, jsonDepthMax: Int) -> Match {
        // The address is the key: nobody else knows it.
        if let topic = connection.subscriptionTopic { return Match(topics: [topic], unmatchedReason: nil) }
        let everyWebhook = connection.topicsByKey[GatewayConnection.everyWebhook]
        let keys: [String]
        do {
            keys = try connection.connector.webhookKeys(request)
        } catch {
            let message = ((error as? SluiceError)?.message ?? "\(error)").prefix(500)
            let cause = unreadableReason(request, jsonDepthMax: jsonDepthMax).map { "; \($0)" } ?? ""
            return unreadable("webhook_keys failed: \(message)\(cause)", connection)
        }
        var topics = everyWebhook.map { [$0] } ?? []
        for key in keys {
            if let topic = connection.topicsByKey[key], !topics.contains(topic) { topics.append(topic) }
        }
        if !topics.isEmpty { return Match(topics: topics, unmatchedReason: nil) }
        // Keys made from a body that cannot be read mean nothing: not "unknown", but "may be anything".
        if let reason = unreadableReason(request, jsonDepthMax: jsonDepthMax) { return unreadable(reason, connection) }
        guard let first = keys.first else { return unreadable("webhook_keys gave no key", connection) }
        let others = keys.count > 1 ? " nor for \(keys.count - 1) more" : ""
        return Match(topics: [], unmatchedReason: "no trigger listens for key \(first.prefix(200))\(others)")
    }

    private static func unreadable(_ reason: String, _ connection: GatewayConnection) -> Match {
        let all = connection.topicsByKey[GatewayConnection.everyWebhook]
        return Match(topics: [connection.wholeConnectionTopic] + (all.map { [$0] } ?? []), unmatchedReason: reason)
    }

    private static func unreadableReason(_ request: WebhookRequest, jsonDepthMax: Int) -> String? {
        var request = request
        do throws(JSONError) {
            _ = try request.checkBody(depthMax: jsonDepthMax)
            return nil
        } catch {
            return "the body cannot be read: it \(error)"
        }
    }

    // MARK: - How a repetition is recognised

    static let deliveryIDBytesMax = 512

    /// Checks the body once for everyone after it, if it has to look inside.
    static func deliveryID(of request: inout WebhookRequest, connection: GatewayConnection, jsonDepthMax: Int) -> String? {
        let id: String?
        switch connection.deliveryID {
        case nil: return nil
        case .header(let name): id = request.header(name)
        case .body(let path): id = (try? request.checkBody(depthMax: jsonDepthMax))?.root[path: path]?.text
        }
        guard let id, !id.isEmpty, id.utf8.count <= deliveryIDBytesMax else { return nil }
        return id
    }

    /// SHA-256 over connection, URL, delivery id and body, each behind its length so that no two requests run together.
    static func digest(_ connection: GatewayConnection, _ request: WebhookRequest, deliveryID: String) -> [UInt8] {
        var head: [UInt8] = []
        head.reserveCapacity(32 + request.path.utf8.count + deliveryID.utf8.count)
        append(UInt64(bitPattern: connection.id.rawValue), to: &head)
        append(UInt64(request.path.utf8.count), to: &head)
        head.append(contentsOf: request.path.utf8)
        append(UInt64(deliveryID.utf8.count), to: &head)
        head.append(contentsOf: deliveryID.utf8)
        var hash = SHA256()
        head.withUnsafeBytes { hash.update(bufferPointer: $0) }
        request.body.withUnsafeBytes { hash.update(bufferPointer: $0) }
        return Array(hash.finalize())
    }

    private static func append(_ number: UInt64, to bytes: inout [UInt8]) {
        for shift in stride(from: 56, through: 0, by: -8) { bytes.append(UInt8(truncatingIfNeeded: number >> UInt64(shift))) }
    }

    // MARK: - What may be shown

    /// The token of the URL is a secret: four characters are enough to tell two apart.
    static func visiblePath(_ path: String) -> String {
        guard let token = HookPath.token(path) else { return path }
        return HookPath.prefix + token.prefix(4) + "…"
    }

    private static let redacted = Array("[redacted]".utf8)

    /// `name: value` lines; the values of headers that carry credentials are left out.
    static func visibleHeaders(_ headers: [HTTPField], of connection: GatewayConnection) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(headers.reduce(0) { $0 + $1.name.utf8.count + $1.value.utf8.count + 3 })
        for header in headers {
            if !bytes.isEmpty { bytes.append(0x0A) }
            bytes.append(contentsOf: header.name.utf8)
            bytes.append(0x3A)
            bytes.append(0x20)
            if isCredential(header.name, of: connection) {
                bytes.append(contentsOf: redacted)
            } else {
                bytes.append(contentsOf: header.value.utf8)
            }
        }
        return bytes
    }

    private static func isCredential(_ name: String, of connection: GatewayConnection) -> Bool {
        if let own = connection.schemeOptions.headerName, ASCII.equalIgnoringCase(name, own) { return true }
        for own in connection.scheme.credentialHeaders where ASCII.equalIgnoringCase(name, own) { return true }
        // By length first: this runs for each header of each webhook.
        switch name.utf8.count {
        case 6: return ASCII.equalIgnoringCase(name, "cookie")
        case 13: return ASCII.equalIgnoringCase(name, "authorization")
        case 15: return ASCII.equalIgnoringCase(name, "x-webhook-token")
        case 19: return ASCII.equalIgnoringCase(name, "proxy-authorization")
        default: return false
        }
    }
}

/// The shape of a webhook's URL: `/hooks/TOKEN`.
enum HookPath {
    static let prefix = "/hooks/"
    static let baselinePrefix = "/baseline/"

    /// The token, or nil if this is no such path.
    static func token(_ path: String) -> Substring? {
        guard path.utf8.starts(with: prefix.utf8) else { return nil }
        let token = path.utf8.dropFirst(prefix.utf8.count)
        return token.isEmpty || token.contains(UInt8(ascii: "/")) ? nil : Substring(token)
    }
}
