import SluiceConnectors
import SluiceCore

/// How the stand-in answers requests: by the parameters that the description names.
extension StandInFeed {
    /// The parameter that pages by Link headers and by URLs use.
    private static let ownParameter = "stand_in_page"
    /// Marks each record with its version, by which its job is recognised.
    static let versionKey = "sluice_version"

    mutating func answer(_ request: HTTPRequestPlan) -> HTTPReply {
        answers += 1
        if dialect == .etcd { return etcdAnswer(request) }
        let parameters = StandInRequest(request)
        if let other = partitionAnswer(request) ?? lookupAnswer(request) ?? fullAnswer(request) { return other }
        let partition = namedPartition(request, parameters)
        if partition == nil, isOtherPartition(request, parameters) { return body([], hasMore: false, next: 0, total: 0, parameters) }
        let bound = places.bounds.compactMap { text(of: $0, parameters) }.first.map { place(ofText: $0) }
        if case .some(.none) = bound { return reply(400, "{\"error\":\"the bound cannot be read\"}") }
        if hasPosition(parameters) {
            now += mischief.millisecondsPerPage
            if mayShift() { shift(above: bound ?? nil) }
        } else {
            listingBeganAt = now
        }
        let upper = rules.cursor?.upperParameter.flatMap { parameters[.query($0)] }.flatMap { place(ofText: $0) }
        let listed = list(above: bound ?? nil, upTo: upper, in: partition ?? 0)
        guard let start = start(parameters, in: listed) else {
            let statuses = [400, 404, 410] + rules.expiredStatuses
            return reply(statuses[random.int(0...statuses.count - 1)], "{\"error\":\"unknown page\"}")
        }
        let size = pageSize(parameters)
        note(pageSize: size)
        let page = Array(listed[min(start, listed.count)..<min(start + size, listed.count)])
        let hasMore = start + size < listed.count
        note(
            Exchange(
                cycle: cycle, bound: bound ?? nil, hasPosition: hasPosition(parameters), count: page.count, hasMore: hasMore,
                newest: items.filter { isListed($0) }.map(\.place).max(), at: now))
        let validators = validators(page, hasMore: hasMore)
        if isUnchanged(request, validators) { return HTTPReply(status: 304, headers: [dateHeader] + validators, body: []) }
        var reply = body(page, hasMore: hasMore, next: start + size, total: listed.count, parameters)
        reply.headers += validators
        if mischief.anchorsDeleted > 0, hasMore, let last = page.last {
            mischief.anchorsDeleted -= 1
            delete(last.id)
        }
        return reply
    }

    // MARK: Requests for something else

    private func lookupAnswer(_ request: HTTPRequestPlan) -> HTTPReply? {
        let path = request.url.prefix { $0 != "?" }
        if let epoch = places.epoch, path.hasSuffix(epoch.path) {
            var answer = JSONTree()
            answer.set(epoch.field.keys, "\"life-\(life)\"")
            return reply(200, answer.text)
        }
        return places.lookups.first { path.hasSuffix($0.path) }.map { reply(200, String(decoding: $0.json, as: UTF8.self)) }
    }

    /// A record in full, as the one that its list showed.
    private func fullAnswer(_ request: HTTPRequestPlan) -> HTTPReply? {
        guard places.isEnriched else { return nil }
        let words = Set(request.url.split { "/?&=#".contains($0) }.map(String.init))
        guard let item = items.last(where: { isListed($0) && words.contains(identity($0)) }) else { return nil }
        var answer = JSONTree()
        answer.set(places.enrichedAt.keys, inner(item, origin: ""))
        return reply(200, answer.text)
    }

    // MARK: Conditions

    /// What says whether the list has changed, of a first page.
    private mutating func validators(_ page: [Item], hasMore: Bool) -> [HTTPField] {
        switch mischief.validator {
        case nil: return []
        case .firstPage, .lies:
            return [HTTPField("ETag", "\"\(page.map { String($0.version) }.joined(separator: "-"))\"")]
        case .wholeSeconds:
            return [HTTPField("Last-Modified", ProviderModel.httpDate(Timestamp(milliseconds: modifiedAt)))]
        case .restless: return [HTTPField("ETag", "W/\"\(answers)\"")]
        }
    }

