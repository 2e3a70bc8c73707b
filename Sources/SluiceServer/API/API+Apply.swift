import SluiceCore
import SluiceStore

extension API {
    /// Takes `{"manifest": text, "references": {"env:NAME": value}, "dry_run", "prune", "reset": [names]}`, or the manifest
    /// itself with `?dry_run=true&prune=true&reset=NAME`. Answers the plan; nothing in it is secret.
    func apply(_ call: APICall) async throws -> APIResponse {
        let order = try ApplyOrder(call)
        let manifest = try ManifestReader.read(order.manifest, references: order.references, file: order.file)
        return try await changes.run {
            for _ in 0..<API.plansMax {
                let current = try CurrentState(definitions: try await self.definitions(), sealer: self.parts.sealer)
                let options = ApplyOptions(prunes: order.prunes, resets: order.resets, places: self.parts.places)
                let plan = try ApplyPlanner.plan(
                    manifest, connectors: self.parts.connectors, current: current, options: options, file: order.file)
                do {
                    if !order.isDryRun { try await self.carryOut(plan) }
                    return plan.response(isDryRun: order.isDryRun)
                } catch let error as SluiceError where error.code == .conflict && error.context["trigger_state"] != nil {
                    // A poll changed a trigger's state after the plan was made. Nothing was stored: plan anew.
                    continue
                }
            }
            throw SluiceError(.conflict, "the triggers change faster than they can be applied to: try again")
        }
    }

    private static let plansMax = 5

    /// Definitions and states in one transaction, then what follows for those who run. A server that was killed in between does
    /// that at its next start.
    private func carryOut(_ plan: ApplyPlan) async throws {
        if !plan.changes.isEmpty {
            let mended = plan.changes.compactMap { change -> DefinitionChange? in
                // Whatever was refused, was refused with what is replaced now; a restart must not hold it against the new.
                if case .putConnection(let name, _, _, _, _) = change { .setConnectionProblem(name: name, problem: nil) } else { nil }
            }
            try await parts.store.apply(try plan.sealed(by: parts.sealer) + mended, namespace: .default, at: parts.clock.now())
            for case .setConnectionProblem(let name, _) in mended { parts.alarms.clear(.connectionRefused, subject: "connection \(name)") }
            try await parts.control.definitionsChanged()
        }
        // Several at a time share their commits.
        try await withThrowingDiscardingTaskGroup { group in
            let workers = min(API.commandsAtOnceMax, plan.commands.count)
            for worker in 0..<workers {
                group.addTask {
                    for index in stride(from: worker, to: plan.commands.count, by: workers) {
                        let entry = plan.commands[index]
                        try await self.parts.lifecycle.applied(entry.effects, trigger: entry.trigger)
                    }
                }
            }
        }
        Memory.giveBack()
    }

    private static let commandsAtOnceMax = 64
}

/// What a request asks `apply` for.
struct ApplyOrder: Sendable {
    var manifest: String
    var references: [String: String] = [:]
    var file = "sluice.yaml"
    var isDryRun: Bool
    var prunes: Bool
    var resets: Set<String>

    init(_ call: APICall) throws(SluiceError) {
        isDryRun = call.flag("dry_run")
        prunes = call.flag("prune")
        resets = Set(call.request.query.filter { $0.name == "reset" }.map(\.value))
        guard let text = String(validating: call.request.body, as: UTF8.self) else {
            throw SluiceError(.invalid, "the manifest is not UTF-8")
        }
        manifest = text
        guard let root = (try? JSONDocument(call.request.body))?.root, let wrapped = root["manifest"] else { return }
        guard let text = wrapped.string else { throw SluiceError(.invalid, "`manifest` is the text of the file") }
        manifest = text
        file = root["file"]?.string ?? file
        // However it is said to be typed: who writes "dry_run": "true" does not mean it to be applied.
        isDryRun = try ApplyOrder.flag(root, "dry_run") || isDryRun
        prunes = try ApplyOrder.flag(root, "prune") || prunes
        if let listed = root["reset"] {
            guard let names = listed.elements?.map(\.string), !names.contains(nil) else {
                throw SluiceError(.invalid, "`reset` is a list of the names of triggers")
            }
            resets.formUnion(names.compactMap(\.self))
        }
        for member in root["references"]?.members ?? [] { references[member.key] = member.value.string }
    }
}

extension ApplyOrder {
    private static func flag(_ root: JSONView, _ name: String) throws(SluiceError) -> Bool {
        guard let value = root[name] else { return false }
        guard let flag = value.bool else { throw SluiceError(.invalid, "`\(name)` is true or false, without quotes") }
        return flag
    }
}

extension ApplyPlan {
    func response(isDryRun: Bool) -> APIResponse {
        APIResponse.object { writer in
            writer.member("applied", !isDryRun)
            writer.member("changes", !isEmpty)
            writer.list("plan", steps) { writer, step in
                writer.member("action", step.action.rawValue)
                writer.member("kind", step.kind)
                writer.member("name", step.name)
                writer.key("notes")
                writer.array { writer in for note in step.notes { writer.value(note) } }
            }
            writer.key("warnings")
            writer.array { writer in for warning in warnings { writer.value(warning) } }
        }
    }
}

/// What a command, or the server at its start, asks `apply` for.
public struct ApplyRequest: Sendable {
    public var manifest: String
    /// Values of `env:NAME` and `file:PATH`, read where the person is who applies.
    public var references: [String: String]
    public var file: String
    public var isDryRun = false
    public var prunes = false
    public var resets: [String] = []

    public init(manifest: String, references: [String: String], file: String) {
        self.manifest = manifest
        self.references = references
        self.file = file
    }

    public var request: APIRequest {
        var writer = JSONWriter()
        writer.object { writer in
            writer.member("manifest", manifest)
            writer.member("file", file)
            writer.key("references")
            writer.object { writer in for (name, value) in references.sorted(by: { $0.key < $1.key }) { writer.member(name, value) } }
            writer.member("dry_run", isDryRun)
            writer.member("prune", prunes)
            writer.key("reset")
            writer.array { writer in for name in resets { writer.value(name) } }
        }
        return APIRequest("POST", "/v1/apply", isTrusted: true, contentType: "application/json", body: writer.bytes)
    }
}

/// An answer of `apply`, for people.
public enum PlanText {
    public static func text(_ body: [UInt8]) -> String {
        guard let root = (try? JSONDocument(body))?.root else { return "" }
        let signs = ["create": "+", "change": "~", "reset": "!", "stop": "-", "keep": " "]
        var lines: [String] = []
        for step in root["plan"]?.elements ?? [] {
            let action = step["action"]?.string ?? ""
            let notes = step["notes"]?.elements?.compactMap(\.string) ?? []
            let head =
                "\(signs[action] ?? "?") \(action.padded(6)) \((step["kind"]?.string ?? "").padded(11)) \(step["name"]?.string ?? "")"
            lines.append(head + (notes.isEmpty ? "" : ": " + notes.joined(separator: "; ")))
        }
        for warning in root["warnings"]?.elements?.compactMap(\.string) ?? [] { lines.append("Warning: \(warning)") }
        if root["changes"]?.bool == false { lines.append("Nothing changes.") }
        if root["applied"]?.bool == false { lines.append("Dry run: nothing was changed.") }
        return lines.joined(separator: "\n")
    }
}

extension String {
    /// With spaces up to a width.
    public func padded(_ width: Int) -> String { self + String(repeating: " ", count: max(0, width - count)) }
}
