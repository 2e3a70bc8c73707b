import SluiceCore

/// A webhook as it stands in a file: request line, headers, an empty line, and the body's bytes as they are.
///
/// Lines end with LF or CRLF. A chunked body is put together (RFC 9112, 7.1). Content-Length, where it is there and the file is longer,
/// cuts the body off; otherwise the body is the rest of the file.
public struct RawRequest: Sendable {
    public static let bytesMax = 64 * 1024 * 1024
    private static let headersMax = 1000

    public var request: WebhookRequest
    /// What should be said of the file, since it may be why a signature fails.
    public var notes: [String] = []

    /// Throws `invalid` with what is wrong and in which line.
    public init(_ bytes: [UInt8]) throws(SluiceError) {
        guard bytes.count <= Self.bytesMax else {
            throw SluiceError(.invalid, "The request has \(bytes.count) bytes, and at most \(Self.bytesMax) are read.")
        }
        var rest = bytes[...]
        guard let first = Self.line(&rest) else {
            throw SluiceError(.invalid, "The request is empty: it begins with a line like POST /hooks/x HTTP/1.1.")
        }
        let words = first.split(separator: " ").map(String.init)
        guard (2...3).contains(words.count), words.count == 2 || words[2].hasPrefix("HTTP/"),
            words[0].utf8.allSatisfy({ $0 &- 0x41 < 26 }), ["/", "http://", "https://"].contains(where: words[1].hasPrefix)
        else {
            throw SluiceError(.invalid, "Line 1 of the request must be METHOD TARGET HTTP/1.1, for example POST /hooks/x HTTP/1.1.")
        }
        let headers = try Self.headers(&rest)
        let (path, query, url) = Self.target(words[1])
        request = WebhookRequest(method: words[0], path: path, query: query, headers: headers, body: Array(rest), url: url)
        if request.headers.contains(where: Self.isChunked) {
            try joinChunks()
        } else {
            cutBody()
        }
    }

    private static func headers(_ rest: inout ArraySlice<UInt8>) throws(SluiceError) -> [HTTPField] {
        var headers: [HTTPField] = []
        var number = 1
        while true {
            guard let line = line(&rest) else {
                throw SluiceError(
                    .invalid,
                    "The request ends within its headers, after line \(number): it is cut off. An empty line ends them, also where no body follows."
                )
            }
            if line.isEmpty { break }
            number += 1
            if line.first == " " || line.first == "\t", let last = headers.popLast() {
                headers.append(HTTPField(last.name, last.value + " " + trimmed(line)))
                continue
            }
            guard let colon = line.firstIndex(of: ":"), colon > line.startIndex, headers.count < headersMax else {
                throw SluiceError(
                    .invalid,
                    "Line \(number) of the request must be `Name: value`, or empty before the body; at most \(headersMax) headers.")
            }
            headers.append(HTTPField(trimmed(String(line[..<colon])), trimmed(String(line[line.index(after: colon)...]))))
        }
        return headers
    }

    /// Path, query, and the whole URL where the target is one.
    private static func target(_ text: String) -> (String, String, String?) {
        let isWhole = text.hasPrefix("https://") || text.hasPrefix("http://")
        var rest = text[...]
        if isWhole, let mark = text.firstRange(of: "://") {
            let host = text[mark.upperBound...]
            rest = host[(host.firstIndex(of: "/") ?? host.endIndex)...]
        }
        guard let mark = rest.firstIndex(of: "?") else { return (String(rest), "", isWhole ? text : nil) }
        return (String(rest[..<mark]), String(rest[rest.index(after: mark)...]), isWhole ? text : nil)
    }

    private static func isChunked(_ field: HTTPField) -> Bool {
        guard ASCII.equalIgnoringCase(field.name, "Transfer-Encoding") else { return false }
        let last = field.value.split(separator: ",").last.map { trimmed(String($0)) } ?? ""
        return ASCII.equalIgnoringCase(last, "chunked")
    }

