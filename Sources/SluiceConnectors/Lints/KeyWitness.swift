import Synchronization

/// Notes which keys the readers of connectors ask for, and what they take: the reference is made of that, so that it says what
/// the code does. Nothing is noted while no reference is made.
package final class KeyWitness: Sendable {
    package enum Kind: Sendable, Equatable {
        case value, text, table, template, templates, path, paths, flag, function, data, seconds
        /// A table that describes, or code.
        case tableOrFunction
        case integer(ClosedRange<Int64>)
        case choice([String])

        /// Which of the two forms that some keys may have it is.
        fileprivate var word: String {
            switch self {
            case .table, .data: "table"
            case .function: "function"
            default: ""
            }
        }

        /// A reader may ask for a key by a simpler reader first.
        fileprivate var rank: Int {
            switch self {
            case .value, .data: 0
            case .text, .table: 1
            default: 2
            }
        }
    }

    @TaskLocal package static var current: KeyWitness?
    private let noted = Mutex<[String: [String: Kind]]>([:])

    package init() {}

    /// By the places of tables, and there by their keys.
    package var all: [String: [String: Kind]] { noted.withLock { $0 } }

    package static func note(_ place: String, _ key: String, _ kind: Kind) {
        guard let current else { return }
        let place = normal(place)
        current.noted.withLock { noted in
            if let known = noted[place]?[key] {
                if known == .tableOrFunction { return }
                if Set([known, kind].map(\.word)) == ["table", "function"] { return noted[place, default: [:]][key] = .tableOrFunction }
                if known.rank > kind.rank { return }
            }
            noted[place, default: [:]][key] = kind
        }
    }

    /// `list[2]` is like `list[1]`, one trigger type like another, a field of an input like one of a connection.
    private static func normal(_ place: String) -> String {
        var parts = place.split(separator: ".").map { String($0.prefix { $0 != "[" }) }
        if ["triggers", "callbacks"].contains(parts.first), parts.count > 1 { parts[1] = "NAME" }
        if let last = parts.last, last == "fields" || last.hasSuffix("_fields") { return "fields" }
        return parts.joined(separator: ".")
    }
}
