import SluiceConnectors
import SluiceCore
import SluiceDelivery
import SluiceGateway
import SluiceStore

/// Holds a manifest against the connectors and what is defined, and decides what `apply` changes. Pure: the same input gives
/// the same plan; random names come from outside.
///
/// What the file does not name stays. Another type or connection of a trigger needs a reset, because its cursor and its
/// jobs' identities belong to the old one; another input keeps the cursor and says so.
public struct ApplyPlanner {
    private let connectors: [String: any Connector]
    private let current: CurrentState
    private let options: ApplyOptions
    private let names: NameSource
    private var plan = ApplyPlan()
    private var issues: [ManifestIssue] = []
    /// The connector of each connection that will exist.
    private var connectorNames: [String: String] = [:]
    /// Connections of the manifest that cannot be made; what needs them says nothing of its own.
    private var faultyConnections: Set<String> = []
    /// Where each `file` destination that will exist writes.
    private var filePaths: [(name: String, path: String)] = []
    /// `current`, to be looked up by name and number.
    private let known: Known

    private struct Known {
        var connections: [String: StoredConnection]
        var connectionNames: [ConnectionID: String]
        var triggers: [String: StoredTrigger]
        var destinations: [String: StoredDestination]
        var destinationNames: [DestinationID: String]
        var topicKeys: [TopicID: String]
        var attachments: [TriggerID: [StoredAttachment]]
        var withEndpoint: Set<ConnectionID>
        var withTriggers: Set<ConnectionID>

        init(_ definitions: Definitions) {
            connections = Dictionary(definitions.connections.map { ($0.name, $0) }) { first, _ in first }
            connectionNames = Dictionary(definitions.connections.map { ($0.id, $0.name) }) { first, _ in first }
            triggers = Dictionary(definitions.triggers.map { ($0.name, $0) }) { first, _ in first }
            destinations = Dictionary(definitions.destinations.map { ($0.name, $0) }) { first, _ in first }
            destinationNames = Dictionary(definitions.destinations.map { ($0.id, $0.name) }) { first, _ in first }
            topicKeys = Dictionary(definitions.topics.map { ($0.id, $0.key) }) { first, _ in first }
            attachments = Dictionary(grouping: definitions.attachments, by: \.trigger)
            withEndpoint = Set(definitions.endpoints.map(\.connection))
            withTriggers = Set(definitions.triggers.map(\.connection))
        }
    }

    /// Where random names come from.
    public struct NameSource: Sendable {
        public var endpointToken: @Sendable () -> String
        public var triggerUID: @Sendable () -> String
        public init(endpointToken: @escaping @Sendable () -> String, triggerUID: @escaping @Sendable () -> String) {
            self.endpointToken = endpointToken
            self.triggerUID = triggerUID
        }
        public static let random = NameSource(endpointToken: Randomness.endpointToken, triggerUID: Randomness.triggerUID)
    }

    /// Throws `.invalid` listing every fault of the manifest with its line, `.conflict` where a reset is needed.
    public static func plan(
        _ manifest: Manifest, connectors: [String: any Connector], current: CurrentState, options: ApplyOptions = ApplyOptions(),
        names: NameSource = .random, file: String = "sluice.yaml"
    ) throws(SluiceError) -> ApplyPlan {
        var planner = ApplyPlanner(connectors: connectors, current: current, options: options, names: names)
        for connection in current.definitions.connections { planner.connectorNames[connection.name] = connection.connector }
        for connection in manifest.connections { planner.connection(connection) }
        planner.noteFiles(manifest)
        for destination in manifest.destinations { planner.destination(destination) }
        let destinations = Set(manifest.destinations.map(\.name) + current.definitions.destinations.map(\.name))
        var refusals: [SluiceError] = []
        for trigger in manifest.triggers {
            if let refusal = planner.trigger(trigger, destinations: destinations) { refusals.append(refusal) }
        }
        if !planner.issues.isEmpty { throw SluiceError.manifest(planner.issues, file: file) }
        if let refusal = refusals.first { throw refusal }
        planner.unnamed(manifest)
        try planner.checkResets(manifest)
        return planner.plan
    }

