import SluiceCore

/// Which files of the connectors directory must be read again. Pure: stamps in, names out.
///
/// ```
/// unknown ──seen──▶ read ──same stamp, old enough──▶ resting ──other stamp──▶ read …
///                     └─ stamp young: read once more ─┘        └─ missing ──▶ gone (once)
/// ```
struct ConnectorFiles: Sendable {
    /// What tells two versions of a file apart without reading it.
    struct Stamp: Sendable, Equatable {
        var modifiedAtNanoseconds: Int64
        var bytes: Int64
        var inode: UInt64
    }

    /// A file that was changed so recently may change again without another stamp.
    static let youngNanoseconds: Int64 = 2_000_000_000

    private struct Known {
        var stamp: Stamp
        var isSettled: Bool
    }
    private var known: [String: Known] = [:]
    private var gone: Set<String> = []

    init() {}

    /// What to read, and what has gone since the last look; in the order of names. `now` by the clock that stamps files.
    mutating func look(_ seen: [String: Stamp], nowNanoseconds: Int64) -> (read: [String], gone: [String]) {
        var read: [String] = []
        for (name, stamp) in seen.sorted(by: { $0.key < $1.key }) {
            gone.remove(name)
            let isOld = nowNanoseconds - stamp.modifiedAtNanoseconds > ConnectorFiles.youngNanoseconds
            if let before = known[name], before.stamp == stamp, before.isSettled { continue }
            known[name] = Known(stamp: stamp, isSettled: isOld)
            read.append(name)
        }
        let missing = known.keys.filter { seen[$0] == nil }.sorted()
        for name in missing {
            known[name] = nil
            gone.insert(name)
        }
        return (read, missing)
    }
}
