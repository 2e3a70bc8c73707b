import SluiceCore
import SluiceDelivery
import SluiceStore

/// Reads a YAML document into a `Manifest`, collecting everything that is wrong before it gives up.
public struct ManifestReader {
    private let references: [String: String]
    private var issues: [ManifestIssue] = []

    /// - Parameter references: values of `env:NAME` and `file:PATH`, resolved where `apply` runs.
    public static func read(_ text: String, references: [String: String], file: String = "sluice.yaml") throws(SluiceError) -> Manifest {
        let root = try YAMLValue.parse(text, file: file)
        // A file that was cut to nothing, or whose making failed, must not stop everything under `--prune`.
        if root.isNothing {
            throw SluiceError(.invalid, "\(file) says nothing: to mean that there is nothing to run, write {}").with("file", file)
        }
        var reader = ManifestReader(references: references)
        let manifest = reader.manifest(root)
        if !reader.issues.isEmpty { throw SluiceError.manifest(reader.issues, file: file) }
        return manifest
    }

    private init(references: [String: String]) { self.references = references }

    private mutating func manifest(_ root: YAMLValue) -> Manifest {
        var manifest = Manifest()
        let sections = members(root, of: "the file", allowed: ["connections", "triggers", "destinations"])
        for member in named(sections["connections"], "connections") { manifest.connections.append(connection(member)) }
        for member in named(sections["triggers"], "triggers") { manifest.triggers.append(trigger(member)) }
        for member in named(sections["destinations"], "destinations") { manifest.destinations.append(destination(member)) }
        return manifest
    }

    // MARK: Sections

    private mutating func connection(_ member: YAMLValue.Member) -> ConnectionSpec {
        var spec = ConnectionSpec(name: member.key, line: member.line)
        let what = "connection \(member.key)"
        let keys = members(
            member.value, of: what,
            allowed: ["connector", "fields", "webhook", "allow_private", "polls_at_once", "requests_per_second", "allow_networks"])
        spec.connector = requiredText(keys["connector"], "connector", of: what, line: member.line)
        spec.fields = values(keys["fields"], of: "\(what): fields")
        spec.settings.allowsPrivate = flag(keys["allow_private"], "allow_private") ?? false
        spec.settings.allowedNetworks = networks(keys["allow_networks"])
        spec.settings.pollsAtOnce = number(keys["polls_at_once"], "polls_at_once", 1...64).map { Int($0) }
        spec.settings.requestsPerSecond = rate(keys["requests_per_second"])
        if let webhook = keys["webhook"] { self.webhook(webhook, of: what, into: &spec) }
        return spec
    }

    private mutating func webhook(_ value: YAMLValue, of what: String, into spec: inout ConnectionSpec) {
        let keys = members(value, of: "\(what): webhook", allowed: ["scheme", "secrets", "header", "tolerance_seconds", "parameters"])
        spec.settings.scheme = text(keys["scheme"], "scheme")
        spec.settings.header = text(keys["header"], "header")
        spec.settings.tolerance = number(keys["tolerance_seconds"], "tolerance_seconds", 1...86_400).map(Span.seconds)
        if let parameters = keys["parameters"] {
            for (name, value) in members(parameters, of: "\(what): webhook parameters", allowed: nil) {
                spec.settings.schemeParameters[name] = text(value, name)
            }
        }
        guard let secrets = keys["secrets"] else { return }
        guard case .sequence(let list) = secrets.content, list.count <= 8 else {
            issue(secrets.line, "`secrets` is a list of at most 8, for example [\"${env:WEBHOOK_SECRET}\"]")
            return
        }
        for element in list {
            guard let resolved = resolvedText(element, "secrets") else { continue }
            if resolved.text.isEmpty { issue(element.line, "a webhook secret is empty") }
            spec.webhookSecrets.append(resolved.text)
            if !resolved.isReferenced { spec.hasInlineWebhookSecret = true }
        }
    }

