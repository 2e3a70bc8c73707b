import CLua
import SluiceConnectors
import SluiceCore

/// The Swift side of one Lua state: what its handles stand for, and what a call leaves behind.
///
/// The callbacks in `LuaCallbacks` end up here. They run below C frames that may be left by longjmp only after the
/// callback has returned, so nothing here throws or traps on what a connector does.
final class LuaContext {
    /// Keeps the objects behind this call's handles alive.
    private var objects: [AnyObject] = []
    private var bytesHeld = 0
    /// Whether the call is a poll, which alone may send requests.
    var isPolling = false
    var recordsMax = 0
    /// The request that the suspended coroutine waits for.
    var plan: HTTPRequestPlan?
    /// Why a callback ended the call.
    var failure: (any Error)?
    var result = LuaPollResult()

    /// What one call may hold outside of Lua's own memory: bodies, decoded JSON and their indexes.
    static let bytesHeldMax = 2 * PollLimits.pageBytesMax

    func endCall() {
        objects.removeAll(keepingCapacity: objects.count < 1000)
        bytesHeld = 0
        isPolling = false
        plan = nil
        failure = nil
        result = LuaPollResult()
    }

    /// Takes an object over into the call, or nil if the call holds too much already.
    func keep(_ object: AnyObject, bytes: Int) -> UnsafeMutableRawPointer? {
        guard bytesHeld + bytes + 128 <= LuaContext.bytesHeldMax else { return nil }
        bytesHeld += bytes + 128
        objects.append(object)
        return Unmanaged.passUnretained(object).toOpaque()
    }

    /// Counts bytes that the call holds; false if they are too many.
    func bytesHeld(adding bytes: Int) -> Bool {
        guard bytesHeld + bytes <= LuaContext.bytesHeldMax else { return false }
        bytesHeld += bytes
        return true
    }

    static func object<Object: AnyObject>(_ type: Object.Type, of handle: clua_handle) -> Object {
        Unmanaged<Object>.fromOpaque(handle.object).takeUnretainedValue()
    }

    static func location(_ handle: clua_handle) -> LuaLocation { LuaLocation(offset: handle.offset, length: handle.length) }

    static func view(_ handle: clua_handle) -> JSONView { object(LuaPage.self, of: handle).view(location(handle)) }

    /// The places of a view's elements, found once for each handle.
    func index(_ handle: UnsafeMutablePointer<clua_handle>, _ out: LuaValue) -> LuaIndex? {
        if let index = handle.pointee.index { return Unmanaged<LuaIndex>.fromOpaque(index).takeUnretainedValue() }
        guard handle.pointee.kind == CLUA_HANDLE_VIEW.rawValue else { return nil }
        guard let index = LuaIndex(LuaContext.view(handle.pointee)) else {
            out.fail("more than \(LuaIndex.countMax) elements")
            return nil
        }
        guard let pointer = keep(index, bytes: index.bytesUsed) else {
            out.fail(LuaContext.tooMuch)
            return nil
        }
        out.scanned += handle.pointee.length
        handle.pointee.index = pointer
        return index
    }

    static let tooMuch = "the call holds more than \(bytesHeldMax >> 20) MB of answers"
}

/// The parts of a poll's result, in the order in which C found them.
struct LuaPollResult {
    var records: [Record] = []
    var next: [UInt8]?
    var more = false
    var warnings: [String] = []
    var epoch: String?
}

/// Writes a value for C. A thin wrapper that knows the state's scratch buffer.
struct LuaValue {
    let state: OpaquePointer
    let pointer: UnsafeMutablePointer<clua_value>

    var scanned: Int {
        get { pointer.pointee.scanned }
        nonmutating set { pointer.pointee.scanned = newValue }
    }

    func put(_ kind: clua_value_kind) { pointer.pointee.kind = kind.rawValue }

    func put(_ integer: Int64) {
        pointer.pointee.integer = integer
        put(CLUA_VALUE_INTEGER)
    }

    func put(_ flag: Bool) {
        pointer.pointee.integer = flag ? 1 : 0
        put(CLUA_VALUE_BOOL)
    }

    func put(_ text: String) {
        var text = text
        text.withUTF8 { put(bytes: $0) }
    }

    func put(bytes: UnsafeBufferPointer<UInt8>) {
        scanned += bytes.count
        guard let scratch = clua_scratch(state, bytes.count) else { return fail("not enough memory for a string of \(bytes.count) bytes") }
        if let start = bytes.baseAddress { UnsafeMutableRawPointer(scratch).copyMemory(from: start, byteCount: bytes.count) }
        pointer.pointee.length = bytes.count
        put(CLUA_VALUE_STRING)
    }

    func put(_ kind: clua_handle_kind, _ object: UnsafeMutableRawPointer, offset: Int = 0, length: Int = 0) {
        pointer.pointee.handle = clua_handle(
            kind: kind.rawValue, epoch: 0, object: object, offset: offset, length: length, index: nil)
        put(CLUA_VALUE_HANDLE)
    }

    /// An error at the line that asked; the code may catch it.
    func fail(_ message: String) {
        put(message)
        put(pointer.pointee.kind == CLUA_VALUE_STRING.rawValue ? CLUA_VALUE_ERROR : CLUA_VALUE_STOP)
    }

    /// A value of a page: scalars as Lua's own, the rest as a handle. `null` as `CLUA_VALUE_NIL` or `CLUA_VALUE_NULL`.
    func put(_ view: JSONView, in page: LuaPage, null: clua_value_kind) {
        switch view.kind {
        case .null: put(null)
        case .bool: put(view.bool == true)
        case .string: putString(view)
        case .object, .array: putHandle(CLUA_HANDLE_VIEW, view, page)
        case .number:
            if let integer = view.int64 {
                put(integer)
            } else if let double = view.double, LuaNumber.holdsExactly(view.bytes, double) {
                pointer.pointee.number = double
                put(CLUA_VALUE_FLOAT)
            } else {
                putHandle(CLUA_HANDLE_NUMBER, view, page)
            }
        }
    }

    private func putHandle(_ kind: clua_handle_kind, _ view: JSONView, _ page: LuaPage) {
        put(
            kind, Unmanaged.passUnretained(page).toOpaque(), offset: view.bytes.startIndex - page.bytes.startIndex,
            length: view.bytes.count)
    }

    private func putString(_ view: JSONView) {
        let inner = view.bytes.dropFirst().dropLast()
        if inner.contains(UInt8(ascii: "\\")) {
            put(view.string ?? "")
        } else {
            inner.withUnsafeBufferPointer { put(bytes: $0) }
        }
    }
}