    private func isUnchanged(_ request: HTTPRequestPlan, _ validators: [HTTPField]) -> Bool {
        let (tag, since) = (request.headers.first("If-None-Match"), request.headers.first("If-Modified-Since"))
        guard mischief.validator != nil, tag ?? since != nil else { return false }
        if mischief.validator == .lies { return true }
        return tag.map { $0 == validators.first("ETag") } ?? (since == validators.first("Last-Modified"))
    }

    private var dateHeader: HTTPField { HTTPField("Date", ProviderModel.httpDate(Timestamp(milliseconds: now))) }

    // MARK: Partitions

    /// The number of the partition that a request names; nil where it names none of those that are listed.
    private func namedPartition(_ request: HTTPRequestPlan, _ parameters: StandInRequest) -> Int? {
        guard places.isPartitioned, places.partitionListPath != nil else { return nil }
        let words = Set(request.url.prefix { $0 != "?" }.split(separator: "/").map(String.init))
        let values = places.partitionParameters.compactMap { parameters[.query($0)] }
        return partitionIDs.firstIndex { words.contains($0) || values.contains($0) }
    }

    /// The partitions there are, if this asks for the list of them.
    private func partitionAnswer(_ request: HTTPRequestPlan) -> HTTPReply? {
        guard let path = places.partitionListPath, case .list(let list) = rules.partitions?.source,
            request.url.prefix(while: { $0 != "?" }).hasSuffix(path)
        else { return nil }
        let elements = partitionIDs.map { id in
            var element = JSONTree()
            for path in places.partitionPaths { element.set(path.keys, "\"\(id)\"") }
            return element.text
        }
        let isFirst = StandInFeed.isFirstPage(list.pagination, StandInRequest(request))
        var answer = JSONTree()
        answer.set(list.records.keys, isFirst ? "[\(elements.joined(separator: ","))]" : "[]")
        set(end(of: list.pagination), hasMore: false, total: elements.count, pages: 1, in: &answer)
        return reply(200, answer.text)
    }

    /// Whether a request asks for the beginning of a list: by the parameter of its pages alone.
    private static func isFirstPage(_ pagination: Incremental.Pagination, _ parameters: StandInRequest) -> Bool {
        guard let place = positionPlace(pagination), let text = parameters[place], !text.isEmpty else { return true }
        switch pagination {
        case .page(let rule): return text == String(rule.first)
        case .offset: return text == "0"
        default: return false
        }
    }

    private mutating func isOtherPartition(_ request: HTTPRequestPlan, _ parameters: StandInRequest) -> Bool {
        guard places.isPartitioned else { return false }
        let path = String(request.url.prefix { $0 != "?" })
        let key = ([path] + places.partitionParameters.map { parameters[.query($0)] ?? "" }).joined(separator: "\n")
        partition = partition ?? key
        return partition != key
    }

    // MARK: What is asked for

    private func text(of bound: StandInPlaces.Bound, _ parameters: StandInRequest) -> String? {
        guard let text = parameters[bound.place], text.hasPrefix(bound.prefix), text.hasSuffix(bound.suffix),
            text.utf8.count >= bound.prefix.utf8.count + bound.suffix.utf8.count
        else { return nil }
        return String(text.dropFirst(bound.prefix.count).dropLast(bound.suffix.count))
    }

    /// A bound in places; nil if it is none.
    private func place(ofText text: String) -> Int64? {
        guard let cursor = rules.cursor else { return nil }
        if !isTimed { return Int64(text.drop { !$0.isNumber && $0 != "-" }) ?? StandInTime.decimal(text).map { $0 / 1_000_000 } }
        if cursor.format != nil || cursor.pattern != nil { return cursor.mark(ofBound: text).map { $0 * placesPerMark } }
        guard let number = StandInTime.decimal(text) else {
            return StandInTime.rfc3339(text).map { $0 * (placesPerSecond / 1_000_000) }
        }
        switch cursor.kind {
        case .unixMilliseconds, .unixMicroseconds, .unixNanoseconds:
            return Int64(text).map { $0 * placesPerMark } ?? number / 1_000_000 * placesPerMark
        // Some sources take seconds or milliseconds where they show text.
        case .rfc3339 where abs(number) > 100_000_000_000_000_000: return number / 1000
        default: return number * (placesPerSecond / 1_000_000)
        }
    }

