import CLua
import SluiceConnectors
import SluiceCore

/// A function of the connector: its number in every state, and the line where it begins.
struct LuaFunction: Sendable, Equatable {
    var number: Int32
    var line: Int
    /// For messages, for example `triggers.new_event.poll`.
    var name: String
}

/// One Lua state with the connector loaded. `@unchecked Sendable`: whoever took it from the pool is alone with it; the
/// thread may change between calls, as it does across an `await`.
final class LuaState: @unchecked Sendable {
    static let chunkName = "connector.lua"

    private let raw: OpaquePointer
    private let context: LuaContext
    /// What its source is called in errors.
    private let chunk: String
    /// The page that records are shown on, one after the other.
    private let recordPage = LuaPage([])
    /// A limit was passed: the state cannot be used again.
    private(set) var isSpent = false
    /// What the file returned, as JSON; see `clua_load`.
    let definition: [UInt8]

    convenience init(source: [UInt8], limits: LuaLimits) throws(SluiceError) {
        try self.init(LuaState.chunkName, limits) { raw in
            source.withUnsafeBytes { bytes in
                clua_load(raw, bytes.baseAddress?.assumingMemoryBound(to: CChar.self) ?? nil, bytes.count, LuaState.chunkName, limits.poll)
            }
        }
    }

    /// With a filter as function 1; nothing of it is run. `isBody`: whose error to tell where it does not compile.
    convenience init(filter source: [UInt8], isBody: Bool, limits: LuaLimits) throws(SluiceError) {
        try self.init(LuaFilter.chunkName, limits) { raw in
            source.withUnsafeBytes { bytes in
                clua_load_filter(
                    raw, bytes.baseAddress?.assumingMemoryBound(to: CChar.self) ?? nil, bytes.count, isBody, LuaFilter.chunkName,
                    limits.poll
                )
            }
        }
    }

    private init(_ chunk: String, _ limits: LuaLimits, load: (OpaquePointer) -> clua_status) throws(SluiceError) {
        let context = LuaContext()
        var callbacks = LuaContext.callbacks()
        guard let raw = clua_create(&callbacks, Unmanaged.passUnretained(context).toOpaque(), limits.memoryBytesMax) else {
            throw SluiceError(.connector, "there is no memory for another Lua state")
        }
        guard load(raw) == CLUA_OK else {
            let message = String(cString: clua_message(raw))
            clua_destroy(raw)
            throw SluiceError(.connector, message)
        }
        (self.raw, self.context, self.chunk) = (raw, context, chunk)
        definition = LuaState.output(raw)
        clua_end_call(raw)
    }

    deinit { clua_destroy(raw) }

    private static func output(_ raw: OpaquePointer) -> [UInt8] {
        var length = 0
        let bytes = clua_output(raw, &length)
        return Array(UnsafeRawBufferPointer(start: bytes, count: length))
    }

    var memoryBytesUsed: Int { clua_memory_used(raw) }

    /// Ends what a call began: handles become void, a suspended coroutine is dropped, answers are let go.
    func endCall() {
        clua_end_call(raw)
        context.endCall()
    }

    /// Turns a status into an error that holds file and line.
    private func check(_ status: clua_status, _ function: LuaFunction) throws {
        switch status {
        case CLUA_OK, CLUA_YIELD: return
        case CLUA_STOPPED:
            if let failure = context.failure { throw failure }
            isSpent = true
            throw error("the call held more memory than it may", function)
        case CLUA_LIMIT:
            isSpent = true
            throw error(String(cString: clua_message(raw)), function)
        default: throw error(String(cString: clua_message(raw)), function)
        }
    }

    func error(_ message: String, _ function: LuaFunction) -> SluiceError {
        let located = message.hasPrefix(chunk + ":")
        return SluiceError(.connector, located ? message : "\(chunk):\(function.line): \(function.name) \(message)")
            .with("function", function.name)
    }

    // MARK: Calls that return at once

