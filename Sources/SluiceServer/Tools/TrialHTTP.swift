import SluiceConnectors
import SluiceCore
import Synchronization

/// One request of a trial and what came of it, without secrets.
public struct TrialExchange: Sendable {
    public var request: HTTPRequestPlan
    /// Nil where no answer came.
    public var reply: HTTPReply?
    /// Why there is no answer, or what its status means.
    public var failure: String?
    public var span: Span

    func write(to writer: inout JSONWriter) {
        writer.object { writer in
            writer.key("request")
            writer.object { writer in
                writer.member("method", request.method)
                writer.member("url", request.url)
                writer.key("headers")
                TrialExchange.write(request.headers, to: &writer)
                TrialExchange.write(request.body, to: &writer)
            }
            if let reply {
                writer.key("response")
                writer.object { writer in
                    writer.member("status", Int64(reply.status))
                    writer.key("headers")
                    TrialExchange.write(reply.headers, to: &writer)
                    TrialExchange.write(reply.body, to: &writer)
                }
            }
            writer.member("failure", failure)
            writer.member("milliseconds", span.milliseconds)
        }
    }

    private static func write(_ headers: [HTTPField], to writer: inout JSONWriter) {
        writer.array { writer in
            for field in headers {
                writer.array { writer in
                    writer.value(field.name)
                    writer.value(field.value)
                }
            }
        }
    }

    /// Text as it is, other bytes in hexadecimal.
    private static func write(_ body: [UInt8], to writer: inout JSONWriter) {
        if body.isEmpty { return }
        if let text = String(validating: body, as: UTF8.self) {
            writer.member("body", text)
        } else {
            writer.member("body_hex", Hex.text(body))
        }
    }

    /// Reads what `write` wrote. Throws `.invalid` naming what is missing.
    init(_ view: JSONView, file: String) throws(SluiceError) {
        let fault = SluiceError(.invalid, "\(file) is no recording of a request: make it with `sluice connector try --record`").with(
            "file", file)
        guard let asked = view["request"], let method = asked["method"]?.string, let url = asked["url"]?.string else { throw fault }
        request = HTTPRequestPlan(method: method, url: url, headers: TrialExchange.headers(asked), body: TrialExchange.body(asked))
        failure = view["failure"]?.string
        span = .milliseconds(view["milliseconds"]?.int64 ?? 0)
        if let answer = view["response"] {
            guard let status = answer["status"]?.int64, (100...599).contains(status) else { throw fault }
            reply = HTTPReply(status: Int(status), headers: TrialExchange.headers(answer), body: TrialExchange.body(answer))
        }
    }

    init(request: HTTPRequestPlan, reply: HTTPReply?, failure: String?, span: Span) {
        (self.request, self.reply, self.failure, self.span) = (request, reply, failure, span)
    }

    private static func headers(_ view: JSONView) -> [HTTPField] {
        (view["headers"]?.elements ?? []).compactMap { pair in
            guard let parts = pair.elements, parts.count == 2, let name = parts[0].string, let value = parts[1].string else { return nil }
            return HTTPField(name, value)
        }
    }

    /// A body may stand as JSON too: fixtures are nicer to read so.
    private static func body(_ view: JSONView) -> [UInt8] {
        if let text = view["body"]?.string { return Array(text.utf8) }
        if let json = view["json"] { return Array(json.bytes) }
        return view["body_hex"]?.string.flatMap { Hex.bytes($0) } ?? []
    }
}

/// Passes requests on and keeps what was asked and answered. Secrets are taken out once all of them are known: a token that the
/// provider gives in the middle may stand in an answer before.
final class TrialRecorder: HTTPSending {
    private static let exchangesMax = 1000
    /// Stands where a request was held until the trial was over.
    static let letGo = "held by the provider, and let go of"

    private let http: any HTTPSending
    private let time: any TimeSource
    private let kept: Kept

    private final class Kept: Sendable {
        let exchanges = Mutex<[TrialExchange]>([])
    }

    init(_ http: any HTTPSending, time: any TimeSource) { (self.http, self.time, kept) = (http, time, Kept()) }

    /// The same recording, over another way.
    init(_ http: any HTTPSending, goingOnWith other: TrialRecorder) { (self.http, time, kept) = (http, other.time, other.kept) }

