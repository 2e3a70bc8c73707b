/// Lua 5.4 source cut into tokens, each with its line, for tools that look at a connector without running it. Follows the
/// reference manual, 3.1. Never fails: what it cannot read is a symbol of one byte.
public struct LuaToken: Sendable, Equatable {
    public enum Kind: Sendable, Equatable { case name, number, string, symbol }
    public var kind: Kind
    /// The name, number or symbol as written; of a string what stands between its quotes.
    public var text: String
    /// From 1.
    public var line: Int

    public static func all(in source: [UInt8]) -> [LuaToken] {
        var scanner = Scanner(source)
        return scanner.all()
    }

    func isSymbol(_ text: String) -> Bool { kind == .symbol && self.text == text }
    func isName(_ text: String) -> Bool { kind == .name && self.text == text }

    private struct Scanner {
        let bytes: [UInt8]
        var index = 0
        var line = 1

        init(_ bytes: [UInt8]) { self.bytes = bytes }

        mutating func all() -> [LuaToken] {
            var tokens: [LuaToken] = []
            while let token = next() { tokens.append(token) }
            return tokens
        }

        private func peek(_ offset: Int = 0) -> UInt8? { index + offset < bytes.count ? bytes[index + offset] : nil }

        private mutating func next() -> LuaToken? {
            while let byte = peek() {
                if byte == 0x0A { line += 1 }
                if byte <= 0x20 {
                    index += 1
                } else if byte == UInt8(ascii: "-"), peek(1) == UInt8(ascii: "-") {
                    index += 2
                    if longBracket() == nil { while let byte = peek(), byte != 0x0A { index += 1 } }
                } else {
                    return token(byte)
                }
            }
            return nil
        }

        private mutating func token(_ first: UInt8) -> LuaToken {
            let (start, startLine) = (index, line)
            if Scanner.isLetter(first) {
                while let byte = peek(), Scanner.isLetter(byte) || byte &- 0x30 < 10 { index += 1 }
                return LuaToken(kind: .name, text: text(start..<index), line: startLine)
            }
            if first &- 0x30 < 10 {
                while let byte = peek(), Scanner.isLetter(byte) || byte &- 0x30 < 10 || byte == UInt8(ascii: ".") { index += 1 }
                return LuaToken(kind: .number, text: text(start..<index), line: startLine)
            }
            if first == UInt8(ascii: "\"") || first == UInt8(ascii: "'") { return string(first) }
            if first == UInt8(ascii: "["), let inner = longBracket() {
                return LuaToken(kind: .string, text: text(inner), line: startLine)
            }
            for symbol in ["...", "..", "==", "~=", "<=", ">=", "//", "::", "<<", ">>"] where bytes[index...].starts(with: symbol.utf8) {
                index += symbol.utf8.count
                return LuaToken(kind: .symbol, text: symbol, line: startLine)
            }
            index += 1
            return LuaToken(kind: .symbol, text: text(start..<index), line: startLine)
        }

        private mutating func string(_ quote: UInt8) -> LuaToken {
            let startLine = line
            index += 1
            let start = index
            while let byte = peek(), byte != quote, byte != 0x0A {
                if byte == UInt8(ascii: "\\") {
                    if peek(1) == 0x0A { line += 1 }
                    index += 1
                }
                index += 1
            }
            let end = min(index, bytes.count)
            if peek() == quote { index += 1 }
            return LuaToken(kind: .string, text: text(start..<end), line: startLine)
        }

        /// Skips `[[…]]` or `[==[…]==]`; the range between its brackets. Nil, and nothing skipped, if there is none here.
        private mutating func longBracket() -> Range<Int>? {
            guard peek() == UInt8(ascii: "[") else { return nil }
            var level = 0
            while peek(1 + level) == UInt8(ascii: "=") { level += 1 }
            guard peek(1 + level) == UInt8(ascii: "[") else { return nil }
            let start = index + level + 2
            index = start
            let close = [UInt8(ascii: "]")] + [UInt8](repeating: UInt8(ascii: "="), count: level) + [UInt8(ascii: "]")]
            while index < bytes.count, !bytes[index...].starts(with: close) {
                if bytes[index] == 0x0A { line += 1 }
                index += 1
            }
            let end = index
            index = min(bytes.count, index + close.count)
            return start..<end
        }

        private func text(_ range: Range<Int>) -> String { String(decoding: bytes[range], as: UTF8.self) }

        private static func isLetter(_ byte: UInt8) -> Bool {
            (byte | 0x20) &- 0x61 < 26 || byte == UInt8(ascii: "_") || byte >= 0x80
        }
    }
}
