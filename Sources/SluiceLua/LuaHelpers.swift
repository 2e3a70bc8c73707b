import CLua
import Crypto
import SluiceConnectors
import SluiceCore

extension LuaContext {
    /// The helpers that connectors call on one or two strings.
    func helper(_ which: clua_helper, _ first: UnsafeRawBufferPointer, _ second: UnsafeRawBufferPointer, _ out: LuaValue) {
        switch which {
        case CLUA_HELPER_BASE64_ENCODE: out.put(LuaText.base64(Array(first)))
        case CLUA_HELPER_HMAC_SHA256_HEX:
            let code = HMAC<SHA256>.authenticationCode(for: Array(second), using: SymmetricKey(data: Array(first)))
            out.put(LuaText.hex(code))
        case CLUA_HELPER_URL_ENCODE: out.put(LuaText.urlEncode(first))
        case CLUA_HELPER_PARSE_HTTP_DATE:
            if let time = HTTPDate.parse(String(decoding: first, as: UTF8.self)) { out.put(time.seconds) }
        case CLUA_HELPER_JSON_DECODE:
            do throws(JSONError) {
                if let page = try parse(Array(first)[...], out) { putRoot(page, out) }
            } catch {
                out.fail("json_decode: the text is not JSON: it \(error)")
            }
        default: pollFailure(String(decoding: first, as: UTF8.self), String(decoding: second, as: UTF8.self), out)
        }
    }

    /// `poll_failure(kind, message)`: the poll ends with a failure of that kind.
    private func pollFailure(_ kind: String, _ message: String, _ out: LuaValue) {
        let kinds: [String: (PollFailure.Kind, SluiceError.Code)] = [
            "transient": (.transient, .providerAnswer), "unauthorized": (.unauthorized, .providerAuth),
            "bad_cursor": (.badCursor, .badCursor), "page_state_expired": (.pageStateExpired, .badCursor),
            "permanent": (.permanent, .connector),
        ]
        guard isPolling else { return out.fail("poll_failure works in poll only") }
        guard let (kind, code) = kinds[kind] else {
            return out.fail("poll_failure: unknown kind '\(kind)'; known are \(kinds.keys.sorted().joined(separator: ", "))")
        }
        failure = PollFailure(kind, SluiceError(code, message))
        out.put(CLUA_VALUE_STOP)
    }
}

/// Small encodings, without Foundation.
enum LuaText {
    static func hex(_ bytes: some Sequence<UInt8>) -> String {
        let digits = Array("0123456789abcdef".utf8)
        return String(decoding: bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
    }

    /// RFC 4648, section 4, with padding.
    static func base64(_ bytes: [UInt8]) -> String {
        let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
        var result: [UInt8] = []
        result.reserveCapacity((bytes.count + 2) / 3 * 4)
        for start in stride(from: 0, to: bytes.count, by: 3) {
            let count = min(3, bytes.count - start)
            let group = (0..<3).reduce(0) { $0 << 8 | ($1 < count ? Int(bytes[start + $1]) : 0) }
            for digit in 0..<4 {
                result.append(digit <= count ? alphabet[group >> (18 - 6 * digit) & 63] : UInt8(ascii: "="))
            }
        }
        return String(decoding: result, as: UTF8.self)
    }

    /// Everything but RFC 3986's unreserved characters as %XX.
    static func urlEncode(_ bytes: some Sequence<UInt8>) -> String {
        let digits = Array("0123456789ABCDEF".utf8)
        var result: [UInt8] = []
        for byte in bytes {
            switch byte {
            case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "~"):
                result.append(byte)
            default: result.append(contentsOf: [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]])
            }
        }
        return String(decoding: result, as: UTF8.self)
    }

}
