import SluiceCore

/// What answers are written in. Whatever it is, the poll goes on with JSON.
public enum PageFormat: Sendable {
    case json
    /// One JSON value a line (NDJSON, JSON Lines): each line is a record, byte for byte.
    case ndjson
    /// XML 1.0 as `XMLMapping` turns it into JSON; records are `derived`. `lists` names elements that are arrays even where
    /// there is one only.
    case xml(lists: [String])

    var isJSON: Bool { if case .json = self { true } else { false } }
    var isXML: Bool { if case .xml = self { true } else { false } }

    /// For the Accept header.
    var mediaTypes: String {
        switch self {
        case .json: "application/json"
        case .ndjson: "application/x-ndjson, application/jsonl, application/json"
        case .xml: "application/xml, text/xml, application/atom+xml, application/rss+xml"
        }
    }

    /// A successful answer with its body as JSON. `records` is where its records stand; nil for an answer that is no page.
    func converted(_ reply: HTTPReply, records: JSONPath?) throws(PollFailure) -> HTTPReply {
        guard (200..<300).contains(reply.status), reply.status != 204 else { return reply }
        var converted = reply
        switch self {
        case .json: return reply
        case .ndjson: if records != nil { converted.body = try Lines.array(reply.body) }
        case .xml(let lists):
            do throws(XMLError) {
                converted.body = try XMLMapping(records: records?.keys ?? [], lists: Set(lists)).json(reply.body)
            } catch {
                let start = String(decoding: reply.body.prefix(60), as: UTF8.self)
                throw PollFailure(
                    error.isRefusal ? .permanent : .transient,
                    SluiceError(
                        .providerAnswer,
                        "the provider's answer is not XML that can be read: it \(error); it begins with \(start.debugDescription)"
                    )
                    .with("status", String(reply.status)))
            }
        }
        return converted
    }
}

/// JSON values in lines.
enum Lines {
    /// The lines as one JSON array, their bytes unchanged. A line that is no JSON becomes a string, which no dedup key can be
    /// made of: it is quarantined and the others go on. A last line without its end that is no JSON means that the answer was
    /// cut off: a transient failure.
    static func array(_ body: [UInt8]) throws(PollFailure) -> [UInt8] {
        var output: [UInt8] = []
        output.reserveCapacity(body.count + 2)
        output.append(UInt8(ascii: "["))
        var start = body.startIndex
        var number = 0
        while start < body.endIndex {
            let end = body[start...].firstIndex(of: 0x0A) ?? body.endIndex
            let line = trimmed(body[start..<end])
            start = end + 1
            number += 1
            if line.isEmpty { continue }
            if output.count > 1 { output.append(UInt8(ascii: ",")) }
            do throws(JSONError) {
                output.append(contentsOf: try JSONDocument(line).root.bytes)
            } catch {
                guard end < body.endIndex else {
                    throw PollFailure(
                        .transient,
                        SluiceError(.providerAnswer, "the provider's answer ends in the middle of line \(number): it \(error)"))
                }
                JSONWriter.append(String(decoding: line, as: UTF8.self), to: &output)
            }
        }
        output.append(UInt8(ascii: "]"))
        return output
    }

    private static func trimmed(_ line: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
        var line = line
        while let last = line.last, last == 0x0D || last == 0x20 || last == 0x09 { line.removeLast() }
        while let first = line.first, first == 0x20 || first == 0x09 { line.removeFirst() }
        return line
    }
}
