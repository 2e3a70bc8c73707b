import SluiceCore
import SluiceDelivery
import SluiceStore

/// Filters and projections, tried on jobs that are there already. Nothing is stored or delivered.
extension API {
    private static let triedDefault: Int64 = 20
    private static let triedMax: Int64 = 1000
    private static let tryingMax = Duration.milliseconds(5)

    /// Takes `{"filter": source, "fields": [paths], "destination": NAME, "last": N, "from": position}`: what is not given comes from
    /// the attachment of the destination. Without `from`, the last N jobs; with it, N jobs from that position on.
    func tryFilter(_ call: APICall) async throws -> APIResponse {
        let trigger = try await trigger(call.parameter("name"))
        let body = try call.object()
        let settings = try await settings(body, trigger)
        let sieve = try AttachmentSieve(settings, trigger: (name: trigger.name, uid: trigger.uid))
        var query = JobQuery(trigger: trigger.id, limit: Int(try API.whole(body["last"], "last", 1...API.triedMax) ?? API.triedDefault))
        query.fromPosition = try API.whole(body["from"], "from", 1...Int64.max).map(JobPosition.init)
        query.newestFirst = query.fromPosition == nil
        let page = try await parts.store.jobs(query)
        let jobs = query.newestFirst ? page.jobs.reversed() : page.jobs
        var results: [Result<Sifted, SluiceError>] = []
        // Mistyped ones, perhaps: a projection leaves out in silence what is not there.
        var absent = page.jobs.isEmpty ? [] : settings.fields
        var begun = ContinuousClock.now
        for job in jobs {
            if !absent.isEmpty, let record = try? JSONDocument(job.record) { absent.removeAll { $0.find(in: record.root) != nil } }
            do throws(SluiceError) { results.append(.success(try sieve.sift(job))) } catch { results.append(.failure(error)) }
            if begun.duration(to: .now) > API.tryingMax {
                await Task.yield()
                begun = .now
            }
        }
        return answer(trigger, settings, Array(zip(jobs, results)), absent: absent, more: page.more)
    }

    private func settings(_ body: JSONView, _ trigger: StoredTrigger) async throws -> AttachmentSettings {
        var settings = AttachmentSettings()
        if let name = body["destination"]?.string {
            let definitions = try await definitions()
            let destination = try API.destination(name, definitions)
            let attachment = definitions.attachments.first { $0.trigger == trigger.id && $0.destination == destination }
            guard let attachment else {
                throw SluiceError(.notFound, "trigger \(trigger.name) does not deliver to \(name): try with `filter` or `fields` instead")
            }
            settings = AttachmentSettings(json: attachment.settings)
        }
        if let filter = body["filter"], !filter.isNull {
            guard let source = filter.string else { throw SluiceError(.invalid, "`filter` is a text, such as \"record.amount > 100\"") }
            settings.filter = source
        }
        if let fields = body["fields"], !fields.isNull { settings.fields = try API.fields(fields) }
        if settings.isEmpty, body["destination"]?.string == nil {
            throw SluiceError(.invalid, "say what to try: `filter`, `fields`, or the `destination` whose filter and fields are meant")
        }
        return settings
    }

    private static func fields(_ view: JSONView) throws(SluiceError) -> [JSONPath] {
        var paths: [JSONPath] = []
        for element in view.elements ?? [] {
            let path = element.string.map { JSONPath(text: $0) } ?? element.elements.map { JSONPath($0.compactMap(\.string)) }
            guard let path else { throw SluiceError(.invalid, AttachmentSettings.pathHint) }
            paths.append(path)
        }
        if view.elements == nil { throw SluiceError(.invalid, "`fields` is a list of paths, such as [\"id\", \"customer.email\"]") }
        return paths
    }

    private func answer(
        _ trigger: StoredTrigger, _ settings: AttachmentSettings, _ tried: [(StoredJob, Result<Sifted, SluiceError>)], absent: [JSONPath],
        more: Bool
    ) -> APIResponse {
        var (passed, skipped, failed): (Int64, Int64, Int64) = (0, 0, 0)
        return APIResponse.object { writer in
            writer.member("trigger", trigger.name)
            writer.member("filter", settings.filter)
            writer.key("fields")
            writer.array { writer in for path in settings.fields { writer.value(path.description) } }
            writer.list("jobs", tried) { writer, entry in
                writer.member("position", entry.0.position.rawValue)
                writer.member("id", JobIdentity.id(uid: trigger.uid, dedupKey: entry.0.dedupKey))
                writer.member("dedup_key", String(decoding: entry.0.dedupKey, as: UTF8.self))
                switch entry.1 {
                case .success(.pass(let record, let isProjected)):
                    passed += 1
                    writer.member("result", "pass")
                    writer.member("projected", isProjected)
                    writer.member("record", json: record)
                case .success(.skip):
                    skipped += 1
                    writer.member("result", "skip")
                case .failure(let error):
                    failed += 1
                    writer.member("result", "error")
                    writer.member("error", error.message)
                }
            }
            writer.member("passed", passed)
            writer.member("skipped", skipped)
            writer.member("failed", failed)
            writer.key("absent")
            writer.array { writer in for path in absent { writer.value(path.description) } }
            writer.member("last_position", trigger.progress.lastPosition.rawValue)
            writer.member("more", more)
        }
    }
}