    private init(connectors: [String: any Connector], current: CurrentState, options: ApplyOptions, names: NameSource) {
        self.connectors = connectors
        self.current = current
        self.options = options
        self.names = names
        known = Known(current.definitions)
    }

    // MARK: Connections

    private mutating func connection(_ spec: ConnectionSpec) {
        guard let connector = connectors[spec.connector] else {
            faultyConnections.insert(spec.name)
            issue(
                spec.line,
                "connection \(spec.name): no connector `\(spec.connector)` is loaded: \(Words.hint(spec.connector, among: Array(connectors.keys)))"
            )
            return
        }
        connectorNames[spec.name] = spec.connector
        let definition = connector.definition
        let (fields, secrets) = connectionFields(spec, definition)
        checkWebhook(spec, definition)
        let stored = known.connections[spec.name]
        if let stored, stored.connector != spec.connector, known.withTriggers.contains(stored.id) {
            issue(
                spec.line,
                "connection \(spec.name) has connector \(stored.connector) and triggers that depend on it: give the new one another name")
            return
        }
        var notes: [String] = []
        if let stored {
            if stored.connector != spec.connector { notes.append("connector \(stored.connector) → \(spec.connector)") }
            if stored.fields != fields { notes.append("fields change") }
            if current.connectionSecrets[spec.name] != secrets { notes.append("secrets change") }
            if stored.settings != spec.settings.json { notes.append("settings change") }
        }
        let hasEndpoint = stored.map { known.withEndpoint.contains($0.id) } ?? false
        let needsEndpoint = definition.hasStaticWebhooks && !hasEndpoint
        if stored == nil || !notes.isEmpty {
            plan.changes.append(
                .putConnection(name: spec.name, connector: spec.connector, fields: fields, secrets: secrets, settings: spec.settings.json))
        }
        if needsEndpoint {
            plan.changes.append(.plain(.addEndpoint(connection: spec.name, token: names.endpointToken(), othersExpireAt: nil)))
            notes.append("gets a webhook URL: see `sluice connection list`")
        }
        let action: ApplyPlan.Action = stored == nil ? .create : notes.isEmpty ? .keep : .change
        plan.steps.append(.init(action, "connection", spec.name, notes))
    }

    private mutating func connectionFields(
        _ spec: ConnectionSpec, _ definition: ConnectorDefinition
    ) -> (fields: [UInt8], secrets: ConnectionSecrets) {
        var secrets = ConnectionSecrets()
        secrets.webhookSecrets = spec.webhookSecrets
        // What the provider gave in a handshake stands in no file.
        if known.connections[spec.name]?.connector == spec.connector {
            secrets.learnedSecrets = current.connectionSecrets[spec.name]?.learnedSecrets ?? [:]
        }
        let what = "connection \(spec.name)"
        let values = typed(spec.fields, definition.connectionFields, of: what, line: spec.line)
        var writer = JSONWriter()
        writer.object { writer in
            for (field, json) in values where !field.isSecret {
                writer.key(field.name)
                writer.raw(json)
            }
        }
        for (field, json) in values where ConnectionURL.isOne(field) { checkURL(field, json, spec) }
        for (field, json) in values where field.isSecret {
            secrets.fields.append((field.name, json))
            if let value = spec.fields.first(where: { $0.name == field.name }), !value.value.isReferenced {
                plan.warnings.append("\(what): the secret `\(field.name)` stands in the file: better \"${env:NAME}\" or \"${file:PATH}\"")
            }
        }
        if spec.hasInlineWebhookSecret {
            plan.warnings.append("\(what): a webhook secret stands in the file: better \"${env:NAME}\" or \"${file:PATH}\"")
        }
        return (writer.bytes, secrets)
    }

    private mutating func checkURL(_ field: Field, _ json: [UInt8], _ spec: ConnectionSpec) {
        guard let text = (try? JSONDocument(json))?.root.string, !text.isEmpty else { return }
        do throws(SluiceError) {
            try ConnectionURL.check(text)
        } catch {
            return issue(spec.line, "connection \(spec.name): `\(field.name)`: \(error.message)")
        }
        let allowed = AddressAllowance(allowsPrivate: spec.settings.allowsPrivate, networks: spec.settings.allowedNetworks)
        if let problem = ConnectionURL.problem(text, allowed) {
            plan.warnings.append("connection \(spec.name): `\(field.name)`: \(problem)")
        }
    }

