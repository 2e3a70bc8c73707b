import Synchronization

/// Notes which fields the templates of a description name while it is read, so that they can be compared with those that are
/// declared. A place that names no field never has a value: its parameter, filter or start would be left out without a word.
package final class PlaceWitness: Sendable {
    /// The names that there are.
    package struct Declared: Sendable {
        var connection: [String]
        var input: [String]

        package init(connection: [Field], input: [Field]) {
            (self.connection, self.input) = (connection.map(\.name), input.map(\.name))
        }
    }

    private struct Place: Sendable {
        /// Where it stands, for example `incremental.query.status`.
        var key: String
        var root: String
        var name: String
    }

    private struct State {
        var places: [Place] = []
        var variant: (name: String, keys: Set<String>)?
    }

    @TaskLocal package static var current: PlaceWitness?
    private let state = Mutex(State())

    package init() {}

    static func note(_ template: Template, _ key: String) {
        guard let current else { return }
        for root in [Template.Root.connection, .input] {
            for name in template.names(of: root) { current.note(key, root.rawValue, name) }
        }
    }

    static func note(_ template: SubscriptionTemplate, _ key: String) {
        guard let current else { return }
        for root in ["connection", "input"] { for name in template.fields(of: root) { current.note(key, root, name) } }
    }

    /// A key that names a field of the input without braces.
    static func note(input name: String, _ key: String) { current?.note(key, "input", name) }

    /// What is noted until `leaveVariant` stands in this variant of `incremental` where it is one of its own keys.
    static func enter(variant name: String, keys: [String]) { current?.state.withLock { $0.variant = (name, Set(keys)) } }
    static func leaveVariant() { current?.state.withLock { $0.variant = nil } }

    private func note(_ key: String, _ root: String, _ name: String) {
        state.withLock { state in
            var key = key
            let parts = key.split(separator: ".", maxSplits: 1)
            if let variant = state.variant, parts.count == 2, parts[0] == "incremental",
                variant.keys.contains(String(parts[1].prefix { $0 != "." && $0 != "[" }))
            {
                key = "incremental.variants.\(variant.name).\(parts[1])"
            }
            state.places.append(Place(key: key, root: root, name: name))
        }
    }

    /// The first place that names no declared field, with what mends it; nil if there is none.
    package func problem(_ declared: Declared) -> String? {
        for place in state.withLock({ $0.places }) {
            let (names, list) = place.root == "input" ? (declared.input, "input_fields") : (declared.connection, "connection.fields")
            if names.contains(place.name) { continue }
            let known = names.isEmpty ? "there are none" : "there are \(names.joined(separator: ", "))"
            return "\(place.key) names {\(place.root).\(place.name)}, which is not among \(list) (\(known)): "
                + "correct it, or add { name = \"\(place.name)\" } there"
        }
        return nil
    }
}
