/// Bytes of an answer that never ends, until their lines are complete. Pure.
struct LineBuffer {
    private var bytes: [UInt8] = []
    /// How far the search for the end of the first line has come.
    private var searched = 0
    private var start = 0

    var count: Int { bytes.count - start }
    /// Whether a line is complete. Remembers how far it has looked only in `take`.
    var hasLine: Bool { bytes[max(searched, start)...].contains(UInt8(ascii: "\n")) }

    mutating func takeAll() -> [UInt8] {
        defer { self = LineBuffer() }
        return start == 0 ? bytes : Array(bytes[start...])
    }

    mutating func append(_ more: some Sequence<UInt8>) { bytes.append(contentsOf: more) }

    /// The complete lines as a JSON array: at least one if there is one, then more up to `bytesMax`. Blank lines are left out.
    /// With `atEnd`, what is left counts as a line. Nil if there is none.
    mutating func take(bytesMax: Int, atEnd: Bool = false) -> [UInt8]? {
        var array: [UInt8] = []
        while array.count < bytesMax, let line = nextLine(atEnd: atEnd) {
            guard !line.allSatisfy({ $0 <= 0x20 }) else { continue }
            array.append(array.isEmpty ? UInt8(ascii: "[") : UInt8(ascii: ","))
            array += line
        }
        compact()
        if array.isEmpty { return nil }
        array.append(UInt8(ascii: "]"))
        return array
    }

    private mutating func nextLine(atEnd: Bool) -> ArraySlice<UInt8>? {
        if let end = bytes[max(searched, start)...].firstIndex(of: UInt8(ascii: "\n")) {
            defer { (start, searched) = (end + 1, end + 1) }
            return bytes[start..<end]
        }
        searched = bytes.count
        guard atEnd, start < bytes.count else { return nil }
        defer { start = bytes.count }
        return bytes[start...]
    }

    private mutating func compact() {
        guard start > 0 else { return }
        // Idle streams are many: an empty buffer keeps nothing.
        if start == bytes.count { bytes = [] } else { bytes.removeFirst(start) }
        (searched, start) = (searched - start, 0)
    }
}