    private mutating func trigger(_ member: YAMLValue.Member) -> TriggerSpec {
        var spec = TriggerSpec(name: member.key, line: member.line)
        let what = "trigger \(member.key)"
        if let connection = CallbackAttachments.connection(of: member.key) {
            (spec.connection, spec.type) = (connection, StoredTrigger.callbackType)
            let keys = members(member.value, of: what, allowed: ["destinations"])
            spec.destinations = keys["destinations"].map { attachments($0) } ?? []
            return spec
        }
        let keys = members(
            member.value, of: what,
            allowed: ["connection", "type", "input", "safety_interval", "interval", "destinations", "state", "ordered"])
        spec.connection = requiredText(keys["connection"], "connection", of: what, line: member.line)
        spec.type = requiredText(keys["type"], "type", of: what, line: member.line)
        spec.input = values(keys["input"], of: "\(what): input")
        spec.settings.safetyInterval = span(keys["safety_interval"], "safety_interval", least: .seconds(1))
        spec.settings.interval = span(keys["interval"], "interval", least: .seconds(1))
        spec.settings.isOrdered = flag(keys["ordered"], "ordered") ?? false
        if let list = keys["destinations"] { spec.destinations = attachments(list) }
        if let state = keys["state"], let word = text(state, "state") {
            spec.state = TriggerSpec.DesiredState(rawValue: word)
            if spec.state == nil {
                issue(state.line, "`state` cannot be this: \(Words.hint(word, among: TriggerSpec.DesiredState.allCases.map(\.rawValue)))")
            }
        }
        return spec
    }

    private mutating func attachments(_ list: YAMLValue) -> [TriggerSpec.Attachment] {
        guard case .sequence(let elements) = list.content else {
            issue(list.line, "`destinations` is a list of names")
            return []
        }
        var result: [TriggerSpec.Attachment] = []
        for element in elements {
            if case .mapping = element.content {
                let keys = members(element, of: "a destination of a trigger", allowed: ["name", "from", "filter", "fields"])
                let name = requiredText(keys["name"], "name", of: "a destination of a trigger", line: element.line)
                let from = number(keys["from"], "from", 1...Int64.max).map(JobPosition.init)
                result.append(.init(destination: name, line: element.line, from: from, settings: sieve(keys)))
            } else if let name = text(element, "destinations") {
                result.append(.init(destination: name, line: element.line, from: nil))
            }
        }
        for (index, attachment) in result.enumerated() where result[..<index].contains(where: { $0.destination == attachment.destination })
        {
            issue(attachment.line, "the destination \(attachment.destination) stands twice")
        }
        return result
    }

    /// Of an attachment. The filter stands as it is: `${…}` means nothing in it, and what it names lies in no secret.
    private mutating func sieve(_ keys: [String: YAMLValue]) -> AttachmentSettings {
        var settings = AttachmentSettings()
        if let value = keys["filter"] {
            if case .scalar(let source, _) = value.content {
                settings.filter = source
            } else {
                issue(value.line, "`filter` is a text: an expression in Lua, such as \"record.amount > 100\"")
            }
        }
        if let value = keys["fields"] { settings.fields = fields(value) }
        do throws(SluiceError) {
            _ = try settings.checked()
        } catch {
            let line = error.code == .filter ? keys["filter"]?.line : keys["fields"]?.line
            issue(line ?? 0, error.message)
        }
        return settings
    }

    /// Paths: text with points between the keys, or lists of keys.
    private mutating func fields(_ value: YAMLValue) -> [JSONPath] {
        guard case .sequence(let elements) = value.content, !elements.isEmpty else {
            issue(value.line, "`fields` is a list of paths, such as [id, customer.email]")
            return []
        }
        var paths: [JSONPath] = []
        for element in elements {
            switch element.content {
            case .scalar(let text, _):
                if let path = JSONPath(text: text) { paths.append(path) } else { issue(element.line, AttachmentSettings.pathHint) }
            case .sequence(let parts):
                let keys = parts.compactMap { part in if case .scalar(let text, _) = part.content { text } else { nil } }
                if keys.count == parts.count { paths.append(JSONPath(keys)) } else { issue(element.line, AttachmentSettings.pathHint) }
            case .mapping: issue(element.line, AttachmentSettings.pathHint)
            }
        }
        return paths
    }

