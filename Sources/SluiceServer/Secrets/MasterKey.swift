import SluiceCore
import SluiceStore

/// Finds the master key: `SLUICE_MASTER_KEY`, else the file that `SLUICE_MASTER_KEY_FILE` names, else `master.key` in the data
/// directory, which is made at the first start. A key that does not fit the store is refused before anything is read.
public enum MasterKey {
    /// Something to tell the person who starts the server, or nil.
    public typealias Notice = String

    /// The store's fact that shows whether a key fits: a sealed constant.
    static let checkFact = "master_key_check"
    private static let checkOwner = "master key check"
    private static let checkText = Array("sluice".utf8)

    /// The sealer for this store. Throws `.wrongKey` naming the variable or file to restore. Reads and writes files: call it
    /// where blocking is allowed.
    public static func sealer(
        environment: [String: String], dataDirectory: String, store: any MaintenanceStore
    ) async throws -> (sealer: SecretSealer, notice: Notice?) {
        let check = try await store.fact(checkFact)
        let found = try find(environment: environment, dataDirectory: dataDirectory, isNeeded: check)
        if let check {
            try verify(found.sealer, check: check)
        } else {
            try await store.setFact(checkFact, found.sealer.seal(checkText, owner: checkOwner))
        }
        return found
    }

    static func verify(_ sealer: SecretSealer, check: [UInt8]) throws(SluiceError) {
        guard try sealer.open(check, owner: checkOwner) == checkText else {
            throw sealer.wrongKey(needed: SecretSealer.keyID(of: check) ?? [])
        }
    }

    static func find(
        environment: [String: String], dataDirectory: String, isNeeded check: [UInt8]?
    ) throws(SluiceError) -> (sealer: SecretSealer, notice: Notice?) {
        if let text = environment["SLUICE_MASTER_KEY"], !text.isEmpty {
            return (try SecretSealer(key: parse(text, source: "SLUICE_MASTER_KEY"), source: "SLUICE_MASTER_KEY"), nil)
        }
        let named = environment["SLUICE_MASTER_KEY_FILE"].flatMap { $0.isEmpty ? nil : $0 }
        let path = named ?? dataDirectory + "/master.key"
        if let bytes = try SmallFile.read(path, bytesMax: 4096) {
            return (try SecretSealer(key: parse(String(decoding: bytes, as: UTF8.self), source: path), source: path), nil)
        }
        if let check {
            let id = SecretSealer.keyID(of: check).map(Hex.text) ?? "unknown"
            throw SluiceError(
                .wrongKey,
                "the secrets in this data directory were sealed with master key \(id), and \(path) is missing: "
                    + "restore that file, or give the key in SLUICE_MASTER_KEY"
            ).with("file", path)
        }
        if named != nil {
            throw SluiceError(.wrongKey, "SLUICE_MASTER_KEY_FILE names \(path), which does not exist").with("file", path)
        }
        let key = Randomness.bytes(32)
        try SmallFile.writePrivate(path, Array((Hex.text(key) + "\n").utf8), isNew: true)
        return (
            try SecretSealer(key: key, source: path),
            "made the master key \(path): keep a copy of it apart from the data directory's backups; without it stored secrets are lost"
        )
    }

    private static func parse(_ text: String, source: String) throws(SluiceError) -> [UInt8] {
        let digits = text.filter { !$0.isWhitespace }
        guard let key = Hex.bytes(digits), key.count == 32 else {
            throw SluiceError(.wrongKey, "the master key in \(source) must be 64 hexadecimal digits (make one with `openssl rand -hex 32`)")
        }
        return key
    }
}

/// Who owns a sealed secret.
public enum SecretOwner {
    public static func connection(_ name: String) -> String { "connection default/\(name)" }
    /// By its URL, which no other has.
    public static func subscription(_ url: String) -> String { "subscription default/\(url)" }
    /// Tokens that a provider rotates.
    public static func credentials(_ name: String) -> String { "credentials default/\(name)" }
    public static func destination(_ name: String) -> String { "destination default/\(name)" }
}
