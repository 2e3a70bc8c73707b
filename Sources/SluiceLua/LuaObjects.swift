import SluiceConnectors
import SluiceCore

// What the handles that Lua sees stand for. The context of a call keeps them alive until the call ends.

/// JSON that was checked, and into which views look.
final class LuaPage {
    var bytes: ArraySlice<UInt8>

    init(_ bytes: ArraySlice<UInt8>) { self.bytes = bytes }

    func view(_ handle: LuaLocation) -> JSONView {
        let start = bytes.startIndex + handle.offset
        return JSONView(checked: bytes[start..<start + handle.length])
    }
}

/// A part of a page, in bytes from its start.
struct LuaLocation {
    var offset: Int
    var length: Int
}

/// Where the elements or members of one view lie, made when Lua first counts, indexes or walks it.
final class LuaIndex {
    /// With their quotes; nil for an array.
    let keys: [Range<Int>]?
    let values: [Range<Int>]

    /// More than this many elements are refused.
    static let countMax = 1_000_000

    init?(_ view: JSONView) {
        if let members = view.memberRanges(countMax: LuaIndex.countMax) {
            (keys, values) = (members.keys, members.values)
        } else if let elements = view.elementRanges(countMax: LuaIndex.countMax) {
            (keys, values) = (nil, elements)
        } else {
            return nil
        }
    }

    var bytesUsed: Int { (values.count + (keys?.count ?? 0)) * MemoryLayout<Range<Int>>.stride }
}

final class LuaHeaders {
    let fields: [HTTPField]
    init(_ fields: [HTTPField]) { self.fields = fields }
}

/// A webhook, read field by field when Lua asks.
final class LuaWebhook {
    let request: WebhookRequest
    var headers: LuaHeaders?
    var page: LuaPage?
    init(_ request: WebhookRequest) { self.request = request }
}

/// The answer to a request that a poll made.
final class LuaReply {
    let reply: HTTPReply
    var headers: LuaHeaders?
    var page: LuaPage?
    init(_ reply: HTTPReply) { self.reply = reply }
}

/// What a filter is told of a job besides its record.
final class LuaJob {
    let job: FilteredJob
    init(_ job: FilteredJob) { self.job = job }
}
