import CNATS
import SluiceCore

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// One connection to one NATS server, and the inbox on which it hears acknowledgements. Blocks; not for several at once.
///
/// The library reconnects nothing by itself: a connection that broke is made anew by the courier, which asks for addresses and
/// checks them again. So what a server says of other servers leads nowhere.
final class NATSLink {
    struct Failure: Error {
        var message: String
        var isConnectFailure = true
    }

    /// A message and, once it has come, what was answered.
    struct Message: Sendable {
        var subject: String
        var id: String
        var payload: [UInt8]
    }

    private let connection: OpaquePointer
    private let subscription: OpaquePointer?
    private let inbox: String
    /// Told apart by number: a late acknowledgement of an earlier batch is not one of this.
    private var round = 0
    let payloadMax: Int

    /// Connects, within `milliseconds`.
    init(_ destination: NATSDestination, _ server: NATSAddress, at address: IPAddress, milliseconds: Int64) throws(Failure) {
        let signer = try NATSSigner.make(destination.credentials)
        var options: OpaquePointer?
        var status = natsOptions_Create(&options)
        defer { natsOptions_Destroy(options) }
        if status == NATS_OK { status = NATSLink.set(options, destination, server, address, milliseconds, signer) }
        guard status == NATS_OK else { throw NATSLink.failure(status, "the options of the connection were refused") }
        // The signer is asked while the connection is made, and never after.
        var made: OpaquePointer?
        status = withExtendedLifetime(signer) { natsConnection_Connect(&made, options) }
        guard status == NATS_OK, let connected = made else { throw NATSLink.refusal(status, server) }
        var (created, listening): (UnsafeMutablePointer<CChar>?, OpaquePointer?)
        status = natsInbox_Create(&created)
        defer { natsInbox_Destroy(created) }
        let name = created.map { String(cString: $0) } ?? ""
        if status == NATS_OK { status = natsConnection_SubscribeSync(&listening, connected, name + ".*") }
        guard status == NATS_OK else {
            natsConnection_Destroy(connected)
            throw NATSLink.failure(status, "no inbox for the acknowledgements could be made")
        }
        (connection, subscription, inbox) = (connected, listening, name)
        payloadMax = Int(natsConnection_GetMaxPayload(connected))
    }

    deinit {
        natsSubscription_Destroy(subscription)
        natsConnection_Destroy(connection)
    }

    var isOpen: Bool { natsConnection_Status(connection) == NATS_CONN_STATUS_CONNECTED }

    /// Publishes all and waits for what is answered to each, at most so long. Nil for those to which nothing was; then, and
    /// whenever it says why, the link is of no further use.
    func publish(
        _ messages: [Message], headers: [(name: String, value: String)], milliseconds: Int64
    ) -> (answers: [NATSAcknowledgement?], problem: String?) {
        round += 1
        var answers = [NATSAcknowledgement?](repeating: nil, count: messages.count)
        let deadline = ContinuousClock.now + .milliseconds(milliseconds)
        var sent = 0
        for (index, message) in messages.enumerated() {
            let status = send(message, reply: "\(inbox).\(round)-\(index)", headers)
            guard status == NATS_OK else { return (answers, text(status, "the message could not be sent")) }
            sent += 1
        }
        var open = sent
        while open > 0 {
            let left = Int64(ContinuousClock.now.duration(to: deadline) / .milliseconds(1))
            guard left > 0 else { return (answers, silence()) }
            var reply: OpaquePointer?
            let status = natsSubscription_NextMsg(&reply, subscription, left)
            defer { natsMsg_Destroy(reply) }
            if status == NATS_TIMEOUT { return (answers, silence()) }
            // The library says so and keeps the message; whose it was is known once all others are answered.
            if status == NATS_NO_RESPONDERS {
                open -= 1
                continue
            }
            guard status == NATS_OK, let reply else {
                return (answers, text(status, "the connection was lost before an acknowledgement came"))
            }
            guard let index = index(of: reply), answers.indices.contains(index), answers[index] == nil else { continue }
            answers[index] = natsMsg_IsNoResponders(reply) ? .noStream : NATSAcknowledgement(payload(reply))
            open -= 1
        }
        return (answers.map { $0 ?? .noStream }, nil)
    }

    private func send(_ message: Message, reply: String, _ headers: [(name: String, value: String)]) -> natsStatus {
        var made: OpaquePointer?
        var status = message.payload.withUnsafeBytes { bytes in
            natsMsg_Create(&made, message.subject, reply, bytes.baseAddress?.assumingMemoryBound(to: CChar.self), Int32(bytes.count))
        }
        defer { natsMsg_Destroy(made) }
        for header in [("Nats-Msg-Id", message.id)] + headers where status == NATS_OK {
            status = natsMsgHeader_Set(made, header.0, header.1)
        }
        return status == NATS_OK ? natsConnection_PublishMsg(connection, made) : status
    }

    private func index(of reply: OpaquePointer) -> Int? {
        guard let subject = natsMsg_GetSubject(reply).map({ String(cString: $0) }) else { return nil }
        let prefix = "\(inbox).\(round)-"
        return subject.hasPrefix(prefix) ? Int(subject.dropFirst(prefix.count)) : nil
    }

    private func payload(_ reply: OpaquePointer) -> [UInt8] {
        guard let data = natsMsg_GetData(reply) else { return [] }
        return Array(UnsafeRawBufferPointer(start: data, count: Int(natsMsg_GetDataLength(reply))))
    }

    // MARK: - Words

    /// Nothing was answered. The server may have said why: permissions are refused beside the message.
    private func silence() -> String {
        var last: UnsafePointer<CChar>?
        let status = natsConnection_GetLastError(connection, &last)
        let said = last.map { String(cString: $0) } ?? ""
        if status == NATS_NOT_PERMITTED || said.lowercased().contains("permissions violation") {
            return "the NATS server does not let this user publish there: \(said.prefix(200))"
        }
        return "JetStream did not acknowledge the message in time"
    }

