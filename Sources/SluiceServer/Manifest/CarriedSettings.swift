import SluiceCore

/// What destinations of the kinds `command`, `file` and `nats` set besides what all may. Stored as JSON; what may be secret is
/// sealed elsewhere, by the key that it stands under.
public struct CarriedSettings: Sendable, Equatable {
    /// Jobs of one call: of a batch for a program, of a sync, of a round of acknowledgements.
    public var batchMax: Int?
    // command
    public var run: [String] = []
    /// A program for each batch, not for each job.
    public var isBatched = false
    public var refuseCodes: [Int]?
    // file
    /// As it was given, below the directory of `--files-in`.
    public var path: String?
    public var rotateBytes: Int64?
    public var rotateEvery: Span?
    public var keep: Int?
    // nats
    public var subject: String?
    public var stream: String?
    public var user: String?
    /// PEM texts.
    public var authorities: String?
    public var certificate: String?

    /// The secret values of these kinds, by what they stand under; those of `env` as `env.NAME`.
    public static let secretKeys = ["password", "token", "nkey", "credentials"]
    public static let keyOfTLS = "tls.key"

    public init() {}

    /// Writes members of an object; nothing for what is not set.
    func write(to writer: inout JSONWriter) {
        if let batchMax { writer.member("batch_max", Int64(batchMax)) }
        if !run.isEmpty {
            writer.key("run")
            writer.array { writer in for part in run { writer.value(part) } }
        }
        if isBatched { writer.member("per", "batch") }
        if let refuseCodes {
            writer.key("refuse_codes")
            writer.array { writer in for code in refuseCodes { writer.value(Int64(code)) } }
        }
        if let path { writer.member("path", path) }
        if let rotateBytes { writer.member("rotate_size", rotateBytes) }
        if let rotateEvery { writer.member("rotate_every_ms", rotateEvery.milliseconds) }
        if let keep { writer.member("keep", Int64(keep)) }
        if let subject { writer.member("subject", subject) }
        if let stream { writer.member("stream", stream) }
        if let user { writer.member("user", user) }
        if let authorities { writer.member("ca", authorities) }
        if let certificate { writer.member("certificate", certificate) }
    }

    /// Reads what `write` wrote; anything missing or unknown is left at its default.
    init(json: [UInt8]) {
        guard let root = (try? JSONDocument(json))?.root else { return }
        batchMax = root["batch_max"]?.int64.map { Int($0) }
        run = root["run"]?.elements?.compactMap(\.string) ?? []
        isBatched = root["per"]?.string == "batch"
        refuseCodes = root["refuse_codes"]?.elements?.compactMap { $0.int64.map { Int($0) } }
        path = root["path"]?.string
        rotateBytes = root["rotate_size"]?.int64
        rotateEvery = root["rotate_every_ms"]?.int64.map(Span.init(milliseconds:))
        keep = root["keep"]?.int64.map { Int($0) }
        subject = root["subject"]?.string
        stream = root["stream"]?.string
        user = root["user"]?.string
        authorities = root["ca"]?.string
        certificate = root["certificate"]?.string
    }
}