    private func pageSize(_ parameters: StandInRequest) -> Int {
        let asked = rules.pageSize.flatMap { parameters[$0.parameter] }.flatMap { Int($0) }.map { max(1, $0) }
        guard let pageCap else { return asked ?? rules.pageSize?.value ?? 100 }
        return min(asked ?? pageCap, pageCap)
    }

    private var positionPlace: Incremental.RequestPlace? { StandInFeed.positionPlace(rules.pagination) }

    private static func positionPlace(_ pagination: Incremental.Pagination) -> Incremental.RequestPlace? {
        switch pagination {
        case .none: nil
        case .token(let rule): rule.parameter
        case .keyset(let rule): rule.parameter
        case .offset(let rule): rule.parameter
        case .page(let rule): rule.parameter
        case .link, .nextURL: .query(StandInFeed.ownParameter)
        }
    }

    private func hasPosition(_ parameters: StandInRequest) -> Bool {
        guard let place = positionPlace, let text = parameters[place], !text.isEmpty else { return false }
        if let first = firstPage { return text != String(first) }
        return text != "0"
    }

    /// The number of the first page, where pages are numbered.
    private var firstPage: Int64? {
        switch rules.pagination {
        case .page(let rule): return rule.first
        case .token(let rule):
            guard !rule.restartsFromMark, case .query(let name) = rule.parameter else { return nil }
            return ["page", "pagenumber", "p"].contains(StandInFeed.plain(name)) ? 1 : nil
        default: return nil
        }
    }

    /// Whether a place is a count of records, so that it shifts when records leave those before it.
    private var isOffset: Bool {
        switch rules.pagination {
        case .offset: return true
        case .token(let rule):
            if rule.restartsFromMark { return true }
            guard case .query(let name) = rule.parameter else { return false }
            return ["offset", "skip", "start", "startat", "startindex", "from"].contains(StandInFeed.plain(name))
        default: return false
        }
    }

    private static func plain(_ name: String) -> String { name.lowercased().filter { $0.isLetter } }

    /// Where the page begins; nil if its token is not known any more.
    private mutating func start(_ parameters: StandInRequest, in listed: [Item]) -> Int? {
        guard let place = positionPlace, let text = parameters[place], !text.isEmpty else { return 0 }
        if case .keyset = rules.pagination {
            let index = listed.firstIndex { identity($0) == text }
            if let index { return index + 1 }
            // The record is gone: some sources begin anew without a word, others refuse, others still know where it stood.
            switch random.int(0...2) {
            case 0: return 0
            case 1: return nil
            default:
                guard let item = items.last(where: { identity($0) == text }) else { return nil }
                return listed.firstIndex { isBefore(StandInFeed.key(item), StandInFeed.key($0)) } ?? listed.count
            }
        }
        if !hasPosition(parameters) { return 0 }
        // Counts need no token that could expire.
        if case .offset = rules.pagination { return Int(text) }
        if case .page(let rule) = rules.pagination { return Int(text).map { max(0, $0 - Int(rule.first)) * pageSize(parameters) } }
        if let limit = mischief.tokensExpireAtAnswer, answers >= limit, tokens[text] ?? 0 < limit { return nil }
        guard tokens[text] != nil else { return nil }
        if let firstPage { return Int(text).map { ($0 - Int(firstPage)) * pageSize(parameters) } }
        if isOffset { return Int(text) }
        let numbers = text.split(separator: "_").compactMap { Int64($0) }
        guard numbers.count == 3 else { return nil }
        let key = Key(place: numbers[0], version: Int(numbers[1]), id: Int(numbers[2]))
        return listed.firstIndex { isBefore(key, StandInFeed.key($0)) } ?? listed.count
    }

    /// Whether what is shown may leave its page: some lists only ever grow, and their pages rely on that.
    private var recordsMove: Bool {
        switch rules.pagination {
        case .page(let rule): !rule.isStable
        case .offset(let rule): rule.overlap > 0 || rule.restartsFromMark == true
        default: true
        }
    }

    private mutating func shift(above bound: Int64?) {
        let listed = list(above: bound)
        let isOrdered = rules.cursor.map { $0.order != .none } ?? false
        let moved = isOrdered ? listed.first : listed.isEmpty ? nil : listed[random.int(0...listed.count - 1)]
        if isMutable, recordsMove, let moved, random.chance(0.8) { touch(moved.id) } else { add() }
    }

    // MARK: What is shown