    private mutating func checkWebhook(_ spec: ConnectionSpec, _ definition: ConnectorDefinition) {
        let what = "connection \(spec.name)"
        guard definition.webhook != nil || spec.settings.scheme != nil else { return }
        let name = spec.settings.scheme ?? definition.webhook?.scheme ?? "none"
        if let problem = WebhookSchemes.problem(name) { return issue(spec.line, "\(what): webhook: \(problem)") }
        if name == "none" {
            plan.warnings.append("\(what): UNSAFE: webhooks are not verified (scheme `none`): anyone who learns the URL can cause polls")
        } else if spec.webhookSecrets.isEmpty, definition.needsConnectionSecret,
            !Handshake.of(declared: definition.webhook?.handshakes ?? [], scheme: name).contains(where: \.learnsSecret)
        {
            issue(spec.line, "\(what) needs `webhook: {secrets: [...]}` for the scheme `\(name)`: \(WebhookSchemes.secretHint(name))")
        }
        if name == "header-token", spec.settings.header == nil {
            issue(spec.line, "\(what) needs `webhook: {header: NAME}` for the scheme `header-token`")
        }
        if spec.settings.header != nil, !WebhookSchemes.leavesHeaderOpen(name) {
            issue(spec.line, "\(what): webhook: the scheme `\(name)` says itself which header it reads: leave `header` out")
        }
        for problem in WebhookSchemes.problems(name, spec.settings.schemeParameters) { issue(spec.line, "\(what): webhook: \(problem)") }
        if !spec.webhookSecrets.isEmpty, !spec.webhookSecrets.contains(where: { WebhookSchemes.takes(name, secret: $0) }) {
            plan.warnings.append(
                "\(what): no webhook secret is one that the scheme `\(name)` takes, so every webhook will be refused; it must be: \(WebhookSchemes.secretHint(name))"
            )
        }
        if WebhookSchemes.isExperimental(name) {
            plan.warnings.append("\(what): the scheme `\(name)` is experimental: nothing of the provider confirmed it yet")
        }
    }

    /// Values by the declared fields, in the declared order; what is unknown, missing or of another type is an issue.
    private mutating func typed(
        _ values: [NamedValue], _ fields: [Field], of what: String, line: Int
    ) -> [(field: Field, json: [UInt8])] {
        for value in values where !fields.contains(where: { $0.name == value.name }) {
            issue(value.line, "\(what) has no field `\(value.name)`: \(Words.hint(value.name, among: fields.map(\.name)))")
        }
        var result: [(field: Field, json: [UInt8])] = []
        for field in fields {
            guard let value = values.first(where: { $0.name == field.name }) else {
                if !field.isOptional, field.defaultJSON == nil {
                    issue(line, "\(what) needs `\(field.name)`" + (field.hint.map { ": \($0)" } ?? ""))
                }
                continue
            }
            switch FieldValues.json(value.value, for: field) {
            case .success(let json):
                // As when the variable that it comes from is there and empty.
                if json.elementsEqual(#""""#.utf8), field.isSecret || !field.isOptional {
                    issue(value.line, "\(what): `\(field.name)` is empty" + (field.hint.map { ": \($0)" } ?? ""))
                }
                result.append((field, json))
            case .failure(let problem): issue(value.line, "\(what): `\(field.name)` must be \(problem.expected)")
            }
        }
        return result
    }

    // MARK: Destinations