    private mutating func destination(_ member: YAMLValue.Member) -> DestinationSpec {
        var spec = DestinationSpec(name: member.key, line: member.line)
        let what = "destination \(member.key)"
        let keys = members(
            member.value, of: what,
            allowed: [
                "kind", "url", "secret", "secrets", "headers", "allow_private", "allow_networks", "timeout", "concurrency", "retries",
                "rate",
            ] + ManifestReader.carriedKeys + ManifestReader.consumerKeys)
        spec.kind = requiredText(keys["kind"], "kind", of: what, line: member.line)
        spec.settings.url = text(keys["url"], "url")
        spec.settings.allowsPrivate = flag(keys["allow_private"], "allow_private") ?? false
        spec.settings.timeout = span(keys["timeout"], "timeout", least: .seconds(1))
        spec.settings.concurrency = number(keys["concurrency"], "concurrency", 1...64).map { Int($0) }
        spec.settings.allowedNetworks = networks(keys["allow_networks"])
        spec.settings.retries = retries(keys["retries"])
        spec.settings.rate = deliveryRate(keys["rate"])
        spec.settings.consumer = consumer(keys, spec.kind, of: what)
        secrets(keys, into: &spec)
        for header in keys["headers"].map({ members($0, of: "\(what): headers", allowed: nil) }) ?? [:] {
            guard let resolved = resolvedText(header.value, header.key) else { continue }
            if let fault = PushHeaders.fault(header.key, resolved.text) {
                issue(header.value.line, "\(what): \(fault)")
                continue
            }
            spec.headers.append(NamedText(name: header.key, value: resolved.text))
        }
        spec.headers.sort { $0.name < $1.name }
        carried(keys, into: &spec)
        if spec.kind == "push" {
            if keys["url"] == nil { issue(member.line, "\(what) needs `url`: where its pushes go") }
            if keys["secret"] == nil, keys["secrets"] == nil {
                issue(member.line, "\(what) needs `secret`, which signs its pushes, for example \"${env:PUSH_SECRET}\"")
            }
        } else if !ManifestReader.kinds.contains(spec.kind), !spec.kind.isEmpty {
            issue(
                keys["kind"]?.line ?? member.line,
                "the kind of \(what) cannot be this: \(Words.hint(spec.kind, among: ManifestReader.kinds))")
        }
        return spec
    }

    private static let consumerKeys = ["visibility", "attempts_max", "unacked_max"]

    private mutating func consumer(_ keys: [String: YAMLValue], _ kind: String, of what: String) -> ConsumerSettings {
        var settings = ConsumerSettings()
        if kind != Consumer.kind {
            for name in ManifestReader.consumerKeys {
                if let key = keys[name] { issue(key.line, "\(what) has no `\(name)`: only destinations of the kind pull do") }
            }
            return settings
        }
        settings.visibility = span(keys["visibility"], "visibility", least: ConsumerSettings.visibilityRange.lowerBound)
        if let visibility = settings.visibility, visibility > ConsumerSettings.visibilityRange.upperBound, let key = keys["visibility"] {
            issue(key.line, "`visibility` is at most \(Words.text(ConsumerSettings.visibilityRange.upperBound))")
        }
        settings.attemptsMax = number(keys["attempts_max"], "attempts_max", 1...1000).map { Int($0) }
        settings.unackedMax = number(keys["unacked_max"], "unacked_max", 1...1_000_000).map { Int($0) }
        return settings
    }

    // MARK: Pieces

    mutating func issue(_ line: Int, _ message: String) { issues.append(ManifestIssue(line: line, message: message)) }

    /// The members of a mapping by name. Keys that are not allowed are issues; `allowed` nil: any.
    mutating func members(_ value: YAMLValue, of what: String, allowed: [String]?) -> [String: YAMLValue] {
        if value.isNothing { return [:] }
        guard case .mapping(let members) = value.content else {
            issue(value.line, "\(what) must be a list of `name: value` lines")
            return [:]
        }
        var result: [String: YAMLValue] = [:]
        for member in members {
            if let allowed, !allowed.contains(member.key) {
                issue(member.line, "\(what) has no `\(member.key)`: \(Words.hint(member.key, among: allowed))")
            } else {
                result[member.key] = member.value
            }
        }
        return result
    }

    /// The members of a section in their order; their keys are names.
    private mutating func named(_ section: YAMLValue?, _ title: String) -> [YAMLValue.Member] {
        guard let section else { return [] }
        _ = members(section, of: title, allowed: nil)
        guard case .mapping(let members) = section.content else { return [] }
        for member in members where !Words.isName(member.key) {
            // The one name with a colon: what the callbacks of a connection end in.
            if title == "triggers", CallbackAttachments.isNamed(member.key) { continue }
            issue(member.line, "a name in \(title) is made of at most 64 letters, digits, `-`, `_` and `.`")
        }
        return members
    }

