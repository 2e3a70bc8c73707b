import Logging
import SluiceConnectors
import SluiceCore
import SluiceDelivery
import SluiceStore
import Synchronization

/// Destinations: what they are, how they do, and what a person does with them. Secrets never leave, but for a new one, once.
extension API {
    func listDestinations(_ call: APICall) async throws -> APIResponse {
        let definitions = try await definitions()
        let slice = try ListSlice(definitions.destinations, after: call.query("after"), limit: call.limit()) { $0.name }
        return APIResponse.object { writer in
            writer.list("destinations", slice.elements) { writer, stored in destination(&writer, stored, definitions) }
            writer.member("next", slice.next)
        }
    }

    func showDestination(_ call: APICall) async throws -> APIResponse {
        let definitions = try await definitions()
        let stored = try API.destination(named: call.parameter("name"), definitions)
        let backlog = try await parts.store.backlog(stored.id)
        let blocked = try await parts.store.blockedDeliveries(.default).filter { $0.destination == stored.id }
        let secrets = try? DestinationSecrets(
            json: parts.sealer.open(stored.sealedSecrets, owner: SecretOwner.destination(stored.name)))
        return APIResponse.object { writer in
            destination(&writer, stored, definitions)
            settings(&writer, stored)
            DestinationSettings(json: stored.settings).carried.show(
                kind: stored.kind, secrets: secrets?.values ?? [], places: parts.places, to: &writer)
            if let secrets { describe(secrets, to: &writer) }
            writer.member("pending", Int64(backlog.pending))
            writer.member("dead_letters", Int64(backlog.dead))
            let isCounted = max(backlog.pending, backlog.dead) < DeliveryBacklog.countMax
            writer.member("counted_up_to", isCounted ? nil : Int64(DeliveryBacklog.countMax))
            writer.member("filtered", Int64(backlog.filtered))
            let rest = parts.delivery?.status(of: stored.id)?.restsUntil
            writer.member("next_attempt_at", API.nextAttempt(dueAt: backlog.nextAttemptAt, restsUntil: rest, stored.state))
            condition(&writer, stored)
            self.blocked(&writer, blocked, definitions)
        }
    }

    /// Nothing is carried before its rest is over, nor where nothing is carried at all.
    static func nextAttempt(dueAt: Timestamp?, restsUntil: Timestamp?, _ state: DestinationState) -> Timestamp? {
        guard state == .active, let dueAt else { return nil }
        return max(dueAt, restsUntil ?? dueAt)
    }

    private func destination(_ writer: inout JSONWriter, _ stored: StoredDestination, _ definitions: Definitions) {
        let settings = DestinationSettings(json: stored.settings)
        writer.member("name", stored.name)
        writer.member("kind", stored.kind)
        writer.member("state", stored.state.rawValue)
        writer.member("reason", stored.stateReason)
        writer.member("since", stored.stateSince)
        writer.member("url", settings.url.map(DestinationSettings.shown))
        writer.member("allow_private", settings.allowsPrivate)
        let triggers = Dictionary(definitions.triggers.map { ($0.id, $0.name) }) { first, _ in first }
        writer.key("triggers")
        writer.array { writer in
            for attachment in definitions.attachments where attachment.destination == stored.id {
                if let name = triggers[attachment.trigger] { writer.value(name) }
            }
        }
        writer.list("attachments", definitions.attachments.filter { $0.destination == stored.id }) { writer, attachment in
            let sieve = AttachmentSettings(json: attachment.settings)
            writer.member("trigger", triggers[attachment.trigger])
            writer.member("filter", sieve.filter)
            writer.key("fields")
            writer.array { writer in for path in sieve.fields { writer.value(path.description) } }
            writer.member("catching_up_at", attachment.caughtUpTo?.rawValue)
        }
    }

    private func settings(_ writer: inout JSONWriter, _ stored: StoredDestination) {
        let settings = DestinationSettings(json: stored.settings)
        writer.key("allow_networks")
        writer.array { writer in for network in settings.allowedNetworks { writer.value(network.description) } }
        guard stored.kind != "pull" else { return }
        let retries = settings.retries ?? RetrySchedule.standard.delays
        writer.key("retries")
        writer.array { writer in for retry in retries { writer.value(Words.text(retry)) } }
        writer.member("rate", settings.rate?.description)
        writer.member("concurrency", Int64(CarriedDestinations.callsAtOnce(stored.kind, settings)))
        writer.member("timeout", settings.timeout.map(Words.text))
    }