    private mutating func destination(_ spec: DestinationSpec) {
        let stored = known.destinations[spec.name]
        let secrets = DestinationSecrets(fromFile: spec.secrets, headers: spec.headers, values: spec.values)
            .applied(over: current.destinationSecrets[spec.name])
        if spec.hasInlineSecret {
            plan.warnings.append(
                "destination \(spec.name): \(spec.kind == "push" ? "the" : "a") secret stands in the file: better \"${env:NAME}\" or \"${file:PATH}\""
            )
        }
        if let problem = CarriedDestinations.problem(spec.name, spec.kind, spec.settings, secrets, options.places) {
            issue(spec.line, problem)
        }
        if let other = sharedFile(spec) { issue(spec.line, other) }
        var notes: [String] = []
        if let stored {
            if let problem = changeOfKind(stored, to: spec.kind) { issue(spec.line, problem) }
            if stored.kind != spec.kind { notes.append("kind \(stored.kind) → \(spec.kind)") }
            if stored.settings != spec.settings.json { notes.append("settings change") }
            if current.destinationSecrets[spec.name] != secrets {
                notes.append(spec.kind == "push" ? "secret or headers change" : "secrets change")
            }
        }
        let isRevived = stored.map { $0.state == .gone && DestinationSettings(json: $0.settings).url != spec.settings.url } ?? false
        if isRevived { notes.append("its URL changes: deliveries go on") }
        if secrets.isRotated {
            plan.warnings.append(
                "destination \(spec.name): its secret was rotated since the file was applied last; the new one stays: put it into the file")
        }
        if stored == nil || !notes.isEmpty {
            plan.changes.append(.putDestination(name: spec.name, kind: spec.kind, settings: spec.settings.json, secrets: secrets))
        }
        if isRevived {
            plan.changes.append(.plain(.setDestinationState(name: spec.name, state: .active, reason: nil, ifSettings: nil)))
        }
        let action: ApplyPlan.Action = stored == nil ? .create : notes.isEmpty ? .keep : .change
        if action != .keep { notes += CarriedDestinations.notes(spec.kind, spec.settings, options.places) }
        plan.steps.append(.init(action, "destination", spec.name, notes))
    }

    /// What waits for a consumer is kept in another way than what is carried, so neither becomes the other.
    private func changeOfKind(_ stored: StoredDestination, to kind: String) -> String? {
        guard stored.kind != kind, stored.kind == Consumer.kind || kind == Consumer.kind else { return nil }
        return "destination \(stored.name): it is of the kind \(stored.kind), which cannot become \(kind): give the new one another name, "
            + "and remove this one (`sluice destination remove \(stored.name)`) once nothing waits for it"
    }

    private mutating func noteFiles(_ manifest: Manifest) {
        let named = Set(manifest.destinations.map(\.name))
        for stored in current.definitions.destinations where stored.kind == "file" && !named.contains(stored.name) {
            let path = CarriedDestinations.filePath(DestinationSettings(json: stored.settings), options.places)
            if let path { filePaths.append((stored.name, path)) }
        }
        for spec in manifest.destinations where spec.kind == "file" {
            if let path = CarriedDestinations.filePath(spec.settings, options.places) { filePaths.append((spec.name, path)) }
        }
    }

    /// Two writers of one file would cut off each other's lines.
    private func sharedFile(_ spec: DestinationSpec) -> String? {
        guard spec.kind == "file", let own = filePaths.last(where: { $0.name == spec.name })?.path else { return nil }
        guard let other = filePaths.first(where: { $0.name != spec.name && FileDestination.collide($0.path, own) }) else { return nil }
        return "destination \(spec.name) would write to the file of destination \(other.name), or to what that one rotates: give it "
            + "another `path`; triggers can share a destination"
    }

    // MARK: Triggers

