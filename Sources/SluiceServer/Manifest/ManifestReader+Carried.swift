import SluiceCore
import SluiceDelivery
import SluiceNATS

/// Keys of destinations of the kinds `command`, `file` and `nats`.
extension ManifestReader {
    static let kinds = ["push", "pull", "command", "file", "nats"]
    static let commandKeys = ["run", "per", "refuse_codes", "env"]
    static let fileKeys = ["path", "rotate_size", "rotate_every", "keep"]
    static let natsKeys = ["subject", "stream", "user", "password", "token", "nkey", "credentials", "tls"]
    static let carriedKeys = commandKeys + fileKeys + natsKeys + ["batch_max"]

    mutating func carried(_ keys: [String: YAMLValue], into spec: inout DestinationSpec) {
        let what = "destination \(spec.name)"
        refuseForeign(keys, spec.kind, of: what)
        switch spec.kind {
        case "command": command(keys, of: what, into: &spec)
        case "file": file(keys, of: what, into: &spec)
        case "nats": nats(keys, of: what, into: &spec)
        default: return
        }
        let limit =
            switch spec.kind {
            case "command": CommandDestination.batchLimit
            case "file": FileDestination.batchLimit
            default: NATSDestination.batchLimit
            }
        spec.settings.carried.batchMax = number(keys["batch_max"], "batch_max", 1...Int64(limit)).map { Int($0) }
        if spec.kind == "command", !spec.settings.carried.isBatched, let key = keys["batch_max"] {
            issue(key.line, "\(what): `batch_max` needs `per: batch`: a program for each job gets one job")
        }
    }

    /// A key of another kind is a mistake that would go unseen.
    private mutating func refuseForeign(_ keys: [String: YAMLValue], _ kind: String, of what: String) {
        guard ManifestReader.kinds.contains(kind) else { return }
        var owners: [String: [String]] = [:]
        for key in ManifestReader.commandKeys { owners[key] = ["command"] }
        for key in ManifestReader.fileKeys { owners[key] = ["file"] }
        for key in ManifestReader.natsKeys { owners[key] = ["nats"] }
        owners["batch_max"] = ["command", "file", "nats"]
        owners["url"] = ["push", "nats"]
        owners["allow_private"] = ["push", "nats"]
        owners["headers"] = ["push", "nats"]
        owners["allow_networks"] = ["push", "nats"]
        owners["secret"] = ["push"]
        owners["secrets"] = ["push"]
        owners["concurrency"] = ["push", "command"]
        for key in ["timeout", "retries", "rate"] { owners[key] = ["push", "command", "file", "nats"] }
        for (key, value) in keys.sorted(by: { $0.value.line < $1.value.line }) {
            guard let owner = owners[key], !owner.contains(kind) else { continue }
            issue(value.line, "\(what) has no `\(key)`: only destinations of the kind \(owner.joined(separator: ", ")) do")
        }
    }

    private mutating func command(_ keys: [String: YAMLValue], of what: String, into spec: inout DestinationSpec) {
        spec.settings.carried.run = texts(keys["run"], "run", "a program and its arguments, for example [import-order, --strict]")
        if spec.settings.carried.run.isEmpty, keys["run"] == nil {
            issue(spec.line, "\(what) needs `run`: a program and its arguments, for example [import-order, --strict]")
        }
        if let per = keys["per"], let word = text(per, "per") {
            spec.settings.carried.isBatched = word == "batch"
            if word != "batch", word != "job" { issue(per.line, "`per` is job or batch") }
        }
        if let codes = keys["refuse_codes"] {
            let given = texts(codes, "refuse_codes", "a list of exit codes from 1 to 255, for example [65]", mayBeEmpty: true)
            let numbers = given.compactMap { Int($0) }.filter { (1...255).contains($0) }
            if numbers.count != given.count { issue(codes.line, "`refuse_codes` is a list of exit codes from 1 to 255, for example [65]") }
            spec.settings.carried.refuseCodes = numbers
        }
        for variable in keys["env"].map({ members($0, of: "\(what): env", allowed: nil) }) ?? [:] {
            guard let resolved = resolvedText(variable.value, variable.key) else { continue }
            spec.values.append(NamedText(name: "env.\(variable.key)", value: resolved.text))
        }
        spec.values.sort { $0.name < $1.name }
        let most = Span.seconds(Int64(CommandDestination.limitSecondsMax(isBatched: spec.settings.carried.isBatched)))
        checkTimeout(keys, spec, most: most)
    }

