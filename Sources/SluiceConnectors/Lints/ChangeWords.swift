/// Names that say that something moves with each change of a record.
package enum ChangeWords {
    private static let words = ["updat", "modif", "chang", "edited", "touched", "last_"]

    package static func stand(in name: String) -> Bool {
        let name = name.lowercased()
        return words.contains { name.contains($0) }
    }
}

extension CursorRule {
    /// Whether its field, by its name, moves with each change.
    package var saysChange: Bool { ChangeWords.stand(in: field.keys.last ?? "") }
}
