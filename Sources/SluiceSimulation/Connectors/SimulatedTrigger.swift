import SluiceConnectors
import SluiceCore

/// A trigger type with what is needed to run it against a stand-in: the description of its feed, and values for its fields.
struct SimulatedTrigger: Sendable {
    let connector: any Connector
    let type: TriggerTypeDefinition
    let rules: Incremental
    /// Whether its poll is data; otherwise it is code, and `rules` only describe what it reads.
    let isDescribed: Bool
    let connection: JSONDocument
    let input: JSONDocument
    let places: StandInPlaces
    let dialect: SimulatedFeed.Dialect?

    static let startMilliseconds: Int64 = 1_800_000_000_000
    private static let pageSizeSmall = 4

    /// Nil where the type says nothing of its feed.
    init?(_ connector: any Connector, _ type: TriggerTypeDefinition) throws {
        let stated = connector.simulation(triggerType: type.name)
        let incremental = connector.incremental(triggerType: type.name)
        guard let declared = incremental ?? stated?.rules else { return nil }
        (self.connector, self.type) = (connector, type)
        dialect = stated?.dialect
        isDescribed = incremental != nil
        connection = try SimulatedTrigger.values(
            connector.definition.connectionFields, given: stated?.connection, urlField: declared.urlField)
        input = try SimulatedTrigger.values(
            type.inputFields, given: stated?.input, urlField: nil, partitionField: declared.partitionField,
            variant: declared.standInVariant)
        let request = PollRequest(
            triggerType: type.name, connection: connection, input: input, cursor: nil, pageState: nil, readBound: Timestamp(seconds: 0))
        rules = declared.standInRules(request)
        var places = rules.standInPlaces(request)
        places.epoch = stated?.longPoll?.standInEpoch(request)
        self.places = places
        if let gap = rules.standInGap { throw SluiceError(.connector, gap) }
    }

    /// Whether a lambda may take a short page for the last one, since nothing else says so.
    private var mayEndByLength: Bool {
        if isDescribed { return false }
        let end: Incremental.PageEnd? =
            switch rules.pagination {
            case .keyset(let rule): rule.end
            case .offset(let rule): rule.end
            case .page(let rule): rule.end
            case .none, .token, .link, .nextURL: nil
            }
        return end.map { $0.hasMore == nil && $0.isLast == nil && $0.total == nil && $0.totalPages == nil } ?? false
    }

    /// Whether the description itself takes a short page for the last one.
    private var endsShort: Bool {
        switch rules.pagination {
        case .keyset(let rule): rule.end.endsShort
        case .offset(let rule): rule.end.endsShort
        case .page(let rule): rule.end.endsShort
        case .token(let rule): rule.end.endsShort
        case .none, .link, .nextURL: false
        }
    }

    /// What the provider shows at most on a page; nil: all that is asked for.
    var pageCap: Int? {
        if case .none = rules.pagination { return 10_000 }
        if isDescribed, rules.pageSize != nil { return nil }
        return mayEndByLength || endsShort ? nil : SimulatedTrigger.pageSizeSmall
    }

    /// How many records make a page.
    var pageSize: Int { pageCap == nil && !isDescribed ? rules.pageSize?.value ?? 100 : SimulatedTrigger.pageSizeSmall }

    /// Small pages where Sluice itself asks for them; a lambda asks for what it likes.
    var recordsMax: Int {
        if case .none = rules.pagination { return PollLimits.recordsPerPageMax }
        return isDescribed && rules.pageSize != nil ? SimulatedTrigger.pageSizeSmall : PollLimits.recordsPerPageMax
    }

    /// How late a record may show up and must still be found.
    var toleranceSeconds: Double {
        guard let cursor = rules.cursor else { return 0 }
        let perSecond = cursor.marksPerSecond ?? 1
        let lag = max(cursor.visibilityLag.milliseconds, isDescribed ? 0 : type.visibilityLag.milliseconds)
        return Double(lag) / 1000 + Double(cursor.lookback) / Double(perSecond)
    }

    /// After this much time what `version_seconds` says of a record makes no difference any more: its granule is over, and the lookback
    /// or the lag after that, which counts for a minute at most and for ten seconds at least.
    var statesSettledSeconds: Double {
        let spans = [Span.seconds(70), type.visibilityLag + .seconds(10)]
        return Double(((type.versionSpan ?? .seconds(1)) + (spans.max() ?? .zero)).milliseconds) / 1000
    }

    var retention: Span? { rules.retention ?? type.retention }

    /// Whether what is there before the first poll must be read: a lambda may begin with what comes after it.
    var saysWhereItBegins: Bool { isDescribed || rules.defaultSinceSecondsAgo != nil }

    /// Whether its name promises new records, and not what becomes of them.
    var isAboutNew: Bool { rules.dedup.created != nil || SimulatedTrigger.isAboutNew(type.name) }

    static func isAboutNew(_ name: String) -> Bool {
        let words = Set(name.split(separator: "_").map(String.init))
        return !words.isDisjoint(with: ["new", "created", "added"]) && words.isDisjoint(with: ["updated", "changed", "modified", "or"])
    }

