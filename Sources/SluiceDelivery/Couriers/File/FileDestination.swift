import SluiceCore

/// A file that jobs are appended to, a line of JSON each.
public struct FileDestination: CourierPlan {
    public var name: String
    /// An absolute path below `root`, without `.`, `..` and empty parts.
    public var path: String
    /// The directory that files may lie in.
    public var root: String
    public var rotation: FileRotation
    /// Jobs that one call writes, with one sync.
    public var jobsMax: Int
    public var timeoutSeconds: Int

    public static let batchDefault = 500
    public static let batchLimit = 5000
    public static let timeoutSecondsDefault = 30

    public init(
        name: String, path: String, root: String, rotation: FileRotation = FileRotation(), batchMax: Int = batchDefault,
        timeoutSeconds: Int = timeoutSecondsDefault
    ) {
        self.name = name
        self.path = path
        self.root = root
        self.rotation = rotation
        jobsMax = batchMax
        self.timeoutSeconds = timeoutSeconds
    }

    /// The path that `text` means: below `root`, where it is relative; nil where it leads elsewhere.
    public static func resolve(_ text: String, root: String) -> String? {
        let rootParts = root.split(separator: "/")
        let parts = text.split(separator: "/")
        guard !text.utf8.contains(0), !text.hasSuffix("/"), !parts.isEmpty, !parts.contains(".."), !parts.contains(".") else { return nil }
        let all = text.hasPrefix("/") ? parts : rootParts + parts
        guard all.count > rootParts.count, all.starts(with: rootParts) else { return nil }
        return "/" + all.joined(separator: "/")
    }

    /// Whether two destinations would write to the same file, or one to what the other puts aside.
    public static func collide(_ first: String, _ second: String) -> Bool {
        first == second || FileRotation.number(of: first, in: second) != nil || FileRotation.number(of: second, in: first) != nil
    }

    public var target: String { path }
    public func makeCourier(_ tools: CourierTools) -> any Courier { FileCourier(self, wallTime: tools.wallTime) }

    /// Throws `.invalid` naming what to mend.
    public func validate() throws(SluiceError) {
        func refuse(_ message: String) -> SluiceError { SluiceError(.invalid, message) }
        guard FileDestination.resolve(path, root: root) == path else {
            throw refuse("`path` must lie in \(root), the directory that `sluice serve --files-in` names: for example \"orders.jsonl\"")
        }
        guard path.utf8.count <= 4000, path.split(separator: "/").allSatisfy({ $0.utf8.count <= 240 }) else {
            throw refuse("`path` is too long: 240 bytes for each of its parts, to leave room for the numbers of rotated files")
        }
        guard (1...FileDestination.batchLimit).contains(jobsMax) else {
            throw refuse("`batch_max` of a file is from 1 to \(FileDestination.batchLimit), not \(jobsMax)")
        }
        try rotation.validate()
    }
}
