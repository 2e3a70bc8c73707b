import SluiceConnectors

/// `-- allow LINT: WHY` in a connector's source.
struct LintAllowance: Equatable {
    var name: String
    var hasReason: Bool
    /// Whether it is written as an allowance; otherwise a comment may happen to begin with these words.
    private var isMeant: Bool

    init?(_ line: String) {
        guard let mark = line.firstRange(of: "-- allow ") else { return nil }
        let rest = line[mark.upperBound...].drop { $0 == " " }
        let name = rest.prefix { $0.isLowercase && $0.isASCII || $0 == "-" }
        let after = rest.dropFirst(name.count).drop { $0 == " " }
        self.name = String(name)
        hasReason = after.first == ":" && after.dropFirst().contains { !$0.isWhitespace }
        isMeant = LintNames.all.contains(self.name) || name.contains("-") || after.first == ":"
        guard isMeant else { return nil }
    }
}

extension ConnectorLints {
    /// An allowance that allows nothing, as it names no lint, or does not say why.
    mutating func lintAllowances(_ lines: [String]) {
        for (index, line) in lines.enumerated() {
            guard let allowance = LintAllowance(line) else { continue }
            if !LintNames.all.contains(allowance.name) {
                let near = Words.nearestAll(allowance.name, among: LintNames.all.sorted()).prefix(3)
                note(
                    "allow-unknown", line: index + 1, "there is no lint \(allowance.name)", loses: "nothing, but nothing is allowed by it",
                    fix: near.isEmpty ? "name the lint as its finding does" : "near: \(near.joined(separator: ", "))")
            } else if !allowance.hasReason {
                note(
                    "allow-without-reason", line: index + 1, "\(allowance.name) is allowed without a reason, which allows nothing",
                    loses: "nothing, but nobody can tell later whether it still holds", fix: "say why: -- allow \(allowance.name): WHY")
            }
        }
    }
}