    private mutating func body(_ page: [Item], hasMore: Bool, next: Int, total: Int, _ request: StandInRequest) -> HTTPReply {
        var answer = JSONTree()
        var headers: [HTTPField] = []
        let origin = request.url.split(separator: "/", maxSplits: 3).prefix(2).joined(separator: "//")
        let records = page.map { record($0, origin: origin) }
        if places.format == .ndjson { return reply(200, records.joined(separator: "\n"), headers) }
        answer.set(rules.records.keys, "[" + records.joined(separator: ",") + "]")
        let size = max(1, pageSize(request))
        set(end(of: rules.pagination), hasMore: hasMore, total: total, pages: (total + size - 1) / size, in: &answer)
        if let place = rules.cursor?.answer { put(position(request), at: place, &answer, &headers) }
        if hasMore, let last = page.last {
            switch rules.pagination {
            case .token(let rule): put(token(next, last, size), at: rule.from, &answer, &headers)
            case .link: headers.append(HTTPField("Link", "<\(link(next, last, size, request.url))>; rel=\"next\""))
            case .nextURL(let place): put(link(next, last, size, request.url), at: place, &answer, &headers)
            default: break
            }
        } else if case .token(let rule) = rules.pagination, case .body(let path) = rule.from, random.chance(0.5) {
            answer.set(path.keys, "null")
        }
        return places.format == .xml ? reply(200, StandInXML.text(answer.text), headers) : reply(200, answer.text, headers)
    }

    private func put(_ text: String, at place: Incremental.AnswerPlace, _ answer: inout JSONTree, _ headers: inout [HTTPField]) {
        switch place {
        case .body(let path): answer.set(path.keys, quoted(text))
        case .header(let name): headers.append(HTTPField(name, text))
        }
    }

    /// Where to go on from, as the answer hands it out: all that changes after the first page was asked for lies behind it.
    private func position(_ request: StandInRequest) -> String {
        let text = "s\(listingBeganAt - 1)"
        guard rules.cursor?.isURL == true else { return text }
        let base = StandInFeed.without(StandInFeed.ownParameter, StandInFeed.without(StandInPlaces.positionParameter, request.url))
        return StandInFeed.adding("\(StandInPlaces.positionParameter)=\(text)", to: base)
    }

    private static func adding(_ parameter: String, to url: String) -> String {
        url + (url.utf8.contains(UInt8(ascii: "?")) ? "&" : "?") + parameter
    }

    private func end(of pagination: Incremental.Pagination) -> Incremental.PageEnd? {
        switch pagination {
        case .token(let rule): rule.end
        case .keyset(let rule): rule.end
        case .offset(let rule): rule.end
        case .page(let rule): rule.end
        case .none, .link, .nextURL: nil
        }
    }

    private func set(_ end: Incremental.PageEnd?, hasMore: Bool, total: Int, pages: Int, in answer: inout JSONTree) {
        if let path = end?.hasMore { answer.set(path.keys, hasMore ? "true" : "false") }
        if let path = end?.isLast { answer.set(path.keys, hasMore ? "false" : "true") }
        if let path = end?.total { answer.set(path.keys, String(total)) }
        if let path = end?.totalPages { answer.set(path.keys, String(pages)) }
    }

    private mutating func token(_ next: Int, _ last: Item, _ size: Int) -> String {
        let text =
            if let firstPage { String(next / size + Int(firstPage)) } else if isOffset { String(next) } else {
                "\(last.place)_\(last.version)_\(last.id)"
            }
        tokens[text] = answers
        return text
    }

    private mutating func link(_ next: Int, _ last: Item, _ size: Int, _ url: String) -> String {
        let base = StandInFeed.without(StandInFeed.ownParameter, url)
        return StandInFeed.adding("\(StandInFeed.ownParameter)=\(token(next, last, size))", to: base)
    }

    private static func without(_ parameter: String, _ url: String) -> String {
        let halves = url.split(separator: "?", maxSplits: 1)
        guard halves.count == 2 else { return url }
        let kept = halves[1].split(separator: "&").filter { !$0.hasPrefix(parameter + "=") }
        return halves[0] + (kept.isEmpty ? "" : "?" + kept.joined(separator: "&"))
    }

    /// A record's id as the source writes it.
    func identity(_ item: Item) -> String {
        if rules.cursor?.field == rules.dedup.id { return literal(item) }
        return "r\(item.id)"
    }

