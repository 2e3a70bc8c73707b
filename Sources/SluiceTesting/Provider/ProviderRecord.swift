import SluiceCore

/// Writes the records of the stand-in provider, with everything in them that a careless reader spoils: whole numbers
/// beyond 2^53, decimals with a trailing zero, exponents, escapes, text outside ASCII, white space.
enum ProviderRecord {
    struct Facts {
        var resource: String
        var id: String
        /// Counts the records of all resources from 1.
        var number: Int
        var createdAtSeconds: Int64
        var updatedAt: Timestamp
        var isDeleted: Bool
        /// The version of this record, from 1.
        var version: Int
    }

    static let amounts = [
        "9007199254740993", "1.10", "0.1000", "-0.00", "1e2", "123456789012345678", "12345678901234567890", "1.0E+2", "7",
    ]
    static let names = ["Łukasz", "Zoë", "渡辺 ゆき", "Ñandú 🚰", #"O\u2019Neil \"Q\" \/"#, "line\\nbreak", "plain"]

    /// The record's bytes: one JSON object. Its spacing varies with the record's number.
    static func bytes(_ facts: Facts, using random: inout ProviderRandom) -> [UInt8] {
        let gap = facts.number % 4 == 0 ? " " : ""
        let amount = amounts[Int.random(in: 0..<amounts.count, using: &random)]
        let name = names[Int.random(in: 0..<names.count, using: &random)]
        var text = "{\(gap)\"id\":\(gap)\"\(facts.id)\",\"object\":\"\(facts.resource)\",\"status\":\"active\""
        text += ",\"created_at\":\(facts.createdAtSeconds),\"updated_at\":\(gap)\(facts.updatedAt.seconds)"
        text += ",\"resource_version\":\(facts.updatedAt.milliseconds),\"amount\":\(amount),\"version\":\(facts.version)"
        text += ",\"note\":\"\(name)\",\"tags\":[\(gap)],\"empty\":{},\"nothing\":null"
        text += ",\"customer\":{\"id\":\"cus_\(facts.number % 97)\",\"first_name\":\"\(name)\",\"balance\":\(amount),"
        text += "\"address\":{\"lines\":[\"\(name)\",\(gap)\"2\"],\"zip\":\"0\(facts.number % 10)\"}}"
        text += ",\"deleted\":\(facts.isDeleted)\(gap)}"
        return Array(text.utf8)
    }
}
