import SluiceCore

/// What a stand-in needs to know to answer as the source would that a description describes.
package struct StandInPlaces: Sendable {
    /// Where the lower bound stands in a request, between which other text.
    package struct Bound: Sendable {
        package var place: Incremental.RequestPlace
        package var prefix: String
        package var suffix: String
    }
    package enum Format: Sendable { case json, ndjson, xml }
    /// Where a position stands that is a URL.
    package static let positionParameter = "stand_in_since"

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
    /// Requests before the first page, by the ends of their URLs, with answers that they find something in.
    package var lookups: [(path: String, json: [UInt8])] = []
    package var format = Format.json
    /// An array inside each element that holds the records.
    package var flatten: JSONPath?
    /// Fields that records must have so that the description's filter lets them pass; JSON.
    package var wantedFields: [(path: JSONPath, json: [UInt8])] = []
    /// Whether each record is fetched in full, and where it stands in that answer.
    package var isEnriched = false
    package var enrichedAt = JSONPath([])
    /// What the address of the full record is made of: fields of the thin one, and whether the field is the whole URL.
    package var enrichedFields: [JSONPath] = []
    package var enrichedByURL = false
    /// Where the source says whether its ids still count on; nil if it does not.
    package var epoch: (path: String, field: JSONPath)?
}

extension Incremental {
    /// Reads a description that need not say where the source is: what a trigger with lambdas declares as `simulate`.
    /// Throws as `init(json:)` does.
    package static func standIn(json: JSONView) throws(SluiceError) -> Incremental {
        guard let members = json.members else { throw SluiceError(.connector, "must be a table with the keys of incremental") }
        var writer = JSONWriter()
        writer.object { writer in
            if !members.contains(where: { $0.key == "base_url" }) { writer.member("base_url", "https://stand-in.invalid") }
            for member in members where !["connection", "input", "dialect"].contains(member.key) {
                writer.key(member.key)
                writer.raw(member.value.bytes)
            }
        }
        let document: JSONDocument
        do throws(JSONError) {
            document = try JSONDocument(writer.bytes, depthMax: 80)
        } catch {
            throw SluiceError(.connector, "cannot be read: it \(error)")
        }
        return try Incremental(json: document)
    }

    /// The rules that hold for an input: of variants, the one that it names.
    package func standInRules(_ request: PollRequest) -> Incremental { (try? shape.variants?.rules(for: request)) ?? self }

    /// The field of the input that names a variant, and a name that there is.
    package var standInVariant: (field: String, name: String)? {
        guard let variants = shape.variants, let name = variants.rules.keys.sorted().first,
            let field = variants.by.names(of: .input).first
        else { return nil }
        return (field, name)
    }

    /// Where things stand in requests and answers, with the values of a request's connection and input.
    package func standInPlaces(_ request: PollRequest) -> StandInPlaces {
        var request = request
        var found = JSONWriter()
        found.object { writer in for lookup in shape.lookups { writer.member(lookup.name, "found") } }
        request.scope.lookup = try? JSONDocument(found.bytes)
        var places = StandInPlaces()
        places.unwrap = unwrap.flatMap { try? $0.optionalText(request, for: "unwrap") }
        places.bounds = bounds(request)
        places.lookups = shape.lookups.compactMap { $0.standIn(request) }
        places.format =
            switch shape.format {
            case .json: .json
            case .ndjson: .ndjson
            case .xml: .xml
            }
        places.flatten = shape.flatten?.path
        places.wantedFields = shape.filter.compactMap { $0.standIn(request) }
        if let enrichment = shape.enrichment {
            places.isEnriched = true
            places.enrichedAt = enrichment.at
            let template: Template
            switch enrichment.address {
            case .path(let path): template = path
            case .url(let url):
                template = url
                places.enrichedByURL = true
            }
            places.enrichedFields = Array(template.paths(of: .record))
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

    private func bounds(_ request: PollRequest) -> [StandInPlaces.Bound] {
        var bounds: [StandInPlaces.Bound] = []
        func add(_ template: Template, _ place: RequestPlace) {
            guard template.mentions("cursor"), let (prefix, suffix) = template.around("cursor", request) else { return }
            bounds.append(.init(place: place, prefix: prefix, suffix: suffix))
        }
        if cursor?.isURL == true { bounds.append(.init(place: .query(StandInPlaces.positionParameter), prefix: "", suffix: "")) }
        if let name = cursor?.parameter { bounds.append(.init(place: .query(name), prefix: "", suffix: "")) }
        for template in query { add(template.value, .query(template.name)) }
        for template in headers { add(template.value, .header(template.name)) }
        for (path, template) in shape.body?.standInTemplates ?? [] { add(template, .body(JSONPath(path))) }
        return bounds
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

extension LongPollRule {
    /// Where a stand-in is asked whether its ids still count on, and where in its answer a token says so.
    package func standInEpoch(_ request: PollRequest) -> (path: String, field: JSONPath)? {
        guard let epoch, case .token = epoch.answer,
            let path = try? epoch.path?.text(request, for: "the path", encode: { WebURL.encode($0) })
        else { return nil }
        return (path, epoch.field)
    }
}

extension Lookup {
    fileprivate func standIn(_ request: PollRequest) -> (path: String, json: [UInt8])? {
        guard let path = try? path.text(request, for: "the path", encode: { WebURL.encode($0) }) else { return nil }
        var view = JSONView(checked: Array("{}".utf8)[...])
        func set(_ path: JSONPath, _ json: [UInt8]) { view = JSONView(checked: view.setting(path.keys[...], to: json)[...]) }
        set(at, Array("\"found\"".utf8))
        if let (field, json) = condition?.standIn(request) { set(field, json) }
        guard let records else { return (path, Array(view.bytes)) }
        let list = [UInt8(ascii: "[")] + Array(view.bytes) + [UInt8(ascii: "]")]
        return (path, JSONView(checked: Array("{}".utf8)[...]).setting(records.keys[...], to: list))
    }
}

extension FilterCondition {
    /// A value with which this holds; nil where none is needed.
    fileprivate func standIn(_ request: PollRequest) -> (path: JSONPath, json: [UInt8])? {
        guard let resolved = try? resolved(request) else { return nil }
        switch resolved.test {
        case .oneOf(let texts): return texts.first.map { (field, Array(JSONView(text: $0).bytes)) }
        case .noneOf: return (field, Array("\"another\"".utf8))
        case .exists(let flag): return flag ? (field, Array("\"there\"".utf8)) : nil
        case .order(let text, let wanted):
            if wanted.contains(0) { return (field, Array(JSONView(text: text).bytes)) }
            guard let number = Int64(text) else { return nil }
            return (field, Array(String(wanted.contains(1) ? number + 1 : number - 1).utf8))
        }
    }
}

extension RequestBody {
    /// Its templates with the paths at which they stand.
    fileprivate var standInTemplates: [([String], Template)] {
        switch content {
        case .json(let value): RequestBody.templates(value, [])
        case .form(let fields): fields.map { ([$0.name], $0.value) }
        case .graphQL(_, let variables): variables.map { RequestBody.templates($0, ["variables"]) } ?? []
        // The whole of it.
        case .xml(let template): [([], template)]
        }
    }

    private static func templates(_ value: BodyValue, _ path: [String]) -> [([String], Template)] {
        switch value {
        case .literal: []
        case .text(let template, _): [(path, template)]
        case .object(let members): members.flatMap { templates($0.value, path + [$0.key]) }
        case .array(let elements): elements.enumerated().flatMap { templates($0.element, path + [String($0.offset)]) }
        }
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
