import SluiceConnectors
import SluiceCore

extension Trial {
    /// Members by which lists say that there is more, in small letters and nothing between them.
    private static let nextNames: Set<String> = [
        "next", "nextpage", "nexturl", "nextlink", "nextcursor", "nexttoken", "nextpagetoken", "nextpageurl", "nextoffset", "hasmore",
        "hasnextpage", "odatanextlink",
    ]

    /// Says where an answer and the description disagree about further pages: a poll that ends too early looks like one that has
    /// read everything.
    mutating func notePages(_ poll: TrialPoll) {
        guard let declared = poll.connector.incremental(triggerType: type) else { return }
        let request = poll.request(cursor: nil, pageState: nil)
        let rules = declared.standInRules(request)
        let size = rules.pageSize.map { min($0.value, request.recordsMax) }
        for exchange in exchanges {
            guard let reply = exchange.reply, reply.status == 200, let root = (try? JSONDocument(reply.body))?.root,
                let count = rules.records.find(in: root)?.elements?.count
            else { continue }
            guard let note = Trial.note(rules, size, count, root, reply) else { continue }
            return notes.append(note)
        }
    }

    /// Says where no record has the version that its key is made with. One without counts by its content, which is right for a few,
    /// and for all of them means that the path is mistyped.
    mutating func noteVersions(_ poll: TrialPoll) {
        guard let declared = poll.connector.incremental(triggerType: type) else { return }
        let records = pages.flatMap(\.records).compactMap { try? JSONDocument($0.bytes).root }
        guard !records.isEmpty else { return }
        for path in declared.standInRules(poll.request(cursor: nil, pageState: nil)).dedup.versions {
            guard records.allSatisfy({ path.find(in: $0)?.text == nil }) else { continue }
            notes.append(
                "no record has a text or number at \"\(path)\" (dedup.version): it is mistyped, or each record counts by its content, so that any "
                    + "change of it is a job")
        }
    }

    private static func note(_ rules: Incremental, _ size: Int?, _ count: Int, _ root: JSONView, _ reply: HTTPReply) -> String? {
        let isFull = size.map { count >= $0 } ?? false
        switch rules.pagination {
        case .none:
            if let next = nextMember(root) ?? nextLink(reply) {
                return "the answer has \(next), and no pagination is declared: where that leads to more, it is never read"
            }
            return isFull
                ? "the answer holds \(count) records, as many as are asked for, and no pagination is declared: where there is more, it is "
                    + "never read" : nil
        case .token(let rule):
            let isLast = rule.end.hasMore?.find(in: root)?.bool == false || rule.end.isLast?.find(in: root)?.bool == true
            return isFull && !isLast ? missing(rule.from, "pagination.token.from", root, reply) : nil
        case .nextURL(let place): return isFull ? missing(place, "pagination.next_url", root, reply) : nil
        case .link, .keyset, .offset, .page: return nil
        }
    }

    private static func missing(_ place: Incremental.AnswerPlace, _ key: String, _ root: JSONView, _ reply: HTTPReply) -> String? {
        let isThere =
            switch place {
            case .body(let path): path.find(in: root) != nil
            case .header(let name): reply.headers.first(name) != nil
            }
        return isThere
            ? nil
            : "the page is full and has nothing at \(place) (\(key)): where there is more, it is mistyped, and page 1 is all that is read"
    }

    /// A member that says that there is more, at the top or one level below.
    private static func nextMember(_ root: JSONView) -> String? {
        func find(_ view: JSONView, _ prefix: String) -> String? {
            for member in view.members ?? [] where nextNames.contains(member.key.lowercased().filter { $0.isLetter }) {
                let value = member.value
                let saysMore = value.bool ?? (value.text.map { !["", "0"].contains($0) } ?? (value.members != nil))
                if saysMore { return "\(prefix)\(member.key)" }
            }
            return nil
        }
        if let found = find(root, "") { return found }
        for member in root.members ?? [] { if let found = find(member.value, "\(member.key).") { return found } }
        return nil
    }

    private static func nextLink(_ reply: HTTPReply) -> String? {
        let link = reply.headers.first("Link")?.lowercased() ?? ""
        return ["rel=next", "rel=\"next\""].contains { link.contains($0) } ? "a Link with rel=next" : nil
    }
}
