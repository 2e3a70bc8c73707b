/// Keeps some members of an object: in the object's order, their bytes as they came; white space between members goes.
///
/// A path is followed through objects, as `JSONPath` is; what is missing is left out, and so is an object of which nothing
/// is left. A path that ends in an object or array takes all of it. Where an object has a key twice, the first counts.
public struct JSONProjection: Sendable, Equatable {
    public let paths: [JSONPath]
    private let root: Branch

    public static let pathsMax = 200
    public static let depthMax = 16
    public static let keyBytesMax = 256

    private struct Branch: Sendable, Equatable {
        /// All below is taken.
        var isWhole = false
        var children: [(key: [UInt8], branch: Branch)] = []

        static func == (left: Branch, right: Branch) -> Bool {
            left.isWhole == right.isWhole && left.children.elementsEqual(right.children) { $0.key == $1.key && $0.branch == $1.branch }
        }

        mutating func add(_ keys: ArraySlice<[UInt8]>) {
            guard let first = keys.first else {
                isWhole = true
                return
            }
            if let index = children.firstIndex(where: { $0.key == first }) {
                children[index].branch.add(keys.dropFirst())
            } else {
                var branch = Branch()
                branch.add(keys.dropFirst())
                children.append((first, branch))
            }
        }
    }

    /// Throws `.invalid` for no path, more than 200, a path deeper than 16, an empty key or one longer than 256 bytes.
    public init(_ paths: [JSONPath]) throws(SluiceError) {
        guard !paths.isEmpty, paths.count <= JSONProjection.pathsMax else {
            throw SluiceError(.invalid, "`fields` has from 1 to \(JSONProjection.pathsMax) paths, not \(paths.count)")
        }
        var root = Branch()
        for path in paths {
            guard !path.keys.isEmpty, path.keys.count <= JSONProjection.depthMax else {
                throw SluiceError(.invalid, "a path in `fields` has from 1 to \(JSONProjection.depthMax) keys, not \(path.keys.count)")
            }
            for key in path.keys where key.isEmpty || key.utf8.count > JSONProjection.keyBytesMax {
                throw SluiceError(
                    .invalid,
                    "a key in `fields` has from 1 to \(JSONProjection.keyBytesMax) bytes: keys with points between them, such as customer.email, or a list of keys"
                )
            }
            root.add(path.keys.map { Array($0.utf8) }[...])
        }
        self.paths = paths
        self.root = root
    }

    /// The object with those members only; nil if `record` is no object. `record` is JSON that was checked.
    public func project(_ record: ArraySlice<UInt8>) -> [UInt8]? {
        record.withUnsafeBufferPointer { buffer in
            var cursor = JSONCursor(buffer)
            cursor.skipSpace()
            guard cursor.index < buffer.count, buffer[cursor.index] == UInt8(ascii: "{") else { return nil }
            let range = cursor.skipValue()
            var result: [UInt8] = []
            result.reserveCapacity(min(buffer.count, 1024))
            if !JSONProjection.write(root, UnsafeBufferPointer(rebasing: buffer[range]), into: &result) { result = Array("{}".utf8) }
            return result
        }
    }

    /// False, and nothing is written, if nothing of the object is wanted.
    private static func write(_ branch: Branch, _ object: UnsafeBufferPointer<UInt8>, into result: inout [UInt8]) -> Bool {
        let start = result.count
        var cursor = JSONCursor(object)
        cursor.enter()
        var taken = [Bool](repeating: false, count: branch.children.count)
        var left = branch.children.count
        while left > 0, let (key, value) = cursor.nextMember() {
            let name = key.lowerBound + 1..<key.upperBound - 1
            guard let index = branch.children.firstIndex(where: { cursor.matches(name, $0.key) }), !taken[index] else { continue }
            taken[index] = true
            left -= 1
            let before = result.count
            result.append(before == start ? UInt8(ascii: "{") : UInt8(ascii: ","))
            result.append(contentsOf: object[key])
            result.append(UInt8(ascii: ":"))
            let child = branch.children[index].branch
            let bytes = UnsafeBufferPointer(rebasing: object[value])
            if child.isWhole {
                result.append(contentsOf: bytes)
            } else if bytes.first != UInt8(ascii: "{") || !write(child, bytes, into: &result) {
                result.removeSubrange(before...)
            }
        }
        if result.count == start { return false }
        result.append(UInt8(ascii: "}"))
        return true
    }
}

extension JSONCursor {
    fileprivate func matches(_ key: Range<Int>, _ wanted: [UInt8]) -> Bool { wanted.withUnsafeBufferPointer { matches(key, $0) } }
}