    /// A refusal that asks for a reset, or nil.
    private mutating func trigger(_ spec: TriggerSpec, destinations: Set<String>) -> SluiceError? {
        let what = "trigger \(spec.name)"
        guard let connectorName = connectorNames[spec.connection] else {
            // Its own fault is named already.
            if faultyConnections.contains(spec.connection) { return nil }
            issue(
                spec.line,
                "\(what): there is no connection `\(spec.connection)`: \(Words.hint(spec.connection, among: Array(connectorNames.keys)))")
            return nil
        }
        for attachment in spec.destinations ?? [] where !destinations.contains(attachment.destination) {
            issue(
                attachment.line,
                "\(what): there is no destination `\(attachment.destination)`: \(Words.hint(attachment.destination, among: Array(destinations)))"
            )
        }
        if CallbackAttachments.isNamed(spec.name) {
            putSource(spec)
            return nil
        }
        guard let connector = connectors[connectorName] else {
            issue(spec.line, "\(what): the connector \(connectorName) of its connection is not loaded")
            return nil
        }
        guard let type = connector.definition.trigger(spec.type) else {
            let known = connector.definition.triggers.map(\.name)
            issue(
                spec.line, "\(what): connector \(connectorName) has no trigger type `\(spec.type)`: \(Words.hint(spec.type, among: known))")
            return nil
        }
        let faults = issues.count
        let uid = known.triggers[spec.name]?.uid ?? names.triggerUID()
        // A `webhook_key` that is asked with half an input has faults of its own to tell.
        guard let input = input(spec, type), issues.count == faults, let keys = topicKeys(spec, type, connector, input, uid) else {
            return nil
        }
        return put(spec, uid: uid, input: input, topicKeys: keys, type)
    }

    /// What the callbacks of a connection end in has destinations, and nothing else that a file could say.
    private mutating func putSource(_ spec: TriggerSpec) {
        let stored = known.triggers[spec.name]
        var notes: [String] = []
        if stored == nil { plan.changes += CallbackAttachments.source(spec, uid: names.triggerUID()).map { .plain($0) } }
        attach(spec, stored, &notes)
        plan.steps.append(.init(stored == nil ? .create : notes.isEmpty ? .keep : .change, "trigger", spec.name, notes))
    }

    private mutating func input(_ spec: TriggerSpec, _ type: TriggerTypeDefinition) -> [UInt8]? {
        for field in type.inputFields where field.isSecret && spec.input.contains(where: { $0.name == field.name }) {
            issue(
                spec.line,
                "trigger \(spec.name): the input `\(field.name)` is secret, and inputs are not sealed: make it a field of the connection")
            return nil
        }
        var writer = JSONWriter()
        let values = typed(spec.input, type.inputFields, of: "trigger \(spec.name): input", line: spec.line)
        writer.object { writer in
            for (field, json) in values {
                writer.key(field.name)
                writer.raw(json)
            }
        }
        return writer.bytes
    }

    /// The keys a trigger listens to; nil, and an issue, where its connector cannot say.
    private mutating func topicKeys(
        _ spec: TriggerSpec, _ type: TriggerTypeDefinition, _ connector: any Connector, _ input: [UInt8], _ uid: String
    ) -> [String]? {
        do {
            return try TopicKeys.of(type, connector, input: input, uid: uid)
        } catch {
            let reason = (error as? SluiceError)?.message ?? "its `webhook_key` failed"
            issue(spec.line, "trigger \(spec.name): \(reason)")
            return nil
        }
    }

    private mutating func put(
        _ spec: TriggerSpec, uid: String, input: [UInt8], topicKeys: [String], _ type: TriggerTypeDefinition
    ) -> SluiceError? {
        let stored = known.triggers[spec.name]
        var notes: [String] = []
        var resets = false
        if let stored {
            let former = known.connectionNames[stored.connection] ?? "?"
            if stored.type != spec.type || former != spec.connection {
                guard options.resets.contains(spec.name) else { return needsReset(spec, stored, former) }
                resets = true
                notes.append(
                    "\(former)/\(stored.type) → \(spec.connection)/\(spec.type): begins anew, its cursor and dedup keys are forgotten")
            }
            if !resets, stored.input != input {
                notes.append("input changes; the cursor stays (`sluice trigger cursor reset \(spec.name)` to read again)")
                if type.subscription != nil { notes.append("subscribes anew where its subscription depends on what changes") }
            }
            if stored.settings != spec.settings.json { notes.append("settings change") }
            let formerKeys = Set(stored.topics.compactMap { known.topicKeys[$0] })
            if !resets, formerKeys != Set(topicKeys) { notes.append("listens to other webhooks") }
            if !resets, stored.readsInbox != (type.kind == .webhook) {
                notes.append(type.kind == .webhook ? "reads its webhooks from the inbox" : "polls, and reads its webhooks no more")
            }
        }
        if stored == nil || !notes.isEmpty {
            plan.changes.append(
                .plain(
                    .putTrigger(
                        name: spec.name, uid: uid, connection: spec.connection, type: spec.type, input: input,
                        settings: spec.settings.json, topicKeys: topicKeys, resets: resets)))
            let readsInbox = type.kind == .webhook
            if readsInbox != stored?.readsInbox ?? false { plan.changes.append(.plain(.readsInbox(trigger: spec.name, readsInbox))) }
        }
        let wasOrdered = stored.map { TriggerSettings(json: $0.settings).isOrdered } ?? false
        if wasOrdered != spec.settings.isOrdered { plan.changes.append(.plain(.setOrdered(trigger: spec.name, spec.settings.isOrdered))) }
        attach(spec, stored, &notes)
        command(spec, stored, &notes)
        let action: ApplyPlan.Action = stored == nil ? .create : resets ? .reset : notes.isEmpty ? .keep : .change
        plan.steps.append(.init(action, "trigger", spec.name, notes))
        return nil
    }

