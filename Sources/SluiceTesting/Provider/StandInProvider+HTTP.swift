import HTTPTypes
import Hummingbird
import NIOCore
import SluiceCore

/// Requests in, answers out. Nothing is decided here.
extension StandInProvider {
    static let hangSecondsMax = 120

    func respond(to request: Request) async -> Response {
        let path = request.uri.path
        let answer = path.hasPrefix("/_") ? control(path, request) : await api(path, request)
        var headers = HTTPFields()
        for (name, value) in answer.headers {
            if let name = HTTPField.Name(name) { headers[name] = value }
        }
        return Response(
            status: .init(code: answer.status), headers: headers, body: .init(byteBuffer: ByteBuffer(bytes: answer.body)))
    }

    private func api(_ path: String, _ request: Request) async -> ProviderAPI.Answer {
        guard request.method == .get else { return ProviderAPI.error(405, "invalid_request", "Only GET is answered here.") }
        let query = request.uri.query ?? ""
        let fault = state.withLock { state in
            state.counts.apiRequests += 1
            let fault = state.faults.draw(using: &state.faultRandom)
            if let fault { state.counts.apiFaults[fault.name, default: 0] += 1 }
            return fault
        }
        await delay(fault)
        let now = settings.now()
        let (answer, read) = state.withLock { state in
            let result = ProviderAPI.answer(
                path: path, query: query, authorization: request.headers[.authorization], apiKey: settings.apiKey, world: &state.world,
                at: now)
            if let read = result.read, state.reads.count < StandInProvider.readsMax { state.reads.append(read) }
            return result
        }
        guard let fault else { return answer }
        return ProviderAPI.spoil(answer, with: fault, hasOffset: read?.hasOffset ?? false)
    }

    private func delay(_ fault: ProviderFault?) async {
        switch fault {
        case .slow(let milliseconds): try? await Task.sleep(for: .milliseconds(milliseconds))
        case .hang:
            // In steps, so that a provider that stops does not wait for whoever it keeps waiting.
            for _ in 0..<StandInProvider.hangSecondsMax * 20 where !state.withLock({ $0.isStopping }) {
                try? await Task.sleep(for: .milliseconds(50))
            }
        default: break
        }
    }

    private func control(_ path: String, _ request: Request) -> ProviderAPI.Answer {
        let parameters = Dictionary(QueryText.parse(request.uri.query ?? ""), uniquingKeysWith: { first, _ in first })
        switch (request.method, path) {
        case (.get, "/_log"): return log(after: parameters["after"].flatMap { Int($0) } ?? 0)
        case (.get, "/_counts"): return json(counts.json)
        case (.post, "/_pause"):
            setPaused(true)
            return json(counts.json)
        case (.post, "/_resume"):
            setPaused(false)
            return json(counts.json)
        case (.post, "/_change"):
            let count = parameters["count"].flatMap { Int($0) } ?? 1
            guard (1...100_000).contains(count), parameters["resource"].map({ settings.world.resources.contains($0) }) ?? true else {
                return ProviderAPI.error(400, "param_wrong_value", "count is not within 1 and 100000, or there is no such resource.")
            }
            makeChanges(count, resource: parameters["resource"])
            return json(counts.json)
        default: return ProviderAPI.error(404, "not_found", "There is no such page.")
        }
    }

    private func json(_ bytes: [UInt8]) -> ProviderAPI.Answer {
        .init(status: 200, headers: [("Content-Type", "application/json")], body: bytes)
    }

    private func log(after sequence: Int) -> ProviderAPI.Answer {
        var body: [UInt8] = []
        for change in changes.dropFirst(max(0, sequence)) {
            body.append(contentsOf: ProviderLog.line(change))
            body.append(0x0A)
        }
        return .init(status: 200, headers: [("Content-Type", "application/x-ndjson")], body: body)
    }
}
