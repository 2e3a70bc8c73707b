import SluiceCore
import SluiceStore

extension API {
    /// Takes `{"manifest": text, "references": {"env:NAME": value}, "dry_run", "prune", "reset": [names]}`, or the manifest
    /// itself with `?dry_run=true&prune=true&reset=NAME`. Answers the plan; nothing in it is secret.
    func apply(_ call: APICall) async throws -> APIResponse {
        let order = try ApplyOrder(call)
        let manifest = try ManifestReader.read(order.manifest, references: order.references, file: order.file)
        return try await changes.run {
            let current = try CurrentState(definitions: try await self.definitions(), sealer: self.parts.sealer)
            let options = ApplyOptions(prunes: order.prunes, resets: order.resets)
            let plan = try ApplyPlanner.plan(
                manifest, connectors: self.parts.connectors, current: current, options: options, file: order.file)
            if !order.isDryRun { try await self.carryOut(plan) }
            return plan.response(isDryRun: order.isDryRun)
        }
    }

    /// Definitions in one transaction, then the commands; a repeated apply finishes what a crash in between left open.
    private func carryOut(_ plan: ApplyPlan) async throws {
        if !plan.changes.isEmpty {
            try await parts.store.apply(try plan.sealed(by: parts.sealer), namespace: .default, at: parts.clock.now())
            try await parts.control.definitionsChanged()
        }
        for entry in plan.commands {
            for command in entry.commands { _ = try await parts.lifecycle.command(command, trigger: entry.trigger) }
        }
    }
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
        guard let text = String(validating: call.request.body, as: UTF8.self) else { throw SluiceError(.invalid, "the manifest is not UTF-8") }
        manifest = text
        guard let root = (try? JSONDocument(call.request.body))?.root, let wrapped = root["manifest"] else { return }
        guard let text = wrapped.string else { throw SluiceError(.invalid, "`manifest` is the text of the file") }
        manifest = text
        file = root["file"]?.string ?? file
        isDryRun = isDryRun || root["dry_run"]?.bool == true
        prunes = prunes || root["prune"]?.bool == true
        resets.formUnion(root["reset"]?.elements?.compactMap(\.string) ?? [])
        for member in root["references"]?.members ?? [] { references[member.key] = member.value.string }
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