    /// Whether the list of a trigger on new records is one of changes: old records come up in it again.
    var listsChanges: Bool {
        guard isAboutNew, let cursor = rules.cursor, cursor.marksPerSecond != nil, cursor.field != rules.dedup.id else { return false }
        return rules.dedup.created.map { $0 != cursor.field } ?? cursor.saysChange
    }

    /// Why a trap says nothing about this feed; nil where it does.
    func irrelevance(of trap: ConnectorTrap) -> String? {
        let cursor = rules.cursor
        let isTime = cursor?.marksPerSecond != nil
        let hasPages = if case .none = rules.pagination { false } else { true }
        switch trap {
        case .equalTimestamps, .pageEdgeTie, .pageWideTie:
            if cursor?.isUnique == true || cursor?.field == rules.dedup.id { return "no two records share a value" }
            return isTime ? nil : "its cursor is no time"
        case .clockSkew, .futureDated: return isTime ? nil : "its cursor is no time"
        case .keptStart: return isTime ? nil : "its cursor is no time"
        case .idleFeed: return cursor == nil ? "it has no cursor" : nil
        case .lateVisibility:
            guard isTime else { return "its cursor is no time" }
            return toleranceSeconds >= 1 ? nil : "no lookback or visibility lag is declared"
        case .roundedPrecision:
            return cursor?.kind == .rfc3339 || cursor?.kind == .unixSeconds ? nil : "its cursor has no fraction"
        case .noZone: return cursor?.kind == .rfc3339 && cursor?.zone == nil ? nil : "its times need no zone"
        case .zoneChange: return cursor?.kind == .rfc3339 && cursor?.zone == nil ? nil : "its times are written with no offset of their own"
        case .laterPartition: return places.partitionListPath == nil ? "it reads no list of partitions" : nil
        case .lyingValidator: return rules.shape.isConditional ? nil : "it does not ask whether the list has changed"
        case .unordered: return isTime && cursor?.order == CursorRule.Order.none ? nil : "its list is in order"
        case .changedAgain:
            if listsChanges { return nil }
            return rules.dedup.versions.isEmpty && rules.dedup.created == nil || cursor?.field == rules.dedup.id
                ? "its records never change" : nil
        case .changedAtOnce:
            if rules.dedup.versions.isEmpty || cursor?.field == rules.dedup.id { return "its records never change" }
            return isTime ? nil : "its cursor is no time"
        case .shiftingPages, .crash: return hasPages ? nil : "it has one page"
        case .expiringToken:
            switch rules.pagination {
            case .keyset: return "its pages are found by a record"
            case .offset, .page: return "its pages are counted"
            default: return hasPages ? nil : "it has one page"
            }
        case .deletedAnchor:
            if case .keyset = rules.pagination { return nil }
            return "nothing is anchored on a record"
        case .retentionGap: return retention == nil && dialect != .etcd ? "the source keeps everything, as far as is said" : nil
        case .poisonRecord: return dialect == .etcd ? "every key has a revision" : nil
        case .idReset:
            if places.epoch != nil || dialect == .etcd { return nil }
            return type.kind == .longPolling ? "its ids never begin anew, as far as is said" : "it is no long poll"
        }
    }

    /// Values for fields: what the description gives, defaults, and for what must be there something of its type.
    private static func values(
        _ fields: [Field], given: JSONView?, urlField: String?, partitionField: String? = nil,
        variant: (field: String, name: String)? = nil
    ) throws -> JSONDocument {
        var writer = JSONWriter()
        writer.object { writer in
            let members = given?.members ?? []
            for member in members {
                writer.key(member.key)
                writer.raw(member.value.bytes)
            }
            for field in fields where !members.contains(where: { $0.key == field.name }) {
                if let json = field.defaultJSON {
                    writer.key(field.name)
                    writer.raw(json.utf8)
                } else if let variant, field.name == variant.field {
                    writer.member(field.name, variant.name)
                } else if field.name == partitionField {
                    writer.key(field.name)
                    writer.raw((field.type == .array ? "[\"p1\"]" : "\"p1\"").utf8)
                } else if !field.isOptional {
                    writer.key(field.name)
                    writer.raw(sample(field, isURL: field.name == urlField || looksLikeURL(field)).utf8)
                }
            }
        }
        return try JSONDocument(writer.bytes)
    }

    private static func looksLikeURL(_ field: Field) -> Bool {
        field.name.hasSuffix("url") || field.hint?.contains("https://") == true || field.hint?.contains("http://") == true
    }

    private static func sample(_ field: Field, isURL: Bool) -> String {
        switch field.type {
        case .string: isURL ? "\"https://stand-in.invalid\"" : "\"\(field.name.filter { $0 != "_" })\""
        case .integer, .number: "1"
        case .boolean: "false"
        case .dateTime: "\"2020-01-01T00:00:00Z\""
        case .object: "{}"
        case .array: "[]"
        }
    }
}
