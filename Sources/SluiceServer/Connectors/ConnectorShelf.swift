import SluiceConnectors
import SluiceCore
import Synchronization

/// The connectors that are loaded now, and what is wrong with the files of some. Changed by `ConnectorReloader`; a poll that is
/// under way goes on with the connector that it began with.
public final class ConnectorShelf: Sendable {
    /// A file that is not what runs.
    public struct Problem: Sendable, Equatable {
        public var file: String
        public var error: SluiceError
        public var since: Timestamp
    }

    private struct State {
        var connectors: [String: any Connector]
        var problems: [String: Problem] = [:]
    }
    private let state: Mutex<State>

    public init(_ connectors: [String: any Connector]) { state = Mutex(State(connectors: connectors)) }

    /// With what could not be loaded at the start.
    public convenience init(_ library: ConnectorLibrary, at now: Timestamp) {
        self.init(library.connectors)
        for failure in library.failures {
            let file = failure.context["file"] ?? ""
            let parts = file.split(separator: "/")
            guard parts.count >= 2 else { continue }
            _ = setProblem(Problem(file: file, error: failure, since: now), of: String(parts[parts.count - 2]))
        }
    }

    public var connectors: [String: any Connector] { state.withLock { $0.connectors } }
    public func connector(_ name: String) -> (any Connector)? { state.withLock { $0.connectors[name] } }
    /// By the connectors' names.
    public var problems: [String: Problem] { state.withLock { $0.problems } }

    /// Takes a connector over in place of the one of its name, and its problem away. Returns the former one.
    func put(_ connector: any Connector) -> (any Connector)? {
        state.withLock { state in
            state.problems[connector.definition.name] = nil
            return state.connectors.updateValue(connector, forKey: connector.definition.name)
        }
    }

    /// False if this very problem is known already.
    func setProblem(_ problem: Problem, of name: String) -> Bool {
        state.withLock { state in
            if let known = state.problems[name], known.error == problem.error { return false }
            let since = state.problems[name]?.since ?? problem.since
            state.problems[name] = Problem(file: problem.file, error: problem.error, since: since)
            return true
        }
    }

    /// True if there was one.
    func clearProblem(of name: String) -> Bool { state.withLock { $0.problems.removeValue(forKey: name) != nil } }
}