    private mutating func values(_ value: YAMLValue?, of what: String) -> [NamedValue] {
        guard let value else { return [] }
        _ = members(value, of: what, allowed: nil)
        guard case .mapping(let members) = value.content else { return [] }
        return members.compactMap { member in
            resolved(member.value, member.key).map { NamedValue(name: member.key, line: member.line, value: $0) }
        }
    }

    private mutating func resolved(_ value: YAMLValue, _ name: String) -> ManifestValue? {
        switch value.content {
        case .scalar(_, let isPlain):
            guard let resolved = resolvedText(value, name) else { return nil }
            return ManifestValue(
                content: .scalar(resolved.text, isPlain: isPlain), line: value.line, isReferenced: resolved.isReferenced)
        case .sequence(let elements):
            let values = elements.compactMap { resolved($0, name) }
            return ManifestValue(content: .array(values), line: value.line, isReferenced: values.contains(where: \.isReferenced))
        case .mapping(let members):
            let fields = members.compactMap { member in
                resolved(member.value, member.key).map { ManifestValue.Field(name: member.key, value: $0) }
            }
            return ManifestValue(content: .object(fields), line: value.line, isReferenced: fields.contains(where: \.value.isReferenced))
        }
    }

    mutating func resolvedText(_ value: YAMLValue, _ name: String) -> (text: String, isReferenced: Bool)? {
        guard case .scalar(let raw, _) = value.content else {
            issue(value.line, "`\(name)` must be one value")
            return nil
        }
        switch ReferenceText.parse(raw) {
        case .failure(let malformed):
            issue(value.line, "`\(name)`: \(malformed.reason)")
            return nil
        case .success(let text):
            if let resolved = text.resolved(references) { return (resolved, !text.references.isEmpty) }
            for reference in text.references where references[reference] == nil { issue(value.line, missing(reference, name)) }
            return nil
        }
    }

    private func missing(_ reference: String, _ name: String) -> String {
        reference.hasPrefix("env:")
            ? "`\(name)` needs the environment variable \(reference.dropFirst(4)), which is not set where `apply` runs"
            : "`\(name)` needs the file \(reference.dropFirst(5)), which cannot be read where `apply` runs"
    }

    mutating func text(_ value: YAMLValue?, _ name: String) -> String? {
        guard let value else { return nil }
        return resolvedText(value, name)?.text
    }

    mutating func requiredText(_ value: YAMLValue?, _ name: String, of what: String, line: Int) -> String {
        guard let value else {
            issue(line, "\(what) needs `\(name)`")
            return ""
        }
        let found = text(value, name)
        if found?.isEmpty == true { issue(value.line, "\(what) needs `\(name)`") }
        return found ?? ""
    }

    private mutating func flag(_ value: YAMLValue?, _ name: String) -> Bool? {
        guard let value, let word = text(value, name) else { return nil }
        if word == "true" || word == "false" { return word == "true" }
        issue(value.line, "`\(name)` is true or false")
        return nil
    }

    mutating func number(_ value: YAMLValue?, _ name: String, _ range: ClosedRange<Int64>) -> Int64? {
        guard let value, let word = text(value, name) else { return nil }
        if let number = Int64(word), range.contains(number) { return number }
        let bounds = range.upperBound == .max ? "from \(range.lowerBound) on" : "from \(range.lowerBound) to \(range.upperBound)"
        issue(value.line, "`\(name)` is a whole number \(bounds)")
        return nil
    }

    private mutating func rate(_ value: YAMLValue?) -> Double? {
        guard let value, let word = text(value, "requests_per_second") else { return nil }
        if let rate = Double(word), rate >= 0.01, rate <= 10_000 { return rate }
        issue(value.line, "`requests_per_second` is a number from 0.01 to 10000")
        return nil
    }

    mutating func span(_ value: YAMLValue?, _ name: String, least: Span) -> Span? {
        guard let value, let word = text(value, name) else { return nil }
        if let span = Words.span(word), span >= least { return span }
        issue(
            value.line,
            "`\(name)` is a time with its unit, in whole numbers, at least \(Words.text(least)) and at most 366d: for example 15s, 5m, 12h or 7d"
        )
        return nil
    }
}