    func strings(_ function: LuaFunction, _ request: WebhookRequest, _ limits: LuaLimits) throws -> [String] {
        guard let object = context.keep(LuaWebhook(request), bytes: request.body.count) else {
            throw error(LuaContext.tooMuch, function)
        }
        var argument = LuaState.argument(CLUA_HANDLE_REQUEST, object)
        try check(clua_call(raw, function.number, &argument, 1, CLUA_RESULT_STRINGS, limits.call), function)
        var length = 0
        let bytes = UnsafeRawBufferPointer(start: clua_output(raw, &length), count: length)
        var result: [String] = []
        var offset = 0
        while offset + 4 <= length {
            let size = Int(bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
            result.append(String(decoding: bytes[offset + 4..<offset + 4 + size], as: UTF8.self))
            offset += 4 + size
        }
        return result
    }

    /// A function of one JSON document that returns a string, an integer or nil.
    func optionalText(_ function: LuaFunction, _ document: JSONDocument, _ limits: LuaLimits) throws -> String? {
        let page = LuaPage(document.root.bytes)
        var argument = try pageArgument(page, function, asTable: false)
        try check(clua_call(raw, function.number, &argument, 1, CLUA_RESULT_OPTIONAL_TEXT, limits.call), function)
        return clua_result_is_nil(raw) ? nil : String(decoding: LuaState.output(raw), as: UTF8.self)
    }

    /// `webhook_notification(request, input, output)`.
    func records(
        _ function: LuaFunction, _ request: WebhookRequest, _ input: JSONDocument, _ output: JSONDocument?, _ limits: LuaLimits
    ) throws -> [Record] {
        guard let object = context.keep(LuaWebhook(request), bytes: request.body.count) else {
            throw error(LuaContext.tooMuch, function)
        }
        context.recordsMax = Int(CLUA_RECORDS_MAX)
        var arguments = [LuaState.argument(CLUA_HANDLE_REQUEST, object)]
        arguments.append(try pageArgument(LuaPage(input.root.bytes), function, asTable: false))
        arguments.append(try output.map { try pageArgument(LuaPage($0.root.bytes), function, asTable: false) } ?? clua_argument())
        try check(clua_call(raw, function.number, arguments, Int32(arguments.count), CLUA_RESULT_RECORDS, limits.call), function)
        return context.result.records
    }

    func text(_ function: LuaFunction, _ argument: String, _ limits: LuaLimits) throws -> String {
        var text = argument
        let status = text.withUTF8 { bytes in
            bytes.withMemoryRebound(to: CChar.self) { bytes in
                var argument = clua_argument()
                argument.kind = CLUA_ARGUMENT_STRING.rawValue
                (argument.bytes, argument.length) = (bytes.baseAddress, bytes.count)
                return clua_call(raw, function.number, &argument, 1, CLUA_RESULT_TEXT, limits.call)
            }
        }
        try check(status, function)
        return String(decoding: LuaState.output(raw), as: UTF8.self)
    }

    /// The text that a function makes of one record. Ends the call: the handles of one record are void for the next.
    func text(_ function: LuaFunction, _ record: Record, _ limits: LuaLimits) throws -> [UInt8] {
        defer { endCall() }
        recordPage.bytes = record.bytes
        defer { recordPage.bytes = [] }
        var argument = clua_argument()
        argument.kind = CLUA_ARGUMENT_VALUE.rawValue
        guard record.view.kind == .object || record.view.kind == .array else {
            throw error("was given a record that is not an object: \(String(decoding: record.bytes.prefix(40), as: UTF8.self))", function)
        }
        argument = LuaState.argument(CLUA_HANDLE_VIEW, Unmanaged.passUnretained(recordPage).toOpaque(), length: record.bytes.count)
        try check(clua_call(raw, function.number, &argument, 1, CLUA_RESULT_TEXT, limits.call), function)
        return LuaState.output(raw)
    }

    /// The text that a function makes of one record, or nil. Ends the call.
    func optionalText(_ function: LuaFunction, _ record: Record, _ limits: LuaLimits) throws -> String? {
        defer { endCall() }
        recordPage.bytes = record.bytes
        defer { recordPage.bytes = [] }
        guard record.view.kind == .object || record.view.kind == .array else { return nil }
        var argument = LuaState.argument(CLUA_HANDLE_VIEW, Unmanaged.passUnretained(recordPage).toOpaque(), length: record.bytes.count)
        try check(clua_call(raw, function.number, &argument, 1, CLUA_RESULT_OPTIONAL_TEXT, limits.call), function)
        return clua_result_is_nil(raw) ? nil : String(decoding: LuaState.output(raw), as: UTF8.self)
    }

    /// What a filter says of one record. Ends the call.
    func flag(_ function: LuaFunction, _ record: ArraySlice<UInt8>, _ job: LuaJob, _ limits: LuaLimits) throws -> Bool {
        defer { endCall() }
        recordPage.bytes = record
        defer { recordPage.bytes = [] }
        let view = JSONView(checked: record)
        let isContainer = view.kind == .object || view.kind == .array
        let first =
            isContainer
            ? LuaState.argument(CLUA_HANDLE_VIEW, Unmanaged.passUnretained(recordPage).toOpaque(), length: record.count)
            : try pageArgument(LuaPage(record), function, asTable: false)
        let arguments = [first, LuaState.argument(CLUA_HANDLE_JOB, Unmanaged.passUnretained(job).toOpaque())]
        return try withExtendedLifetime(job) {
            try check(clua_call(raw, function.number, arguments, 2, CLUA_RESULT_FLAG, limits.call), function)
            return clua_result_flag(raw)
        }
    }

    // MARK: Polls

    enum Step {
        case request(HTTPRequestPlan)
        case done(LuaPollResult)
    }

    /// Begins `poll(connection, input, closure)`.
    func start(_ function: LuaFunction, _ request: PollRequest, closure: JSONDocument?, _ limits: LuaLimits) throws -> Step {
        context.isPolling = true
        context.recordsMax = request.recordsMax
        var arguments = [
            try pageArgument(LuaPage(request.connection.root.bytes), function, asTable: false),
            try pageArgument(LuaPage(request.input.root.bytes), function, asTable: false),
        ]
        arguments.append(try closure.map { try pageArgument(LuaPage($0.root.bytes), function, asTable: true) } ?? clua_argument())
        let recordsMax = Int32(clamping: request.recordsMax)
        return try step(clua_start(raw, function.number, arguments, Int32(arguments.count), recordsMax, limits.poll), function)
    }

    /// Begins a function whose whole result is one value: it stands as JSON in `next`, nothing for nil.
    func start(_ function: LuaFunction, arguments: [JSONDocument?], _ limits: LuaLimits) throws -> Step {
        context.isPolling = true
        let arguments = try arguments.map { document in
            try document.map { try pageArgument(LuaPage($0.root.bytes), function, asTable: false) } ?? clua_argument()
        }
        return try step(
            clua_start(raw, function.number, arguments, Int32(arguments.count), Int32(CLUA_ONE_VALUE.rawValue), limits.poll), function)
    }

    /// Goes on with the answer to the request that the last step named.
    func resume(_ function: LuaFunction, _ reply: HTTPReply) throws -> Step {
        guard let object = context.keep(LuaReply(reply), bytes: reply.body.count) else {
            throw error(LuaContext.tooMuch, function)
        }
        var argument = LuaState.argument(CLUA_HANDLE_REPLY, object)
        return try step(clua_resume(raw, &argument), function)
    }

    private func step(_ status: clua_status, _ function: LuaFunction) throws -> Step {
        try check(status, function)
        guard status == CLUA_YIELD else { return .done(context.result) }
        guard let plan = context.plan else { throw error("was suspended without a request", function) }
        context.plan = nil
        return .request(plan)
    }

    // MARK: Arguments

    private static func argument(_ kind: clua_handle_kind, _ object: UnsafeMutableRawPointer, length: Int = 0) -> clua_argument {
        var argument = clua_argument()
        argument.kind = CLUA_ARGUMENT_HANDLE.rawValue
        argument.handle = clua_handle(kind: kind.rawValue, epoch: 0, object: object, offset: 0, length: length, index: nil)
        return argument
    }

    /// A document as a handle or as tables; a scalar as it is.
    private func pageArgument(_ page: LuaPage, _ function: LuaFunction, asTable: Bool) throws -> clua_argument {
        guard let object = context.keep(page, bytes: page.bytes.count) else { throw error(LuaContext.tooMuch, function) }
        let view = JSONView(checked: page.bytes)
        if view.kind == .object || view.kind == .array {
            var argument = LuaState.argument(CLUA_HANDLE_VIEW, object, length: page.bytes.count)
            if asTable { argument.kind = CLUA_ARGUMENT_TABLE.rawValue }
            return argument
        }
        var argument = clua_argument()
        if view.kind == .string {
            let kept = LuaString(view.string ?? "")
            guard context.keep(kept, bytes: kept.bytes.count) != nil else { throw error(LuaContext.tooMuch, function) }
            argument.kind = CLUA_ARGUMENT_STRING.rawValue
            (argument.bytes, argument.length) = (UnsafePointer(kept.bytes.baseAddress), kept.bytes.count)
            return argument
        }
        argument.kind = CLUA_ARGUMENT_VALUE.rawValue
        withUnsafeMutablePointer(to: &argument.value) {
            LuaValue(state: raw, pointer: $0).put(view, in: page, null: CLUA_VALUE_NIL)
        }
        return argument
    }
}

/// Text that stays where it is until the call ends.
final class LuaString {
    let bytes: UnsafeMutableBufferPointer<CChar>
    init(_ text: String) {
        let source = Array(text.utf8)
        bytes = .allocate(capacity: source.count)
        _ = bytes.initialize(from: source.map { CChar(bitPattern: $0) })
    }
    deinit { bytes.deallocate() }
}