    private func quoted(_ text: String) -> String {
        var bytes: [UInt8] = []
        JSONWriter.append(text, to: &bytes)
        return String(decoding: bytes, as: UTF8.self)
    }

    private func record(_ item: Item, origin: String) -> String {
        let inner = inner(item, origin: origin)
        let element: String
        if let flatten = places.flatten, inner.hasPrefix("{") {
            // What orders the list stands outside, what tells the records apart inside: here both do.
            var tree = JSONTree()
            tree.set(flatten.keys, "[\(inner)]")
            element = "\(inner.dropLast()),\(tree.text.dropFirst())"
        } else {
            element = inner
        }
        guard let unwrap = places.unwrap else { return element }
        return "{\(quoted(unwrap)):\(element)}"
    }

    private func inner(_ item: Item, origin: String) -> String {
        var record = JSONTree()
        for wanted in places.wantedFields { record.set(wanted.path.keys, String(decoding: wanted.json, as: UTF8.self)) }
        for path in places.enrichedFields where path != rules.dedup.id {
            record.set(path.keys, quoted(places.enrichedByURL ? "\(origin)/full/\(identity(item))" : identity(item)))
        }
        for path in rules.dedup.versions { record.set(path.keys, "\"v\(item.version)\"") }
        if let path = rules.dedup.created, let first = items.first(where: { $0.id == item.id }) {
            let text = literal(first)
            record.set(path.keys, StandInTime.decimal(text) == nil ? quoted(text) : text)
        }
        if let cursor = rules.cursor, cursor.kind != .opaque {
            let text = literal(item)
            let isNumber = cursor.kind != .text && StandInTime.decimal(text) != nil
            switch item.fault {
            case .noTime: record.set(cursor.field.keys, "null")
            case .garbledTime: record.set(cursor.field.keys, "\"soon\"")
            default: record.set(cursor.field.keys, isNumber ? text : quoted(text))
            }
        }
        if rules.cursor?.field != rules.dedup.id {
            if item.fault != .noID { record.set(rules.dedup.id.keys, quoted(identity(item))) }
        } else if item.fault == .noID {
            record.set(rules.dedup.id.keys, "null")
        }
        if case .keyset(let rule) = rules.pagination, rule.from != rules.dedup.id, rule.from != rules.cursor?.field {
            record.set(rule.from.keys, quoted(identity(item)))
        }
        record.set([StandInFeed.versionKey], String(item.version))
        return record.text
    }

    /// The versions whose dedup keys these are: for records of which nothing else is left.
    func versions(ofKeys wanted: Set<[UInt8]>) -> [[UInt8]: Int] {
        var found: [[UInt8]: Int] = [:]
        for item in items {
            let record = Record(bytes: Array(inner(item, origin: "").utf8)[...])
            if case .success(let key)? = rules.dedupKeys(records: [record]).first, wanted.contains(key) { found[key] = item.version }
        }
        return found
    }

    /// The cursor's field as the source writes it.
    private func literal(_ item: Item) -> String {
        guard let cursor = rules.cursor else { return "" }
        let mark = item.place / placesPerMark
        if cursor.kind == .text { return "k" + String(String(1_000_000_000_000 + mark).dropFirst()) }
        var text = cursor.written(mark)
        let rest = item.place % placesPerMark
        if mischief.isFine, rest > 0 {
            let digits = String(String(placesPerMark + rest).dropFirst())
            if cursor.marksPerSecond == 1 {
                text += "." + digits
            } else if cursor.kind == .rfc3339, text.hasSuffix("Z") {
                text = String(text.dropLast())
                text += (text.utf8.contains(UInt8(ascii: ".")) ? "" : ".000") + digits + "Z"
            }
        }
        if let change = mischief.zoneChangesAt, cursor.kind == .rfc3339, text.hasSuffix("Z") {
            let hours: Int64 = item.place < change ? 2 : 1
            let local = cursor.written(mark + hours * 3600 * (cursor.marksPerSecond ?? 1))
            text = String(local.dropLast()) + "+0\(hours):00"
        }
        if mischief.isZoneless, text.hasSuffix("Z") { text = String(text.dropLast()) }
        return text
    }

    func reply(_ status: Int, _ body: String, _ headers: [HTTPField] = []) -> HTTPReply {
        return HTTPReply(
            status: status, headers: [dateHeader, HTTPField("Content-Type", "application/json")] + headers, body: Array(body.utf8))
    }
}