    private func text(_ status: natsStatus, _ what: String) -> String {
        var last: UnsafePointer<CChar>?
        _ = natsConnection_GetLastError(connection, &last)
        let said = last.map { String(cString: $0) } ?? ""
        return what + ": " + (said.isEmpty ? NATSLink.word(status) : String(said.prefix(200)))
    }

    private static func word(_ status: natsStatus) -> String { natsStatus_GetText(status).map { String(cString: $0) } ?? "unknown" }

    private static func failure(_ status: natsStatus, _ what: String) -> Failure { Failure(message: "\(what): \(word(status))") }

    private static func refusal(_ status: natsStatus, _ server: NATSAddress) -> Failure {
        let place = "the NATS server \(server.host):\(server.port)"
        let detail = nats_GetLastError(nil).map { String(cString: $0) } ?? ""
        switch status {
        case NATS_CONNECTION_AUTH_FAILED, NATS_NOT_PERMITTED:
            return Failure(message: "\(place) refused the credentials: mend `user` and `password`, `token`, `nkey` or `credentials`")
        case NATS_SECURE_CONNECTION_WANTED:
            return Failure(message: "\(place) offers no TLS, which tls:// asks for: mend its configuration or `url`")
        case NATS_SSL_ERROR: return Failure(message: "\(place): no TLS connection: \(detail.prefix(200)): mend `tls` or its certificate")
        case NATS_NO_SERVER, NATS_IO_ERROR, NATS_TIMEOUT: return Failure(message: "\(place) cannot be reached")
        default: return Failure(message: "\(place): \(word(status))" + (detail.isEmpty ? "" : ": \(detail.prefix(200))"))
        }
    }
}

extension NATSLink {
    private static func set(
        _ options: OpaquePointer?, _ destination: NATSDestination, _ server: NATSAddress, _ address: IPAddress, _ milliseconds: Int64,
        _ signer: NATSSigner?
    ) -> natsStatus {
        // The address that was checked, so that a name which answers differently a moment later gains nothing.
        let host = address.isVersion4 ? address.description : "[\(address.description)]"
        var steps: [() -> natsStatus] = [
            { natsOptions_SetURL(options, "nats://\(host):\(server.port)") },
            { natsOptions_SetName(options, "sluice \(destination.name)") },
            { natsOptions_SetTimeout(options, milliseconds) },
            { natsOptions_SetAllowReconnect(options, false) },
            { natsOptions_SetIgnoreDiscoveredServers(options, true) },
            // A server that hangs is noticed in about ten seconds, also by a write that would wait for it.
            { natsOptions_SetPingInterval(options, 5000) }, { natsOptions_SetMaxPingsOut(options, 1) },
            { natsOptions_SetWriteDeadline(options, Int64(destination.limitSeconds) * 1000) },
            // Without one the library writes to standard error.
            { natsOptions_SetErrorHandler(options, { _, _, _, _ in }, nil) },
        ]
        if server.needsTLS { steps.append { natsOptions_SetSecure(options, true) } }
        steps.append { natsOptions_SetExpectedHostname(options, server.host) }
        if let authorities = destination.tls.authorities {
            steps.append { natsOptions_SetCATrustedCertificates(options, authorities) }
        }
        if let certificate = destination.tls.certificate, let key = destination.tls.key {
            steps.append { natsOptions_SetCertificatesChain(options, certificate, key) }
        }
        switch destination.credentials {
        case .none: break
        case .user(let user, let password): steps.append { natsOptions_SetUserInfo(options, user, password) }
        case .token(let token): steps.append { natsOptions_SetToken(options, token) }
        case .nkey, .file: if let signer { steps.append { signer.set(options) } }
        }
        for step in steps {
            let status = step()
            if status != NATS_OK { return status }
        }
        return NATS_OK
    }
}

/// Signs what a server gives to sign. The library holds an unowned pointer to it while it connects.
final class NATSSigner {
    private let key: NATSKey
    private let jwt: String?

    /// Nil for credentials that need none.
    static func make(_ credentials: NATSDestination.Credentials) throws(NATSLink.Failure) -> NATSSigner? {
        do throws(SluiceError) {
            switch credentials {
            case .nkey(let seed): return NATSSigner(key: try NATSKey(seed: seed), jwt: nil)
            case .file(let text):
                let read = try NATSKey.credentials(text)
                return NATSSigner(key: read.key, jwt: read.jwt)
            case .none, .user, .token: return nil
            }
        } catch {
            throw NATSLink.Failure(message: error.message)
        }
    }

    private init(key: NATSKey, jwt: String?) {
        self.key = key
        self.jwt = jwt
    }

    func set(_ options: OpaquePointer?) -> natsStatus {
        let owner = Unmanaged.passUnretained(self).toOpaque()
        let sign: natsSignatureHandler = { _, signature, length, nonce, owner in
            guard let owner, let nonce else { return NATS_ERR }
            return nats_Sign(Unmanaged<NATSSigner>.fromOpaque(owner).takeUnretainedValue().key.seed, nonce, signature, length)
        }
        guard jwt != nil else { return natsOptions_SetNKey(options, key.publicKey, sign, owner) }
        let tell: natsUserJWTHandler = { text, _, owner in
            guard let owner, let jwt = Unmanaged<NATSSigner>.fromOpaque(owner).takeUnretainedValue().jwt else { return NATS_ERR }
            // The library frees it.
            text?.pointee = strdup(jwt)
            return NATS_OK
        }
        return natsOptions_SetUserCredentialsCallbacks(options, tell, owner, sign, owner)
    }
}