    func exchanges(_ scrubber: SecretScrubber) -> [TrialExchange] {
        kept.exchanges.withLock { $0 }.map { exchange in
            TrialExchange(
                request: TrialRecorder.scrubbed(exchange.request, scrubber),
                reply: exchange.reply.map {
                    HTTPReply(
                        status: $0.status, headers: $0.headers.map(scrubber.header), body: scrubber.body($0.body, headers: $0.headers))
                }, failure: exchange.failure.map(scrubber.text), span: exchange.span)
        }
    }

    func send(_ request: HTTPRequestPlan) async throws -> HTTPReply {
        let start = time.now()
        do {
            let reply = try await http.send(request)
            keep(request, .success(reply), since: start)
            return reply
        } catch {
            keep(request, .failure(error), since: start)
            throw error
        }
    }

    func keep(_ request: HTTPRequestPlan, _ result: Result<HTTPReply, any Error>, since start: Timestamp) {
        var exchange = TrialExchange(request: request, reply: nil, failure: nil, span: time.now() - start)
        switch result {
        case .success(let reply): exchange.reply = reply
        case .failure(let failure as PollFailure):
            let status = failure.error.context["status"].flatMap { Int($0) }
            exchange.reply = status.map { HTTPReply(status: $0, headers: [], body: []) }
            exchange.failure = failure.error.message
        case .failure(let error as SluiceError): exchange.failure = error.message
        case .failure: exchange.failure = TrialRecorder.letGo
        }
        kept.exchanges.withLock { kept in if kept.count < TrialRecorder.exchangesMax { kept.append(exchange) } }
    }

    var now: Timestamp { time.now() }

    static func scrubbed(_ request: HTTPRequestPlan, _ scrubber: SecretScrubber) -> HTTPRequestPlan {
        HTTPRequestPlan(
            method: request.method, url: scrubber.url(request.url), headers: request.headers.map(scrubber.header),
            body: scrubber.body(request.body, headers: request.headers), acceptsAnyStatus: request.acceptsAnyStatus)
    }
}

/// Answers from a recording, and never from the network.
final class TrialReplayer: HTTPSending {
    private struct State {
        var used: Set<Int> = []
    }
    /// The recording ends where nothing more came of a held request.
    struct LetGo: Error {}

    private let exchanges: [TrialExchange]
    private let directory: String
    private let scrubber: SecretScrubber
    private let state = Mutex(State())

    init(_ exchanges: [TrialExchange], directory: String, scrubber: SecretScrubber) {
        (self.exchanges, self.directory, self.scrubber) = (exchanges, directory, scrubber)
    }

    func send(_ request: HTTPRequestPlan) async throws -> HTTPReply {
        let asked = TrialRecorder.scrubbed(request, scrubber)
        func fits(_ exchange: TrialExchange) -> Bool {
            exchange.request.method == asked.method && exchange.request.url == asked.url && exchange.request.body == asked.body
        }
        let found = state.withLock { state -> TrialExchange? in
            // The same request twice gets its answers in turn, and then the last one again.
            let fitting = exchanges.indices.filter { fits(exchanges[$0]) }
            guard let index = fitting.first(where: { !state.used.contains($0) }) ?? fitting.last else { return nil }
            state.used.insert(index)
            return exchanges[index]
        }
        guard let found else {
            let near =
                exchanges.first { $0.request.method == asked.method }.map { "; it holds \($0.request.method) \($0.request.url)" } ?? ""
            throw PollFailure(
                .permanent,
                SluiceError(
                    .notFound, "the recording in \(directory) has no answer to \(asked.method) \(asked.url)\(near): record it anew"))
        }
        guard let reply = found.reply else {
            if found.failure == TrialRecorder.letGo { throw TrialReplayer.LetGo() }
            throw PollFailure(.transient, SluiceError(.providerUnreachable, found.failure ?? "no answer was recorded"))
        }
        if !request.acceptsAnyStatus, let failure = TrialStatus.failure(reply) { throw failure }
        return reply
    }
}

/// Statuses that mean the same everywhere, as polls take them.
enum TrialStatus {
    static func failure(_ reply: HTTPReply) -> PollFailure? {
        let status = String(reply.status)
        switch reply.status {
        case 429: return PollFailure(.rateLimited, SluiceError(.rateLimited, "the provider limits our requests").with("status", status))
        case 401, 403:
            return PollFailure(
                .unauthorized, SluiceError(.providerAuth, "the provider refuses the connection's credentials").with("status", status))
        case 408, 425, 500...599:
            let error = SluiceError(.providerStatus, "the provider answers with a fault of its own").with("status", status)
            return PollFailure(.transient, reply.body.isEmpty ? error : error.with("answer", reply.beginning))
        default: return nil
        }
    }
}
