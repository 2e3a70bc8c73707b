import SluiceConnectors
import SluiceCore

extension LuaConnector {
    /// A trigger described by `incremental` is run from its description, without Lua. For another one:
    /// runs the trigger's `poll` in a coroutine that is suspended, and blocks no thread, while a request is under way.
    ///
    /// The closure that Lua gets is the state of the open cycle if there is one, else the committed cursor. What it
    /// returns as `next_poll` is the state of the open cycle while `can_poll_more`, else the new cursor.
    public func poll(_ request: PollRequest, http: any HTTPSending) async throws -> PollPage {
        let trigger = try trigger(request.triggerType)
        if let incremental = trigger.incremental {
            if case .rule(let rule) = trigger.longPoll { return try await rule.poll(request, incremental, http: signing(http, request)) }
            return try await incremental.run(request, http: signing(http, request))
        }
        guard let function = trigger.poll else { throw SluiceError(.connector, "\(path): triggers.\(trigger.type.name) has no poll") }
        return try await tellingStatesApart(trigger.type, request, http) { try await poll(request, function, slots, $0) }
    }

    /// As `poll`, with the trigger's `long_poll`: rules beside an `incremental`, or a function of the same form as `poll`.
    public func longPoll(_ request: PollRequest, http: any HTTPSending) async throws -> PollPage {
        let trigger = try trigger(request.triggerType)
        switch trigger.longPoll {
        case .function(let function):
            return try await tellingStatesApart(trigger.type, request, http) { try await poll(request, function, heldSlots, $0) }
        case .rule(let rule):
            guard let incremental = trigger.incremental else {
                throw SluiceError(.connector, "\(path): triggers.\(trigger.type.name) has no incremental beside its long_poll")
            }
            return try await rule.longPoll(request, incremental, http: signing(http, request))
        case nil: throw SluiceError(.connector, "\(path): triggers.\(trigger.type.name) has no long_poll")
        }
    }

    private func poll(
        _ request: PollRequest, _ function: LuaFunction, _ slots: LuaPollSlots, _ http: any HTTPSending
    ) async throws -> PollPage {
        let closure = try closure(request)
        try await slots.acquire()
        defer { slots.release() }
        let state = try pool.take()
        // Also where the task is cancelled or the request fails: the suspended coroutine is dropped.
        defer { pool.giveBack(state) }
        do {
            let result = try await run(state, function, request, closure, http)
            return try page(result, function, closure, state)
        } catch {
            throw redacted(error, request.connection)
        }
    }

    private func closure(_ request: PollRequest) throws -> JSONDocument? {
        guard let bytes = request.pageState ?? request.cursor else { return nil }
        do throws(JSONError) {
            return try JSONDocument(bytes)
        } catch {
            throw PollFailure(.badCursor, SluiceError(.badCursor, "The stored cursor is not JSON: it \(error)."))
        }
    }

    private func run(
        _ state: LuaState, _ function: LuaFunction, _ request: PollRequest, _ closure: JSONDocument?, _ http: any HTTPSending
    ) async throws -> LuaPollResult {
        var step = try state.start(function, request, closure: closure, limits)
        for _ in 0..<limits.pollRequestsMax {
            guard case .request(let plan) = step else { break }
            try Task.checkCancellation()
            step = try state.resume(function, try await http.send(plan))
        }
        guard case .done(let result) = step else {
            throw state.error(
                "sent more than \(limits.pollRequestsMax) requests; return can_poll_more = true and go on in the next page", function)
        }
        return result
    }

    private func page(_ result: LuaPollResult, _ function: LuaFunction, _ closure: JSONDocument?, _ state: LuaState) throws -> PollPage {
        if result.more {
            guard let next = result.next else { throw state.error("returned can_poll_more without next_poll", function) }
            if let closure, closure.root.bytes.elementsEqual(next) {
                var error = state.error(
                    "returned can_poll_more with the next_poll it was called with: the next page would be the same for ever", function)
                error.code = .pagingNeverEnds
                throw error
            }
            return PollPage(records: result.records, pageState: next, more: true, warnings: result.warnings, epoch: result.epoch)
        }
        return PollPage(records: result.records, cursor: result.next, more: false, warnings: result.warnings, epoch: result.epoch)
    }

    public func dedupKeys(triggerType: String, records: [Record]) throws -> [Result<[UInt8], SluiceError>] {
        let trigger = try trigger(triggerType)
        guard let function = trigger.dedup else {
            guard let incremental = trigger.incremental else {
                throw SluiceError(.connector, "\(path): triggers.\(trigger.type.name) has no dedup")
            }
            return incremental.dedupKeys(records: records)
        }
        var state = try pool.take()
        defer { pool.giveBack(state) }
        let end = ContinuousClock.now + .milliseconds(Int(limits.dedupPageMillisecondsMax))
        var keys: [Result<[UInt8], SluiceError>] = []
        keys.reserveCapacity(records.count)
        for record in records {
            keys.append(try dedupKey(state, function, record))
            guard state.isSpent else { continue }
            guard ContinuousClock.now < end else {
                throw state.error("used up the time of a whole page after \(keys.count) of \(records.count) records", function)
            }
            state = try pool.take()
        }
        return keys
    }

    private func dedupKey(_ state: LuaState, _ function: LuaFunction, _ record: Record) throws -> Result<[UInt8], SluiceError> {
        do {
            let key = try state.text(function, record, limits)
            if !key.isEmpty, key.count <= KeyedRecord.dedupKeyBytesMax, String(validating: key, as: UTF8.self) != nil {
                return .success(key)
            }
            let problem =
                key.isEmpty ? "an empty key" : "a key of \(key.count) bytes; it must be UTF-8 of at most \(KeyedRecord.dedupKeyBytesMax)"
            return .failure(state.error("returned \(problem)", function).with("connector", lua.name))
        } catch let error as SluiceError {
            return .failure(error.with("connector", lua.name))
        }
    }

    /// Adds the connector's name, and takes the secrets of the connection out of what its code wrote.
    func redacted(_ error: any Error, _ connection: JSONDocument) -> any Error {
        func clean(_ error: SluiceError) -> SluiceError {
            var error = error.with("connector", lua.name)
            for field in lua.connectionFields where field.isSecret {
                guard let secret = connection.root[field.name]?.text, secret.utf8.count >= 4 else { continue }
                error.message = LuaText.replacing(secret, in: error.message, by: "[\(field.name)]")
                for (key, value) in error.context { error.context[key] = LuaText.replacing(secret, in: value, by: "[\(field.name)]") }
            }
            return error
        }
        if let error = error as? SluiceError { return clean(error) }
        if var failure = error as? PollFailure {
            failure.error = clean(failure.error)
            return failure
        }
        return error
    }
}

extension LuaText {
    static func replacing(_ secret: String, in text: String, by replacement: String) -> String {
        let (secret, bytes) = (Array(secret.utf8), Array(text.utf8))
        var result: [UInt8] = []
        var index = 0
        while index < bytes.count {
            if bytes[index...].starts(with: secret) {
                result.append(contentsOf: replacement.utf8)
                index += secret.count
            } else {
                result.append(bytes[index])
                index += 1
            }
        }
        return String(decoding: result, as: UTF8.self)
    }
}
