import SluiceCore

/// The subject of a message, with what depends on the job in braces: `jobs.{trigger}`.
public struct NATSSubject: Sendable, Equatable {
    /// What can stand in braces: the trigger's name, and why it polled (`webhook`, `interval`, `safety`, …).
    public static let placeholders = ["trigger", "cause"]
    public static let lengthMax = 255

    private enum Piece: Sendable, Equatable {
        case text(String)
        case placeholder(String)
    }
    public let text: String
    private let pieces: [Piece]

    /// Throws `.invalid` naming what to mend.
    public init(_ text: String) throws(SluiceError) {
        func refuse(_ message: String) -> SluiceError { SluiceError(.invalid, "`subject`: \(message)") }
        guard !text.isEmpty, text.utf8.count <= NATSSubject.lengthMax else {
            throw refuse("from 1 to \(NATSSubject.lengthMax) characters, for example jobs.{trigger}")
        }
        guard text.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else { throw refuse("it holds a space or a character that is not ASCII") }
        guard !text.contains(where: { $0 == "*" || $0 == ">" }) else {
            throw refuse("`*` and `>` are for those who subscribe; name one subject, for example jobs.{trigger}")
        }
        guard !text.hasPrefix("$"), !text.hasPrefix("_INBOX.") else { throw refuse("subjects that begin with $ or _INBOX are NATS's own") }
        var pieces: [Piece] = []
        var rest = Substring(text)
        while let open = rest.firstIndex(of: "{") {
            guard let close = rest[open...].firstIndex(of: "}") else { throw refuse("a `{` has no `}`") }
            let name = String(rest[rest.index(after: open)..<close])
            guard NATSSubject.placeholders.contains(name) else {
                throw refuse("there is no {\(name)}: it knows {\(NATSSubject.placeholders.joined(separator: "}, {"))}")
            }
            if open > rest.startIndex { pieces.append(.text(String(rest[..<open]))) }
            pieces.append(.placeholder(name))
            rest = rest[rest.index(after: close)...]
        }
        if !rest.isEmpty { pieces.append(.text(String(rest))) }
        guard !pieces.contains(where: { if case .text(let text) = $0 { text.contains("}") } else { false } }) else {
            throw refuse("a `}` has no `{`")
        }
        guard text.split(separator: ".", omittingEmptySubsequences: false).allSatisfy({ !$0.isEmpty }) else {
            throw refuse("a part between its dots is empty")
        }
        self.text = text
        self.pieces = pieces
    }

    /// One job's subject. What is put in for a placeholder is always one part: its dots become `_`.
    public func expanded(trigger: String, cause: String) -> String {
        pieces.map { piece in
            switch piece {
            case .text(let text): text
            case .placeholder("trigger"): NATSSubject.part(trigger)
            case .placeholder: NATSSubject.part(cause)
            }
        }.joined()
    }

    private static func part(_ text: String) -> String {
        String(decoding: text.utf8.map { $0 > 0x20 && $0 < 0x7F && !".*>".utf8.contains($0) ? $0 : 0x5F }, as: UTF8.self)
    }
}
