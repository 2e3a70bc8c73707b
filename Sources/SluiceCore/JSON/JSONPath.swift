/// Keys from a value inwards, made ready once so that looking them up in each record of a page allocates nothing.
public struct JSONPath: Sendable, Hashable, CustomStringConvertible {
    public let keys: [String]
    private let keyBytes: [[UInt8]]

    public init(_ keys: [String]) {
        self.keys = keys
        keyBytes = keys.map { Array($0.utf8) }
    }

    /// Keys with points between them, such as `customer.email`; nil where a key is empty.
    public init?(text: String) {
        let keys = text.split(separator: ".", omittingEmptySubsequences: false).map(String.init)
        guard !keys.contains("") else { return nil }
        self.init(keys)
    }

    /// Keys joined by points, for messages.
    public var description: String { keys.joined(separator: ".") }

    /// The value at the path; nil as soon as a key is missing. An empty path gives the value itself.
    public func find(in view: JSONView) -> JSONView? {
        let range = view.bytes.withUnsafeBufferPointer { find(in: $0) }
        guard let range else { return nil }
        let start = view.bytes.startIndex
        return JSONView(checked: view.bytes[start + range.lowerBound..<start + range.upperBound])
    }

    /// The same on the bytes of one checked value; the range counts from the start of `value`.
    public func find(in value: UnsafeBufferPointer<UInt8>) -> Range<Int>? {
        var range = 0..<value.count
        for key in keyBytes {
            guard !range.isEmpty, value[range.lowerBound] == UInt8(ascii: "{") else { return nil }
            var cursor = JSONCursor(UnsafeBufferPointer(rebasing: value[range]))
            guard let inner = key.withUnsafeBufferPointer({ cursor.member($0) }) else { return nil }
            range = range.lowerBound + inner.lowerBound..<range.lowerBound + inner.upperBound
        }
        return range
    }
}
