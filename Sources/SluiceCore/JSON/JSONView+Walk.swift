extension JSONView {
    /// Where the elements of an array lie, counted from the start of `bytes`; nil for anything else, and for an array
    /// of more than `countMax`. For those who look at elements one by one and keep their places rather than views.
    public func elementRanges(countMax: Int) -> [Range<Int>]? {
        guard kind == .array else { return nil }
        return bytes.withUnsafeBufferPointer { buffer in
            var result: [Range<Int>] = []
            var cursor = JSONCursor(buffer)
            cursor.enter()
            while let range = cursor.nextElement() {
                guard result.count < countMax else { return nil }
                result.append(range)
            }
            return result
        }
    }

    /// Where the keys (with their quotes) and values of an object lie; nil as for `elementRanges`.
    public func memberRanges(countMax: Int) -> (keys: [Range<Int>], values: [Range<Int>])? {
        guard kind == .object else { return nil }
        return bytes.withUnsafeBufferPointer { buffer in
            var keys: [Range<Int>] = []
            var values: [Range<Int>] = []
            var cursor = JSONCursor(buffer)
            cursor.enter()
            while let (key, value) = cursor.nextMember() {
                guard keys.count < countMax else { return nil }
                keys.append(key)
                values.append(value)
            }
            return (keys, values)
        }
    }
}
