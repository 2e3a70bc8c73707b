import SluiceCore
import SluiceStore

/// Which deliveries were stored: by namespace and the first 48 bits of their digest; the row itself settles what collides.
///
/// Digests are random, so an ordinary index would write one page a webhook. Here the newest entries stay in memory and
/// go to the table `inbox_digest` by parts of the range, one part every `rowsPerFlush` webhooks: each page is
/// written once for many entries. `inbox_digest_mark` says up to which webhook a part has been written; what came
/// after is read again from the inbox when the store is opened, or when a transaction failed.
///
/// Nearly every webhook is a new one, and looking for it in a table of millions costs a page of it: a filter says so without
/// looking. It is in memory only, and filled while webhooks come.
///
/// Touched by the writer's thread only.
final class DigestIndex: @unchecked Sendable {
    private struct Key: Hashable {
        var namespace: NamespaceID
        var head: Int64
    }

    private static let parts = 64
    private static let rowsPerFlush = 512
    /// So many rows of the table are read with each flush while a filter is filled: a fraction of a millisecond.
    private static let rowsPerPiece = 4096

    private var recent: [[Key: [InboxSequence]]] = []
    private var filter = TableFilter()
    /// How often `remove` was called: what is undone since then is no longer true in memory.
    private(set) var removals = 0
    private var rowsSinceFlush = 0
    private var nextPart = 0

    /// The first 48 bits of a digest.
    static func head(_ digest: [UInt8]) -> Int64 { digest.prefix(6).reduce(0) { $0 << 8 | Int64($1) } }
    private static func part(_ head: Int64) -> Int { Int(head >> 42) & (parts - 1) }

    /// What is in memory may no longer be what is stored: reads it again at the next use.
    func forget() {
        recent = []
        filter.restart()
    }

    /// The first copy of a delivery.
    func firstCopy(_ namespace: NamespaceID, _ digest: [UInt8], _ transaction: Transaction) throws -> InboxSequence? {
        try load(transaction)
        let head = DigestIndex.head(digest)
        let candidates = filter.mayContain(namespace, head) ? try written(namespace, head, transaction) : []
        for sequence in candidates + (recent[DigestIndex.part(head)][Key(namespace: namespace, head: head)] ?? []) {
            let row = try transaction.prepare("SELECT 1 FROM inbox WHERE seq = ? AND delivery_digest = ?")
            row.bind(1, sequence)
            row.bind(2, digest)
            if try row.first({ _ in true }) != nil { return sequence }
        }
        return nil
    }

    private func written(_ namespace: NamespaceID, _ head: Int64, _ transaction: Transaction) throws -> [InboxSequence] {
        let written = try transaction.prepare("SELECT seq FROM inbox_digest WHERE ns = ? AND head = ? ORDER BY seq")
        written.bind(1, namespace)
        written.bind(2, head)
        return try written.all { $0.id(0) }
    }

    /// After the row itself.
    func insert(_ namespace: NamespaceID, _ digest: [UInt8], _ sequence: InboxSequence, _ transaction: Transaction) throws {
        let head = DigestIndex.head(digest)
        // Reading anew finds the row itself, which is in the inbox already.
        if recent.isEmpty { return try load(transaction) }
        recent[DigestIndex.part(head)][Key(namespace: namespace, head: head), default: []].append(sequence)
    }

    func remove(_ namespace: NamespaceID, _ head: Int64, _ sequence: InboxSequence, _ transaction: Transaction) throws {
        try load(transaction)
        // First: what comes next may fail half-way, and is undone then.
        removals += 1
        recent[DigestIndex.part(head)][Key(namespace: namespace, head: head)]?.removeAll { $0 == sequence }
        let delete = try transaction.prepare("DELETE FROM inbox_digest WHERE ns = ? AND head = ? AND seq = ?")
        delete.bind(1, namespace)
        delete.bind(2, head)
        delete.bind(3, sequence)
        try delete.run()
        filter.remove()
    }

    /// After webhooks were inserted, `last` being the last of them: writes a part if it is time, also where it holds
    /// nothing, so that opening never has more than some ten thousand webhooks to look at.
    func flush(rows: Int, last: InboxSequence, _ transaction: Transaction) throws {
        rowsSinceFlush += rows
        guard rowsSinceFlush >= DigestIndex.rowsPerFlush else { return }
        rowsSinceFlush -= DigestIndex.rowsPerFlush
        try load(transaction)
        let entries = recent[nextPart].sorted { ($0.key.namespace, $0.key.head) < ($1.key.namespace, $1.key.head) }
        let insert = try transaction.prepare("INSERT INTO inbox_digest (ns, head, seq) VALUES (?, ?, ?) ON CONFLICT DO NOTHING")
        for (key, sequences) in entries {
            insert.bind(1, key.namespace)
            insert.bind(2, key.head)
            filter.insert(key.namespace, key.head)
            for sequence in sequences {
                insert.bind(3, sequence)
                try insert.run()
            }
        }
        let mark = try transaction.prepare("UPDATE inbox_digest_mark SET seq = ? WHERE part = ?")
        mark.bind(1, last)
        mark.bind(2, nextPart)
        try mark.run()
        recent[nextPart] = [:]
        nextPart = (nextPart + 1) % DigestIndex.parts
        try fill(transaction)
    }

    /// Reads the next piece of the table for the filter. Before anything else of its transaction removes rows: were that undone, a
    /// piece would lack what is there.
    private func fill(_ transaction: Transaction) throws {
        if filter.isWorn {
            let ends = try transaction.prepare("SELECT (SELECT max(seq) FROM inbox) - (SELECT min(seq) FROM inbox)")
            filter.begin(rows: Int(clamping: try ends.first { $0.int(0) } ?? 0))
        }
        guard let place = filter.reading else { return }
        let rows = try transaction.prepare(
            "SELECT ns, head, seq FROM inbox_digest WHERE (ns, head, seq) > (?, ?, ?) ORDER BY ns, head, seq LIMIT ?")
        rows.bind(1, place.namespace)
        rows.bind(2, place.head)
        rows.bind(3, place.sequence)
        rows.bind(4, Int64(DigestIndex.rowsPerPiece))
        let piece: [TableFilter.Place] = try rows.all { .init(namespace: $0.id(0), head: $0.int(1), sequence: $0.id(2)) }
        filter.add(piece, isLast: piece.count < DigestIndex.rowsPerPiece)
    }

    private func load(_ transaction: Transaction) throws {
        guard recent.isEmpty else { return }
        var loaded = [[Key: [InboxSequence]]](repeating: [:], count: DigestIndex.parts)
        let marks: [InboxSequence] = try transaction.prepare("SELECT seq FROM inbox_digest_mark ORDER BY part").all { $0.id(0) }
        guard marks.count == DigestIndex.parts else {
            throw SluiceError(.storage, "the database is damaged: the inbox has no digest marks")
        }
        let rows = try transaction.prepare("SELECT ns, digest_head, seq FROM inbox WHERE seq > ? AND digest_head IS NOT NULL ORDER BY seq")
        rows.bind(1, marks.min() ?? .zero)
        defer { rows.reset() }
        while try rows.step() {
            let key = Key(namespace: rows.id(0), head: rows.int(1))
            let part = DigestIndex.part(key.head)
            let sequence: InboxSequence = rows.id(2)
            if sequence > marks[part] { loaded[part][key, default: []].append(sequence) }
        }
        recent = loaded
        // The part that was written longest ago comes next.
        nextPart = marks.indices.min { marks[$0] < marks[$1] } ?? 0
    }
}
