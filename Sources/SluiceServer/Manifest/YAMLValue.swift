import SluiceCore
import Yams

/// YAML as it was written: scalars keep their text, so `0123`, `1e3` and `9007199254740993` mean what a person sees, and
/// each value knows its line. JSON is read as well, being YAML.
public struct YAMLValue: Sendable, Equatable {
    public indirect enum Content: Sendable, Equatable {
        /// `isPlain`: written without quotes, so that `true`, `null` and numbers may be meant.
        case scalar(String, isPlain: Bool)
        case mapping([Member])
        case sequence([YAMLValue])
    }
    public struct Member: Sendable, Equatable {
        public var key: String
        public var line: Int
        public var value: YAMLValue
    }
    public var content: Content
    /// From 1; 0 where it is not known.
    public var line: Int

    /// An empty document or value, `null` or `~`, written without quotes.
    public var isNothing: Bool {
        if case .scalar(let text, isPlain: true) = content { text.isEmpty || text.lowercased() == "null" || text == "~" } else { false }
    }

    public static let textBytesMax = 1 << 20
    private static let valuesMax = 100_000

    /// Reads one document. The error gives the line and the problem, and never quotes the text: there may be a secret in it.
    public static func parse(_ text: String, file: String) throws(SluiceError) -> YAMLValue {
        guard text.utf8.count <= textBytesMax else {
            throw SluiceError(.invalid, "\(file) is larger than \(textBytesMax) bytes").with("file", file)
        }
        guard !text.utf8.contains(0) else { throw SluiceError(.invalid, "\(file) holds a null byte").with("file", file) }
        let node: Node?
        do {
            node = try Yams.compose(yaml: text)
        } catch {
            throw fault(error as? YamlError, file: file)
        }
        guard let node else { return YAMLValue(content: .scalar("", isPlain: true), line: 1) }
        var budget = valuesMax
        return try convert(node, file: file, budget: &budget)
    }

    private static func convert(_ node: Node, file: String, budget: inout Int) throws(SluiceError) -> YAMLValue {
        budget -= 1
        let line = node.mark?.line ?? 0
        guard budget > 0 else { throw SluiceError(.invalid, "\(file) holds too many values (aliases count each time)").with("file", file) }
        switch node {
        case .scalar(let scalar):
            return YAMLValue(content: .scalar(scalar.string, isPlain: scalar.style == .plain), line: line)
        case .sequence(let sequence):
            var values: [YAMLValue] = []
            for element in sequence { values.append(try convert(element, file: file, budget: &budget)) }
            return YAMLValue(content: .sequence(values), line: line)
        case .mapping(let mapping):
            var members: [Member] = []
            for (key, value) in mapping {
                guard case .scalar(let name) = key else {
                    throw SluiceError(.invalid, "\(file), line \(line): a key must be a word").with("line", String(line))
                }
                let keyLine = name.mark?.line ?? line
                members.append(Member(key: name.string, line: keyLine, value: try convert(value, file: file, budget: &budget)))
            }
            return YAMLValue(content: .mapping(members), line: line)
        case .alias:
            throw SluiceError(.invalid, "\(file), line \(line): an alias names nothing").with("line", String(line))
        }
    }

    private static func fault(_ error: YamlError?, file: String) -> SluiceError {
        let (problem, mark): (String, Mark?)
        switch error {
        case .scanner(_, let text, let at, _), .parser(_, let text, let at, _), .composer(_, let text, let at, _):
            (problem, mark) = (text, at)
        case .duplicatedKeysInMapping(let keys, let context):
            (problem, mark) = ("these keys stand twice: \(keys.sorted().joined(separator: ", "))", context.mark)
        case .reader(let text, _, _, _): (problem, mark) = (text, nil)
        default: (problem, mark) = ("it cannot be read", nil)
        }
        let place = mark.map { ", line \($0.line), column \($0.column)" } ?? ""
        let error = SluiceError(.invalid, "\(file)\(place): this is not YAML: \(problem)").with("file", file)
        return mark.map { error.with("line", String($0.line)) } ?? error
    }
}

/// Something wrong in a manifest, at a line.
public struct ManifestIssue: Sendable, Equatable, CustomStringConvertible {
    public var line: Int
    /// What is wrong and what mends it. Never holds a value that may be secret.
    public var message: String
    public var description: String { line > 0 ? "line \(line): \(message)" : message }
}

extension SluiceError {
    /// One error out of all that is wrong in a file, in the order of the lines.
    static func manifest(_ issues: [ManifestIssue], file: String) -> SluiceError {
        let sorted = issues.sorted { $0.line < $1.line }
        let text = sorted.prefix(20).map(\.description).joined(separator: "\n  ")
        let rest = sorted.count > 20 ? "\n  and \(sorted.count - 20) more" : ""
        let head = sorted.count == 1 ? "\(file), " : "\(file) has \(sorted.count) faults:\n  "
        return SluiceError(.invalid, head + text + rest, context: ["file": file, "line": String(sorted.first?.line ?? 0)])
    }
}
