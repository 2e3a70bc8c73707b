/// Numbers that go through Lua must not lose digits without anyone noticing.
enum LuaNumber {
    /// Whether a float stands for the same decimal number as the literal: 1.10 and 1e2 do, 18446744073709551615 and
    /// 1700000000.123456789 do not. Such literals stay opaque and keep their bytes.
    static func holdsExactly(_ literal: ArraySlice<UInt8>, _ double: Double) -> Bool {
        guard double.isFinite else { return false }
        let wanted = decimal(literal)
        // A double keeps any 15 digits within its range of exponents (DBL_DIG).
        if wanted.digits.count <= 15, abs(wanted.exponent) < 290 { return true }
        return wanted == decimal(Array(double.description.utf8)[...])
    }

    struct Decimal: Equatable {
        var isNegative = false
        /// Without zeros at either end.
        var digits: [UInt8] = []
        /// Of ten, for the digits read as an integer.
        var exponent = 0
    }

    /// A JSON literal as digits and an exponent.
    static func decimal(_ literal: ArraySlice<UInt8>) -> Decimal {
        var result = Decimal()
        var isFraction = false
        var index = literal.startIndex
        while index < literal.endIndex {
            let byte = literal[index]
            index += 1
            switch byte {
            case UInt8(ascii: "-"): result.isNegative = true
            case UInt8(ascii: "."): isFraction = true
            case UInt8(ascii: "e"), UInt8(ascii: "E"):
                let text = String(decoding: literal[index...], as: UTF8.self)
                // Far beyond what a double holds; any such literal stays opaque.
                result.exponent += Int(text).map { max(-1_000_000, min(1_000_000, $0)) } ?? 1_000_000
                index = literal.endIndex
            default:
                if isFraction { result.exponent -= 1 }
                if byte != UInt8(ascii: "0") || !result.digits.isEmpty { result.digits.append(byte) }
            }
        }
        while result.digits.last == UInt8(ascii: "0") {
            result.digits.removeLast()
            result.exponent += 1
        }
        if result.digits.isEmpty { result.exponent = 0 }
        return result
    }
}