    /// Puts the chunks together. Extensions and trailers are passed over: nothing that is signed stands there.
    private mutating func joinChunks() throws(SluiceError) {
        var rest = request.body[...]
        var body: [UInt8] = []
        var number = 0
        while true {
            number += 1
            guard let line = Self.line(&rest) else {
                throw Self.chunkFault(number, "is missing: the file is cut off")
            }
            let digits = Self.trimmed(String(line.prefix { $0 != ";" }))
            guard (1...8).contains(digits.utf8.count), let size = Int(digits, radix: 16), digits.utf8.first != UInt8(ascii: "-"),
                digits.utf8.first != UInt8(ascii: "+")
            else { throw Self.chunkFault(number, "does not begin with its length in hexadecimal digits") }
            if size == 0 { break }
            guard rest.count >= size else {
                throw Self.chunkFault(number, "should hold \(size) bytes, and \(rest.count) are left: the file is cut off or changed")
            }
            body += rest.prefix(size)
            rest = rest.dropFirst(size)
            guard Self.line(&rest)?.isEmpty ?? true else {
                throw Self.chunkFault(number, "is longer than the \(size) bytes that it says: the file was changed")
            }
        }
        request.body = body
    }

    private static func chunkFault(_ number: Int, _ what: String) -> SluiceError {
        SluiceError(
            .invalid,
            "The headers say Transfer-Encoding: chunked, and chunk \(number) of the body \(what). If the body was saved without its chunks, remove that header."
        )
    }

    private mutating func cutBody() {
        if request.header("Transfer-Encoding") != nil {
            notes.append("The headers say Transfer-Encoding, and not chunked: the body is taken as it stands. Save it decoded.")
        }
        guard let text = request.header("Content-Length"), let length = SignedRequest.digits(text.utf8, max: 12) else { return }
        if request.body.count > length {
            notes.append("Content-Length is \(length): the \(request.body.count - Int(length)) bytes after that were left out.")
            request.body = Array(request.body.prefix(Int(length)))
        } else if request.body.count < length {
            notes.append(
                "Content-Length is \(length), but the file holds only \(request.body.count) bytes of body: it was cut off or changed.")
        }
    }

    private static func trimmed(_ text: String) -> String {
        var bytes = text.utf8[...]
        while bytes.first == 0x20 || bytes.first == 0x09 { bytes.removeFirst() }
        while bytes.last == 0x20 || bytes.last == 0x09 { bytes.removeLast() }
        return String(Substring(bytes))
    }

    /// The next line without its end; nil at the end.
    private static func line(_ rest: inout ArraySlice<UInt8>) -> String? {
        guard !rest.isEmpty else { return nil }
        let end = rest.firstIndex(of: 0x0A) ?? rest.endIndex
        var line = rest[..<end]
        rest = end < rest.endIndex ? rest[(end + 1)...] : []
        if line.last == 0x0D { line.removeLast() }
        return String(decoding: line, as: UTF8.self)
    }
}

/// The secrets that stand in a file: one a line; a block of PEM or a document of JSON counts as one. `name=value` with the name of
/// one of the scheme's parameters sets that.
public struct SecretFile: Sendable, Equatable {
    public var secrets: [String] = []
    public var parameters: [String: String] = [:]

    public init(_ text: String, parameterNames: [String] = []) {
        if text.utf8.first(where: { $0 != 0x20 && $0 != 0x0A && $0 != 0x0D && $0 != 0x09 }) == UInt8(ascii: "{") {
            secrets = [text]
            return
        }
        var block: [String]?
        for line in text.split(omittingEmptySubsequences: false, whereSeparator: { $0 == "\n" || $0 == "\r\n" }).map(String.init) {
            if block != nil || line.hasPrefix("-----BEGIN ") {
                block = (block ?? []) + [line]
                if line.hasPrefix("-----END ") {
                    secrets.append((block ?? []).joined(separator: "\n") + "\n")
                    block = nil
                }
            } else if let equals = line.firstIndex(of: "="), parameterNames.contains(String(line[..<equals])) {
                parameters[String(line[..<equals])] = String(line[line.index(after: equals)...])
            } else if !line.isEmpty {
                secrets.append(line)
            }
        }
        if let block { secrets.append(block.joined(separator: "\n")) }
    }
}