    private func needsReset(_ spec: TriggerSpec, _ stored: StoredTrigger, _ former: String) -> SluiceError {
        SluiceError(
            .conflict,
            "trigger \(spec.name) is \(former)/\(stored.type), and the file makes it \(spec.connection)/\(spec.type): its cursor does not fit that. "
                + "Give the new one another name, or apply with `--reset \(spec.name)` to forget the cursor and the dedup keys"
        ).with("trigger", spec.name)
    }

    private mutating func attach(_ spec: TriggerSpec, _ stored: StoredTrigger?, _ notes: inout [String]) {
        guard let wanted = spec.destinations else { return }
        var before: [String: StoredAttachment] = [:]
        for attachment in stored.flatMap({ known.attachments[$0.id] }) ?? [] {
            if let name = known.destinationNames[attachment.destination] { before[name] = attachment }
        }
        let attached = before.keys.sorted()
        for attachment in wanted where before[attachment.destination] == nil {
            plan.changes.append(.plain(.attach(trigger: spec.name, destination: attachment.destination, from: attachment.from)))
            notes.append("delivers to \(attachment.destination) " + (attachment.from.map { "from position \($0)" } ?? "from now on"))
            let last = stored?.progress.lastPosition.rawValue ?? 0
            if let from = attachment.from, from.rawValue > last + 1 {
                issue(
                    attachment.line,
                    "trigger \(spec.name): `from: \(from)` for \(attachment.destination) lies beyond its next job, which is at \(last + 1): "
                        + "leave `from` out for what comes from now on")
            }
        }
        for attachment in wanted where before[attachment.destination] != nil && attachment.from != nil {
            plan.warnings.append(
                "trigger \(spec.name): it delivers to \(attachment.destination) already, so `from` changes nothing: it says where a new "
                    + "destination begins. For earlier jobs use `sluice consumer seek` or `sluice backfill start`")
        }
        for attachment in wanted { sieve(spec.name, attachment, before[attachment.destination], &notes) }
        for name in attached where !wanted.contains(where: { $0.destination == name }) {
            plan.changes.append(.plain(.detach(trigger: spec.name, destination: name)))
            notes.append("no longer delivers to \(name)")
        }
    }

    /// Filter and projection of an attachment: they hold for what is claimed after the change.
    private mutating func sieve(
        _ trigger: String, _ wanted: TriggerSpec.Attachment, _ before: StoredAttachment?, _ notes: inout [String]
    ) {
        let former = AttachmentSettings(json: before?.settings ?? [])
        guard wanted.settings != former else { return }
        plan.changes.append(
            .plain(.setAttachment(trigger: trigger, destination: wanted.destination, settings: wanted.settings.json)))
        let what = "for \(wanted.destination)"
        if wanted.settings.filter != former.filter {
            let verb = former.filter == nil ? "" : wanted.settings.filter == nil ? " is removed" : " changes"
            notes.append("filter \(what)\(verb)" + (wanted.settings.filter.map { ": \(AttachmentSettings.brief($0))" } ?? ""))
        }
        if wanted.settings.fields != former.fields {
            let fields = wanted.settings.fields.map(\.description).joined(separator: ", ")
            notes.append(fields.isEmpty ? "fields \(what) are removed: whole records" : "fields \(what): \(fields)")
        }
    }

