import SluiceCore

/// Watches ids that count up within one life of their source: notices when they begin anew, and when some are skipped. Pure.
///
/// ```
///   cursor {epoch, at} ──ask──▶ same epoch ──page──▶ ids follow at ──▶ cursor {epoch, at'}
///                         │                             ├─ an id was skipped: `gap:`
///                         │                             └─ an id at or below `at`: new epoch, read again from the beginning
///                         └──▶ new epoch: `gap:`, at = nothing, so that the source lists all it has
/// ```
/// The epoch becomes a part of the dedup keys, so that id 17 of one life never swallows id 17 of another.
package struct IDWatch: Equatable {
    /// Nil before anything is known of it.
    private(set) var epoch: String?
    /// The cursor within the epoch, JSON; nil at its beginning.
    package private(set) var at: [UInt8]?
    private(set) var pageState: [UInt8]?
    private(set) var warnings: [String] = []
    /// The epoch began while we watched, so its first id is due, too.
    private var beganAnew = false
    private let stored: [UInt8]?

    static let unknownEpoch = "0"

    package init(_ request: PollRequest) throws(PollFailure) {
        stored = request.cursor
        if let bytes = request.cursor {
            let root = try IDWatch.document(bytes, .badCursor, "the stored cursor").root
            if root.kind == .object, let epoch = root["epoch"]?.string {
                self.epoch = epoch
                if let at = root["at"], !at.isNull { self.at = Array(at.bytes) }
                beganAnew = root["began"]?.bool ?? false
            } else {
                at = bytes
            }
        }
        if let bytes = request.pageState {
            let root = try IDWatch.document(bytes, .pageStateExpired, "the stored page state").root
            pageState = root["state"].map { Array($0.bytes) }
            if let epoch = root["epoch"]?.string, epoch != self.epoch { begin(epoch) }
            beganAnew = root["began"]?.bool ?? false
        }
    }

    private static func document(_ bytes: [UInt8], _ kind: PollFailure.Kind, _ what: String) throws(PollFailure) -> JSONDocument {
        do throws(JSONError) {
            return try JSONDocument(bytes)
        } catch {
            throw PollFailure(kind, SluiceError(kind == .badCursor ? .badCursor : .connector, "\(what) is not JSON: it \(error)"))
        }
    }

    private mutating func begin(_ epoch: String) { (self.epoch, at, pageState, beganAnew) = (epoch, nil, nil, true) }

    /// Where it stands, for people.
    private var place: String { at.map { String(decoding: $0, as: UTF8.self) } ?? "nothing" }

    private var mark: Int64? { at.flatMap { IDWatch.mark($0) } }

    private static func mark(_ cursor: [UInt8]) -> Int64? {
        guard let root = try? JSONDocument(cursor).root else { return nil }
        return root.int64 ?? root["mark"]?.int64 ?? root.string.flatMap { Int64($0) }
    }

    // MARK: Events

    /// The source told its token.
    package mutating func heard(token: String) {
        guard epoch != nil, epoch != token else {
            epoch = token
            return
        }
        if let mark { warnings.append(IDWatch.restarted(after: mark)) }
        begin(token)
    }

    /// The source told its newest id; nil if it has none. `now` names a new epoch.
    mutating func heard(newest: Int64?, now: Timestamp) {
        guard let mark, newest ?? 0 < mark else { return }
        warnings.append(IDWatch.restarted(after: mark))
        begin(String(now.milliseconds / 1000))
    }

    private static func restarted(after mark: Int64) -> String {
        "gap: the provider counts anew (it was restarted): what it said after id \(mark) and before that may be missing"
    }

    /// The page as it is to be committed. Its ids were asked for from exactly `at`.
    package mutating func read(_ page: PollPage, consecutive: Bool, now: Timestamp) -> PollPage {
        let ids = page.marks.filter { $0 != PageScan.unknownMark }
        if let mark, let lowest = ids.min(), lowest <= mark {
            warnings.append(IDWatch.restarted(after: mark))
            begin(String(now.milliseconds / 1000))
            return PollPage(records: [], cursor: cursor, more: false, warnings: page.warnings + warnings, epoch: epoch)
        }
        if consecutive { watchForHoles(ids) }
        var page = page
        if let moved = page.cursor { (at, beganAnew) = (moved, false) }
        page.cursor = cursor == stored ? nil : cursor
        // Marks of two epochs cannot be compared.
        (page.marks, page.cursorMark) = ([], nil)
        page.epoch = epoch ?? IDWatch.unknownEpoch
        page.pageState = page.pageState.map { wrapped($0) }
        page.warnings += warnings
        return page
    }

    private mutating func watchForHoles(_ ids: [Int64]) {
        var last = pageState != nil ? nil : mark ?? (beganAnew ? 0 : nil)
        for id in ids {
            if let last, id > last + 1 {
                let missing = id == last + 2 ? "id \(last + 1) is" : "ids \(last + 1) to \(id - 1) are"
                warnings.append("gap: \(missing) missing: the provider no longer lists what it said then")
            }
            last = max(last ?? id, id)
        }
    }

    private var cursor: [UInt8] {
        var writer = JSONWriter()
        writer.object { writer in
            writer.member("epoch", epoch ?? IDWatch.unknownEpoch)
            writer.key("at")
            if let at { writer.raw(at) } else { writer.null() }
            if beganAnew { writer.member("began", true) }
        }
        return writer.bytes
    }

    private func wrapped(_ state: [UInt8]) -> [UInt8] {
        var writer = JSONWriter()
        writer.object { writer in
            writer.member("epoch", epoch ?? IDWatch.unknownEpoch)
            if beganAnew { writer.member("began", true) }
            writer.key("state")
            writer.raw(state)
        }
        return writer.bytes
    }
}
