import SluiceCore

/// What a stand-in needs to know to answer as the source would that a description describes.
package struct StandInPlaces: Sendable {
    /// Where the lower bound stands in a request, between which other text.
    package struct Bound: Sendable {
        package var place: Incremental.RequestPlace
        package var prefix: String
        package var suffix: String
    }
    package var bounds: [Bound] = []
    /// The key that holds each record inside its element.
    package var unwrap: String?
    /// The end of the URL under which partitions are listed; nil if they are not.
    package var partitionListPath: String?
    /// What an element of that list must have.
    package var partitionPaths: [JSONPath] = []
    /// Whether several lists are read, each by a path or parameters of its own.
    package var isPartitioned = false
    /// Parameters that say which partition is meant, besides the path.
    package var partitionParameters: [String] = []
}

extension Incremental {
    /// Reads a description that need not say where the source is: what a trigger with lambdas declares as `simulate`.
    /// Throws as `init(json:)` does.
    package static func standIn(json: JSONView) throws(SluiceError) -> Incremental {
        guard let members = json.members else { throw SluiceError(.connector, "must be a table with the keys of incremental") }
        var writer = JSONWriter()
        writer.object { writer in
            if !members.contains(where: { $0.key == "base_url" }) { writer.member("base_url", "https://stand-in.invalid") }
            for member in members where !["connection", "input"].contains(member.key) {
                writer.key(member.key)
                writer.raw(member.value.bytes)
            }
        }
        let document: JSONDocument
        do throws(JSONError) {
            document = try JSONDocument(writer.bytes, depthMax: 80)
        } catch {
            throw SluiceError(.connector, "cannot be read: \(error)")
        }
        return try Incremental(json: document)
    }

    /// Where things stand in requests and answers, with the values of a request's connection and input.
    package func standInPlaces(_ request: PollRequest) -> StandInPlaces {
        var places = StandInPlaces()
        places.unwrap = unwrap.flatMap { try? $0.optionalText(request, for: "unwrap") }
        if let name = cursor?.parameter { places.bounds.append(.init(place: .query(name), prefix: "", suffix: "")) }
        for (templates, place) in [
            (query, { Incremental.RequestPlace.query($0) }), (headers, { Incremental.RequestPlace.header($0) }),
        ] {
            for template in templates where template.value.mentions("cursor") {
                guard let (prefix, suffix) = template.value.around("cursor", request) else { continue }
                places.bounds.append(.init(place: place(template.name), prefix: prefix, suffix: suffix))
            }
        }
        guard let partitions else { return places }
        places.isPartitioned = true
        places.partitionParameters = query.filter { $0.value.mentionsPartition }.map(\.name)
        if case .list(let list) = partitions.source {
            places.partitionListPath = try? list.path.text(request, for: "the path") { WebURL.encode($0) }
            let named = ([baseURL, path] + (query + headers).map(\.value)).flatMap { $0.paths(of: .partition) }
            places.partitionPaths = [partitions.id] + named.filter { !$0.keys.isEmpty && $0 != partitions.id }
        }
        return places
    }

    /// The field of the connection that the URL begins with, which then must be a URL itself.
    package var urlField: String? {
        guard case .field(let root, let path, _) = baseURL.parts.first, root == .connection else { return nil }
        return path.keys.first
    }

    /// The field of the input that names the partitions.
    package var partitionField: String? {
        if case .input(let name) = partitions?.source { name } else { nil }
    }

    /// Why no stand-in can be made of this description; nil if one can.
    package var standInGap: String? {
        if cursor != nil, path.mentions("cursor") || baseURL.mentions("cursor") {
            return "its cursor stands in the path, where the stand-in does not look"
        }
        return nil
    }
}

extension Template {
    /// The text before and after the one place of a word; nil if there are several, or a value is missing.
    fileprivate func around(_ word: String, _ request: PollRequest) -> (prefix: String, suffix: String)? {
        let mark = "\u{1}"
        var request = request
        request.scope[word] = TemplateScope.Word(text: mark)
        guard let text = try? text(request, for: "a stand-in") else { return nil }
        let parts = text.split(separator: mark, omittingEmptySubsequences: false)
        return parts.count == 2 ? (String(parts[0]), String(parts[1])) : nil
    }
}

extension CursorRule {
    /// A mark as the field writes it.
    package func written(_ mark: Int64) -> String { literal(of: mark) }
    /// Units of the mark in a second; nil if the cursor is no time.
    package var marksPerSecond: Int64? { unitsPerSecond }
    /// Whether records have whole numbers to compare by.
    package var countsMarks: Bool { kind.hasMarks }

    /// How finely the source compares, in units of the mark: as is declared, and where it excludes its bound, as that is written.
    package var comparedUnits: Int64 {
        let declared = max(granularity ?? (isExclusive && kind == .rfc3339 ? 1000 : 1), 1)
        guard isExclusive, let unitsPerSecond else { return declared }
        let written = max(pattern?.granuleMilliseconds ?? 0, format?.granuleMilliseconds ?? 0)
        return max(declared, written * unitsPerSecond / 1000)
    }

    /// How far the source's days and hours begin from those of UTC, in units of the mark.
    package var phaseUnits: Int64 { comparedUnits > 1 ? (zone?.offsetSeconds ?? 0) * (unitsPerSecond ?? 0) : 0 }

    /// The mark of a bound as the API is given it; nil if it is none.
    package func mark(ofBound text: String) -> Int64? {
        guard let format else { return value(ofText: text)?.mark }
        let reading: Times.Reading
        switch format {
        case .unixSeconds: reading = Int64(text).map { .milliseconds($0 * 1000) } ?? .unreadable
        case .unixMilliseconds: reading = Int64(text).map { .milliseconds($0) } ?? .unreadable
        case .rfc3339: reading = Times.rfc3339(text)
        case .pattern(let pattern):
            var copy = text
            reading = copy.withUTF8 { pattern.read($0) }
        }
        switch reading {
        case .milliseconds(let milliseconds): return mark(of: Timestamp(milliseconds: milliseconds))
        case .zoneless(let local): return mark(of: Timestamp(milliseconds: local - (zone?.offsetSeconds ?? 0) * 1000))
        case .unreadable: return nil
        }
    }
}