    private mutating func file(_ keys: [String: YAMLValue], of what: String, into spec: inout DestinationSpec) {
        spec.settings.carried.path = requiredText(keys["path"], "path", of: what, line: spec.line)
        spec.settings.carried.rotateBytes = size(keys["rotate_size"], "rotate_size")
        spec.settings.carried.rotateEvery = span(keys["rotate_every"], "rotate_every", least: FileRotation.everyLeast)
        spec.settings.carried.keep = number(keys["keep"], "keep", 1...100_000).map { Int($0) }
        checkTimeout(keys, spec, most: .seconds(600))
    }

    private mutating func nats(_ keys: [String: YAMLValue], of what: String, into spec: inout DestinationSpec) {
        if keys["url"] == nil { issue(spec.line, "\(what) needs `url`: its server, for example nats://127.0.0.1:4222") }
        spec.settings.carried.subject = requiredText(keys["subject"], "subject", of: what, line: spec.line)
        spec.settings.carried.stream = text(keys["stream"], "stream")
        spec.settings.carried.user = text(keys["user"], "user")
        for name in CarriedSettings.secretKeys { secret(keys[name], name, into: &spec) }
        let ways = [["user", "password"], ["token"], ["nkey"], ["credentials"]].filter { $0.contains { keys[$0] != nil } }
        if ways.count > 1 {
            issue(
                keys[ways[1][0]]?.line ?? spec.line,
                "\(what) has more than one way to log in: give `user` and `password`, or `token`, or `nkey`, or `credentials`")
        }
        if (keys["user"] == nil) != (keys["password"] == nil) { issue(spec.line, "\(what): `user` and `password` belong together") }
        if let tls = keys["tls"] {
            let parts = members(tls, of: "\(what): tls", allowed: ["ca", "certificate", "key"])
            spec.settings.carried.authorities = text(parts["ca"], "ca")
            spec.settings.carried.certificate = text(parts["certificate"], "certificate")
            secret(parts["key"], CarriedSettings.keyOfTLS, into: &spec)
        }
        checkTimeout(keys, spec, most: .seconds(Int64(NATSDestination.limitSecondsMax)))
    }

    private mutating func secret(_ value: YAMLValue?, _ name: String, into spec: inout DestinationSpec) {
        guard let value, let resolved = resolvedText(value, name) else { return }
        spec.values.append(NamedText(name: name, value: resolved.text))
        if !resolved.isReferenced { spec.hasInlineSecret = true }
    }

    private mutating func checkTimeout(_ keys: [String: YAMLValue], _ spec: DestinationSpec, most: Span) {
        guard let key = keys["timeout"], let timeout = spec.settings.timeout, timeout > most else { return }
        issue(key.line, "`timeout` of destination \(spec.name) is at most \(most.milliseconds / 1000)s")
    }

    private mutating func texts(_ value: YAMLValue?, _ name: String, _ form: String, mayBeEmpty: Bool = false) -> [String] {
        guard let value else { return [] }
        guard case .sequence(let elements) = value.content, mayBeEmpty || !elements.isEmpty, elements.count <= 64 else {
            issue(value.line, "`\(name)` is \(form)")
            return []
        }
        return elements.compactMap { text($0, name) }
    }

    /// Bytes with their unit: `4kb`, `64mb`, `1gb` (powers of 1024).
    private mutating func size(_ value: YAMLValue?, _ name: String) -> Int64? {
        guard let value, let word = text(value, name) else { return nil }
        if let bytes = Words.bytes(word), bytes >= FileRotation.bytesLeast { return bytes }
        issue(value.line, "`\(name)` is a size with its unit, at least 4kb: for example 64mb or 1gb")
        return nil
    }
}

extension Words {
    /// A size with its unit: `512b`, `4kb`, `64mb`, `1gb` (powers of 1024); nil for anything else.
    static func bytes(_ text: String) -> Int64? {
        let digits = text.prefix { $0.isASCII && $0.isNumber }
        let units: [String: Int64] = ["b": 1, "kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30]
        guard let number = Int64(digits), let unit = units[text[digits.endIndex...].lowercased()] else { return nil }
        let (value, overflow) = number.multipliedReportingOverflow(by: unit)
        return overflow || value > 1 << 50 ? nil : value
    }

    /// A size as people write it: the largest unit that leaves no rest.
    static func text(bytes: Int64) -> String {
        for (unit, size) in [("gb", 1 << 30), ("mb", 1 << 20), ("kb", 1 << 10)] as [(String, Int64)] where bytes != 0 && bytes % size == 0 {
            return "\(bytes / size)\(unit)"
        }
        return "\(bytes)b"
    }
}
