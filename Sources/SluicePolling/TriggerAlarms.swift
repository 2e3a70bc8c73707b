import SluiceCore
import SluiceStore

/// What people are told of triggers, in one place: as it happens, and again after a restart, which forgets alarms.
enum TriggerAlarms {
    static func subject(_ trigger: StoredTrigger) -> String { "trigger \(trigger.name)" }

    static func failing(_ trigger: StoredTrigger, failures: Int, retryAt: Timestamp, _ error: SluiceError) -> Alarm {
        Alarm(
            kind: .triggerFailing, subject: subject(trigger),
            message: "poll \(failures) in a row failed, the next try is at \(retryAt): \(error.message)")
    }

    static func failed(_ trigger: StoredTrigger, reason: String) -> Alarm {
        Alarm(
            kind: .triggerFailing, subject: subject(trigger),
            message: "it has failed and rests: \(reason). One poll is tried each safety interval, and at once by "
                + "`sluice trigger poll \(trigger.name)`")
    }

    static func quarantined(_ trigger: StoredTrigger, reason: String) -> Alarm {
        Alarm(
            kind: .quarantined, subject: subject(trigger),
            message: "records could not be read or keyed and are set aside, the last because: \(reason). See `sluice trigger quarantine "
                + "\(trigger.name)`: mend the connector, then --retry makes jobs of them; --discard gives them up")
    }

    /// Nil where nothing is set aside, but for what was discarded.
    static func quarantined(_ trigger: StoredTrigger, _ store: any QuarantineStore) async throws -> Alarm? {
        let last = try await store.quarantine(.default, trigger: trigger.id, limit: 1).first
        return last.map { quarantined(trigger, reason: $0.reason) }
    }
}

extension PollingService {
    /// More than people read.
    private static let standingMax = 1000

    /// Raises what stands by what the store knows, after a start. Triggers that fail and try again say so themselves with their next
    /// try.
    func raiseStanding(_ definitions: Definitions) async {
        for trigger in definitions.triggers.lazy.filter({ $0.state == .failed || $0.progress.quarantined > 0 })
            .prefix(PollingService.standingMax)
        {
            if trigger.state == .failed {
                alarms.raise(TriggerAlarms.failed(trigger, reason: trigger.stateReason ?? "it is not known why"))
            }
            if trigger.progress.quarantined > 0 { await tellOfQuarantine(trigger) }
        }
    }

    /// Raises the alarm where something is set aside, and clears it where nothing is.
    public func tellOfQuarantine(_ trigger: StoredTrigger) async {
        do {
            if let alarm = try await TriggerAlarms.quarantined(trigger, store) {
                alarms.raise(alarm)
            } else {
                alarms.clear(.quarantined, subject: TriggerAlarms.subject(trigger))
            }
        } catch {
            logger.error("a quarantine could not be read", metadata: ["trigger": "\(trigger.name)", "error": "\(error)"])
            alarms.raise(TriggerAlarms.quarantined(trigger, reason: "it is not known, the store could not be read"))
        }
    }
}