    /// Without any of them.
    private func describe(_ secrets: DestinationSecrets, to writer: inout JSONWriter) {
        writer.list("secrets", secrets.secrets) { writer, secret in
            let publicKey = WebhookSigner.publicKey(of: secret.secret)
            writer.member("signature", publicKey == nil ? "v1" : "v1a")
            writer.member("public_key", publicKey)
            writer.member("expires_at", secret.expiresAt)
        }
        writer.key("headers")
        writer.array { writer in for header in secrets.headers { writer.value(header.name) } }
    }

    private func condition(_ writer: inout JSONWriter, _ stored: StoredDestination) {
        guard let status = parts.delivery?.status(of: stored.id) else { return }
        writer.member("breaker", status.breaker.rawValue)
        writer.member("failures_in_row", Int64(status.failuresInRow))
        writer.member("rests_until", status.restsUntil)
        writer.member("in_flight", Int64(status.callsInFlight))
        writer.member("last_delivered_at", status.lastDeliveredAt)
        writer.member("last_failure_at", status.lastFailureAt)
        writer.member("last_error", status.lastError)
    }

    /// Of ordered triggers: which job holds up the others, since when, and why.
    func blocked(_ writer: inout JSONWriter, _ blocked: [BlockedDelivery], _ definitions: Definitions) {
        guard !blocked.isEmpty else { return }
        let triggers = Dictionary(definitions.triggers.map { ($0.id, $0) }) { first, _ in first }
        let destinations = Dictionary(definitions.destinations.map { ($0.id, $0.name) }) { first, _ in first }
        writer.list("blocked_by", blocked) { writer, head in
            let trigger = triggers[head.trigger]
            writer.member("trigger", trigger?.name)
            writer.member("destination", destinations[head.destination])
            writer.member("delivery", head.delivery)
            writer.member("job", trigger.map { JobIdentity.id(uid: $0.uid, dedupKey: head.dedupKey) })
            writer.member("position", head.position.rawValue)
            writer.member("state", head.state.rawValue)
            writer.member("since", head.since)
            writer.member("attempts", Int64(head.attempts))
            writer.member("last_status", head.lastStatus.map(Int64.init))
            writer.member("last_error", head.lastError)
            writer.member("next_attempt_at", head.nextAttemptAt)
            writer.member("waiting", Int64(head.waiting))
        }
    }

    static func destination(named name: String, _ definitions: Definitions) throws(SluiceError) -> StoredDestination {
        guard let destination = definitions.destinations.first(where: { $0.name == name }) else {
            throw SluiceError(
                .notFound, "there is no destination `\(name)`: \(Words.hint(name, among: definitions.destinations.map(\.name)))")
        }
        return destination
    }

    // MARK: Pause, resume, gone

    func pauseDestination(_ call: APICall) async throws -> APIResponse {
        try await setDestination(call.parameter("name"), .paused, reason: "paused by a person")
    }

    func resumeDestination(_ call: APICall) async throws -> APIResponse {
        try await setDestination(call.parameter("name"), .active, reason: nil)
    }

    private func setDestination(_ name: String, _ state: DestinationState, reason: String?) async throws -> APIResponse {
        try await changes.run {
            let before = try API.destination(named: name, try await self.definitions())
            guard before.kind != Consumer.kind else {
                throw SluiceError(
                    .conflict,
                    "\(name) is of the kind pull: its workers fetch when they like, so there is nothing to pause or resume. Stop them; what "
                        + "comes meanwhile waits for them"
                ).with("destination", name)
            }
            let change = DefinitionChange.setDestinationState(name: name, state: state, reason: reason, ifSettings: nil)
            try await self.parts.store.apply([change], namespace: .default, at: self.parts.clock.now())
            try await self.parts.control.definitionsChanged()
            if state == .active { self.parts.delivery?.forgive(before.id) }
            return APIResponse.object { writer in
                writer.member("name", name)
                writer.member("state", state.rawValue)
                writer.member("state_before", before.state.rawValue)
            }
        }
    }

