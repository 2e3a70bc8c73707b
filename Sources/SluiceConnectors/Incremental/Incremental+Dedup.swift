import SluiceCore

extension Incremental {
    /// Identity and version of each record: `ID@VERSION`, with every further version after another `@`. An `@` inside a
    /// version is written %40, so that no two pairs give the same key. A record without a version that it should have
    /// counts by its content; one without an id gives a failure.
    public func dedupKeys(records: [Record]) -> [Result<[UInt8], SluiceError>] {
        var result: [Result<[UInt8], SluiceError>] = []
        result.reserveCapacity(records.count)
        for record in records { result.append(record.bytes.withUnsafeBufferPointer { dedupKey($0) }) }
        return result
    }

    /// The keys of each record by these rules, which a trigger of this request had before; none where a rule cannot make one.
    static func formerKeys(_ records: [Record], _ request: PollRequest) -> [[[UInt8]]] {
        guard !request.formerRules.isEmpty else { return [] }
        var result = [[[UInt8]]](repeating: [], count: records.count)
        for rules in request.formerRules {
            guard let rules = rules.shape.variants == nil ? rules : try? rules.shape.variants?.rules(for: request) else { continue }
            for (index, key) in rules.dedupKeys(records: records).enumerated() {
                guard case .success(let bytes) = key else { continue }
                result[index].append(records[index].isDeletion ? bytes + Tombstone.keySuffix : bytes)
            }
        }
        return result
    }

    private func dedupKey(_ record: UnsafeBufferPointer<UInt8>) -> Result<[UInt8], SluiceError> {
        var key: [UInt8] = []
        key.reserveCapacity(48)
        guard let id = dedup.id.find(in: record), Incremental.append(record, id, to: &key), !key.isEmpty else {
            return .failure(SluiceError(.connector, "the record has no text or number at \"\(dedup.id)\" that identifies it"))
        }
        for path in dedup.versions {
            key.append(UInt8(ascii: "@"))
            let start = key.count
            if let version = path.find(in: record), Incremental.append(record, version, to: &key) {
                Incremental.escapeAt(&key, from: start)
            } else {
                let digest = Hex.text(HMACSHA256.sha256(Array(record)))
                key.append(contentsOf: "content:\(digest)".utf8)
            }
        }
        if key.count > KeyedRecord.dedupKeyBytesMax {
            return .failure(
                SluiceError(.connector, "the dedup key would take \(key.count) bytes, at most \(KeyedRecord.dedupKeyBytesMax) are kept"))
        }
        return .success(key)
    }

    /// The keys that tell a state of their records; nil for the others: none could be made, or the record lacked its version, so that the
    /// key is made of the whole of it. An `@` of the record's own is escaped.
    public static func telling(_ keys: [Result<[UInt8], SluiceError>]) -> [[UInt8]?] {
        keys.map { key in
            guard case .success(let bytes) = key, !bytes.contains("@content:".utf8) else { return nil }
            return bytes
        }
    }

    /// Appends a string's text or a number's literal; false for anything else.
    private static func append(_ record: UnsafeBufferPointer<UInt8>, _ range: Range<Int>, to key: inout [UInt8]) -> Bool {
        let first = record[range.lowerBound]
        if first == UInt8(ascii: "\"") {
            let inner = UnsafeBufferPointer(rebasing: record[range.lowerBound + 1..<range.upperBound - 1])
            if inner.contains(UInt8(ascii: "\\")) {
                key.append(contentsOf: (JSONView(checked: Array(record[range])[...]).string ?? "").utf8)
            } else {
                key.append(contentsOf: inner)
            }
            return true
        }
        guard first == UInt8(ascii: "-") || first &- 0x30 < 10 else { return false }
        key.append(contentsOf: record[range])
        return true
    }

    private static func escapeAt(_ key: inout [UInt8], from start: Int) {
        guard key[start...].contains(UInt8(ascii: "@")) else { return }
        let version = Array(key[start...])
        key.removeSubrange(start...)
        for byte in version {
            if byte == UInt8(ascii: "@") { key.append(contentsOf: "%40".utf8) } else { key.append(byte) }
        }
    }
}
