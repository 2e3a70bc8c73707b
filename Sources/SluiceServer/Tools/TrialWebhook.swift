import SluiceConnectors
import SluiceCore

/// What a connector makes of one webhook: whether it is verified, whom it is for, and, of a webhook-only trigger, its records.
public struct TrialWebhook: Sendable {
    /// What `sluice verify` says of it; nil: not asked for.
    public var verification: VerificationReport?
    /// Why it is not verified.
    public var unverified: String?
    /// `webhook_keys`.
    public var keys: [String]
    /// `webhook_key` of the trigger; nil: it takes every webhook.
    public var listensTo: String?
    /// Whether a trigger with this input hears of it.
    public var isForTrigger: Bool

    struct Given {
        var raw: RawRequest
        var secrets: SecretFile?
        /// Where the signature stands, if its scheme leaves that open.
        var header: String?

        /// `scheme`: by which its secrets are read. Throws `.invalid`, `.notFound`.
        init(_ order: Trial.Order, file: String, scheme: SignatureScheme?) throws {
            if let header = order.webhookHeader, let scheme, !scheme.leavesHeaderOpen {
                throw SluiceError(
                    .invalid, "the scheme `\(scheme.name)` says itself which header it reads: leave --webhook-header \(header) out")
            }
            header = order.webhookHeader
            guard let bytes = try SmallFile.read(file, bytesMax: RawRequest.bytesMax) else {
                throw SluiceError(.notFound, "there is no file \(file)").with("file", file)
            }
            do throws(SluiceError) {
                raw = try RawRequest(bytes)
            } catch {
                throw SluiceError(.invalid, "\(file): \(error.message)").with("file", file)
            }
            guard let secretFile = order.webhookSecretFile else { return }
            guard let bytes = try SmallFile.read(secretFile), let text = String(validating: bytes, as: UTF8.self) else {
                throw SluiceError(.notFound, "there is no file \(secretFile), or it is not UTF-8").with("file", secretFile)
            }
            secrets = SecretFile(text, parameterNames: scheme?.summary.parameters ?? [])
        }
    }
}

extension Trial {
    mutating func read(
        _ given: TrialWebhook.Given, by connector: any Connector, _ type: TriggerTypeDefinition, _ connection: JSONDocument,
        _ input: JSONDocument, _ now: Timestamp, _ scrubber: SecretScrubber
    ) {
        var scrubber = scrubber
        for secret in given.secrets?.secrets ?? [] { scrubber.add(secret, label: "webhook_secret") }
        do {
            var webhook = TrialWebhook(keys: [], isForTrigger: false)
            if type.subscription == nil {
                webhook.keys = try connector.webhookKeys(given.raw.request).map(scrubber.text)
                webhook.listensTo = try connector.webhookKey(triggerType: type.name, input: input).map(scrubber.text)
                webhook.isForTrigger = webhook.listensTo.map { $0.isEmpty || webhook.keys.contains($0) } ?? type.kind.takesWebhooks
            } else {
                webhook.isForTrigger = true
                notes.append("a subscription of its own brings this trigger its webhooks: whatever comes to its URL is for it")
            }
            (webhook.verification, webhook.unverified) = verification(given, connector.definition, now)
            self.webhook = webhook
            if type.kind == .webhook {
                try addRecords(of: given.raw.request, connector, type, input, scrubber)
            } else {
                notes.append(
                    type.kind == .hybrid
                        ? "its records come from polls: a webhook only says that there may be news"
                        : "a trigger of this kind takes no webhooks")
            }
        } catch {
            failureKind = "connector"
            failure = scrubber.text((error as? SluiceError)?.message ?? "\(error)")
        }
    }

    private func verification(
        _ given: TrialWebhook.Given, _ definition: ConnectorDefinition, _ now: Timestamp
    ) -> (VerificationReport?, String?) {
        guard let name = definition.webhook?.scheme, let scheme = SignatureScheme.named(name) else {
            return (nil, "the connector takes no webhooks")
        }
        guard let secrets = given.secrets else { return (nil, "the signature (\(name)) was not checked: give --webhook-secret-file FILE") }
        let options = SchemeOptions(tolerance: nil, headerName: given.header, parameters: secrets.parameters)
        return (scheme.report(given.raw.request, secrets: secrets.secrets, now: now, options: options, notes: given.raw.notes), nil)
    }

    private mutating func addRecords(
        of request: WebhookRequest, _ connector: any Connector, _ type: TriggerTypeDefinition, _ input: JSONDocument,
        _ scrubber: SecretScrubber
    ) throws {
        let records = try connector.webhookNotification(request, triggerType: type.name, input: input, output: nil)
        let page = PollPage(records: records, more: false)
        let keys: [Result<[UInt8], SluiceError>]
        if type.countsByDelivery {
            let (number, time) = (InboxSequence(0), Timestamp(milliseconds: 0))
            keys = records.indices.map {
                .success(WebhookKeys.key(signedDeliveryID: nil, sequence: number, receivedAt: time, index: $0, of: records.count))
            }
            notes.append("each delivery counts by itself: its id, where it is signed, or else its number in the inbox is in the dedup key")
        } else {
            keys = try connector.dedupKeys(triggerType: type.name, records: records)
        }
        var made = shown(page, keys)
        made.scrub(scrubber)
        pages.append(made)
    }
}