    /// A destination answered that it takes nothing more: stored, unless it was changed meanwhile.
    func destinationGone(
        _ id: DestinationID, target: String, reason: String, _ catalogue: RuntimeCatalogue, _ logger: Logger
    ) async {
        guard let found = catalogue.current.destinations[id], CarriedDestinations.destination(found, parts.places)?.plan.target == target
        else { return }
        do {
            try await changes.run {
                let change = DefinitionChange.setDestinationState(
                    name: found.stored.name, state: .gone, reason: reason, ifSettings: found.stored.settings)
                try await self.parts.store.apply([change], namespace: .default, at: self.parts.clock.now())
                try await self.parts.control.definitionsChanged()
            }
        } catch {
            logger.warning(
                "a destination that is gone could not be stored as such; nothing is sent there until the server starts again",
                metadata: ["destination": "\(found.stored.name)", "error": "\(error)"])
        }
    }

    // MARK: Rotation

    private static let overlapMax = Span.days(30)

    /// Takes `{"overlap": "24h", "signature": "v1"}`, both optional: makes a new secret of the same sort, or of the one that is named,
    /// and shows it this once. The former ones sign beside it until the overlap is over.
    func rotateSecret(_ call: APICall) async throws -> APIResponse {
        let body = try call.object()
        guard let overlap = body["overlap"].map({ $0.isNull ? .hours(24) : $0.string.flatMap(Words.span) }) ?? .hours(24),
            overlap <= API.overlapMax
        else {
            throw SluiceError(
                .invalid, "`overlap` is a time with its unit, at most 30d: for example 24h; 0s ends the former secrets at once")
        }
        let sort = body["signature"]?.string
        guard sort == nil || sort == "v1" || sort == "v1a" else {
            throw SluiceError(.invalid, "`signature` is v1 (HMAC-SHA256) or v1a (ed25519)")
        }
        let name = call.parameter("name")
        return try await changes.run {
            let stored = try API.destination(named: name, try await self.definitions())
            guard stored.kind == "push" else {
                throw SluiceError(.conflict, "destination \(name) is of the kind \(stored.kind), which signs nothing")
            }
            let owner = SecretOwner.destination(name)
            let before = DestinationSecrets(json: try self.parts.sealer.open(stored.sealedSecrets, owner: owner))
            let isAsymmetric = sort.map { $0 == "v1a" } ?? (before.secrets.first.flatMap { WebhookSigner.publicKey(of: $0.secret) } != nil)
            let bytes = Randomness.bytes(32)
            let secret =
                isAsymmetric
                ? WebhookSigner.newAsymmetricSecret(randomBytes: bytes) : WebhookSigner.newSymmetricSecret(randomBytes: bytes)
            let now = self.parts.clock.now()
            let signing = before.secrets.filter { $0.expiresAt.map { $0 > now } ?? true }
            guard overlap == .zero || signing.count < WebhookSigner.secretsMax else {
                let first = signing.compactMap(\.expiresAt).min().map { "the first expires at \($0)" } ?? "none of them expires"
                throw SluiceError(
                    .conflict,
                    "destination \(name) signs with \(signing.count) secrets already, and \(first): wait until then, or rotate with the "
                        + "overlap 0s, which ends all former ones at once"
                ).with("destination", name)
            }
            let after = before.rotated(to: secret, overlap: overlap, at: now)
            let change = DefinitionChange.putDestination(
                name: name, kind: stored.kind, settings: stored.settings,
                sealedSecrets: try self.parts.sealer.seal(after.json, owner: owner))
            try await self.parts.store.apply([change], namespace: .default, at: now)
            try await self.parts.control.definitionsChanged()
            return APIResponse.object(status: 201) { writer in
                writer.member("name", name)
                // For the file. Of an asymmetric one the receiver needs no more than the public half.
                writer.member("secret", secret)
                if isAsymmetric { writer.member("public_key", WebhookSigner.publicKey(of: secret)) }
                writer.member("signature", isAsymmetric ? "v1a" : "v1")
                writer.member("former_expire_at", after.secrets.count > 1 ? after.secrets.dropFirst().compactMap(\.expiresAt).max() : nil)
            }
        }
    }
}

/// Hands word of destinations that are gone to whoever stores it, once there is somebody.
final class DestinationStops: Sendable {
    typealias Act = @Sendable (DestinationID, _ target: String, _ reason: String) async -> Void
    private let act = Mutex<Act?>(nil)

    func carryOut(_ act: @escaping Act) { self.act.withLock { $0 = act } }

    func gone(_ id: DestinationID, target: String, reason: String) async {
        await act.withLock { $0 }?(id, target, reason)
    }
}