    private mutating func command(_ spec: TriggerSpec, _ stored: StoredTrigger?, _ notes: inout [String]) {
        let desired = stored == nil ? spec.state ?? .running : spec.state
        guard let desired else { return }
        let commands: [TriggerCommand] =
            switch (desired, stored?.state ?? .created) {
            case (.running, .created), (.running, .stopped), (.running, .stopping): [.start]
            case (.running, .paused): [.resume]
            case (.paused, .created), (.paused, .stopped), (.paused, .stopping): [.start, .pause]
            case (.paused, .starting), (.paused, .running), (.paused, .failed): [.pause]
            case (.stopped, .created) where stored == nil: []
            case (.stopped, .created), (.stopped, .starting), (.stopped, .running), (.stopped, .paused), (.stopped, .failed): [.stop]
            default: []
            }
        if commands.isEmpty { return }
        add(commands, to: spec.name, in: stored?.state ?? .created, line: spec.line)
        notes.append(commands.map { word($0) }.joined(separator: ", then "))
    }

    /// The state that the commands lead to becomes a change like the others: with the definitions, or not at all.
    private mutating func add(_ commands: [TriggerCommand], to trigger: String, in before: TriggerState, line: Int) {
        var (state, effects): (TriggerState, [TriggerEffect]) = (before, [])
        do {
            for command in commands {
                let (next, more) = try state.after(command)
                state = next
                effects += more
            }
        } catch {
            return issue(line, "trigger \(trigger): \(error.message)")
        }
        if state != before { plan.changes.append(.plain(.setTriggerState(name: trigger, from: before, to: state))) }
        // A trigger that is paused at once does not poll.
        if !state.polls { effects.removeAll { if case .poll = $0 { true } else { false } } }
        plan.commands.append(.init(trigger: trigger, commands: commands, effects: effects))
    }

    private func word(_ command: TriggerCommand) -> String {
        switch command {
        case .start: "starts"
        case .pause: "pauses; webhooks are still kept"
        case .resume: "resumes from its cursor"
        case .poll: "polls"
        case .stop: "stops; its data stays"
        }
    }

    // MARK: What the file does not name

    private mutating func unnamed(_ manifest: Manifest) {
        let named = Set(manifest.triggers.map(\.name))
        for trigger in current.definitions.triggers where !named.contains(trigger.name) && !trigger.isCallbackSource {
            let isOver = trigger.state == .stopped || trigger.state == .stopping
            if options.prunes, !isOver {
                add([.stop], to: trigger.name, in: trigger.state, line: 0)
                plan.steps.append(.init(.stop, "trigger", trigger.name, ["not in the file: stops; its data stays"]))
            } else {
                plan.steps.append(.init(.keep, "trigger", trigger.name, ["not in the file" + (isOver ? "" : "; `--prune` would stop it")]))
            }
        }
        let connections = Set(manifest.connections.map(\.name))
        for connection in current.definitions.connections where !connections.contains(connection.name) {
            plan.steps.append(.init(.keep, "connection", connection.name, ["not in the file"]))
        }
        for destination in current.definitions.destinations where !manifest.destinations.contains(where: { $0.name == destination.name }) {
            plan.steps.append(.init(.keep, "destination", destination.name, ["not in the file"]))
        }
    }

    private func checkResets(_ manifest: Manifest) throws(SluiceError) {
        let reset = Set(plan.steps.filter { $0.action == .reset }.map(\.name))
        for name in options.resets.subtracting(reset).sorted() {
            let known = manifest.triggers.map(\.name)
            guard known.contains(name) else {
                throw SluiceError(.conflict, "`--reset \(name)`: the file has no such trigger: \(Words.hint(name, among: known))")
            }
            throw SluiceError(
                .conflict,
                "`--reset \(name)`: neither its type nor its connection changes. To read again from the start: `sluice trigger cursor reset \(name)`"
            ).with("trigger", name)
        }
    }

    private mutating func issue(_ line: Int, _ message: String) { issues.append(ManifestIssue(line: line, message: message)) }
}
