import SluiceCore
import SluiceStore

/// `trigger cursor show|set|reset`: the remedy for a bad cursor, which says first what it may repeat (P4).
extension API {
    func showCursor(_ call: APICall) async throws -> APIResponse {
        let trigger = try await trigger(call.parameter("name"))
        let reach = try await reach(of: trigger)
        return APIResponse.object { writer in
            writer.member("trigger", trigger.name)
            writer.member("cursor", json: trigger.progress.cursor)
            writer.member("mark", trigger.progress.cursorMark)
            writer.member("dedup_floor", trigger.progress.dedupFloor.flatMap { $0 == Int64.min ? nil : $0 })
            writer.member("keys_kept", reach.sentence)
        }
    }

    /// Takes `{"cursor": JSON, "confirm": bool}`.
    func setCursor(_ call: APICall) async throws -> APIResponse {
        let body = try call.object()
        guard let cursor = body["cursor"], !cursor.isNull, cursor.bytes.count <= 64 * 1024 else {
            throw SluiceError(.invalid, "`cursor` is the new cursor as JSON, at most 64 KiB; to begin anew reset it")
        }
        return try await replaceCursor(call, cursor: Array(cursor.bytes), isConfirmed: body["confirm"]?.bool == true)
    }

    func resetCursor(_ call: APICall) async throws -> APIResponse {
        try await replaceCursor(call, cursor: nil, isConfirmed: call.flag("confirm"))
    }

    private func replaceCursor(_ call: APICall, cursor: [UInt8]?, isConfirmed: Bool) async throws -> APIResponse {
        let trigger = try await trigger(call.parameter("name"))
        if trigger.isCallbackSource { throw API.takesNoCommands(trigger.name) }
        let reach = try await reach(of: trigger)
        if !isConfirmed, reach.mayRepeat(from: cursor) {
            throw SluiceError(
                .needsConfirmation,
                "reading again from there may make jobs a second time: \(reach.sentence). Repeat with `confirm` (--confirm) if that is meant"
            ).with("trigger", trigger.name)
        }
        if let floor = reach.floor { try await parts.store.setFact(API.floorFact(trigger), Array(String(floor).utf8)) }
        let changed = try await parts.store.setCursor(trigger.id, generation: trigger.generation, cursor: cursor, at: parts.clock.now())
        parts.alarms.clear(.gap, subject: "trigger \(changed.name)")
        await parts.control.triggerChanged(changed, poll: changed.state.polls || changed.state == .failed ? .manual : nil)
        return APIResponse.object { writer in
            writer.member("trigger", changed.name)
            writer.member("cursor", json: changed.progress.cursor)
            writer.member("cursor_before", json: trigger.progress.cursor)
            writer.member("keys_kept", reach.sentence)
        }
    }

    /// Another cursor forgets the floor, and the next cycle sets a new one; until then the former one tells what was pruned.
    func reach(of trigger: StoredTrigger) async throws -> DedupReach {
        var reach = DedupReach(trigger.progress)
        if reach.floor == nil, let bytes = try await parts.store.fact(API.floorFact(trigger)) {
            reach.floor = Int64(String(decoding: bytes, as: UTF8.self))
        }
        return reach
    }

    private static func floorFact(_ trigger: StoredTrigger) -> String { "dedup_floor_before_cursor/\(trigger.uid)" }
}

/// How far back a trigger's dedup keys are kept.
struct DedupReach: Equatable {
    var floor: Int64?
    var cyclesCompleted: Int64

    init(_ progress: TriggerProgress) {
        floor = progress.forgottenBelow
        cyclesCompleted = progress.cyclesCompleted
    }

    var keepsAll: Bool { floor == nil && cyclesCompleted <= DedupRetention.cyclesKept }

    /// Whether records below the kept keys may come again. A cursor that is a number is compared with the floor.
    func mayRepeat(from cursor: [UInt8]?) -> Bool {
        if keepsAll { return false }
        guard let floor, let cursor, let mark = (try? JSONDocument(cursor))?.root.int64 else { return true }
        return mark < floor
    }

    var sentence: String {
        if keepsAll { return "the dedup keys of all its jobs are kept, so nothing becomes a job twice" }
        if let floor { return "dedup keys are kept for records from mark \(floor) on; older records would become jobs again" }
        return "dedup keys are kept for what its last \(DedupRetention.cyclesKept) polls returned; older records would become jobs again"
    }
}
