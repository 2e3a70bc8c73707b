import Logging
import SluiceConnectors
import SluiceCore
import SluiceGateway
import SluicePolling
import Synchronization

/// Carries out what handshakes need: keeps secrets that providers give, and asks for confirmation URLs, a few at a time.
final class HandshakeDesk: HandshakeActing {
    typealias Learn = @Sendable (_ secret: String, _ token: String, _ connection: ConnectionID) async throws -> Void
    /// Asks for a URL and gives the status of the answer.
    typealias Fetch = @Sendable (_ url: String) async throws -> Int

    private struct Confirmation: Sendable {
        var url: String
        var connection: ConnectionID
    }

    /// Confirmations that wait; a further one is dropped and logged (providers ask again).
    static let waitingMax = 64
    /// Of one connection in a minute: an address that became known must not make us call others.
    static let perMinuteMax = 6
    private static let workers = 2

    private let fetch: Fetch
    private let time: any TimeSource
    private let logger: Logger
    private let learning = Mutex<Learn?>(nil)
    private let recent = Mutex<[ConnectionID: [Timestamp]]>([:])
    private let queue: AsyncStream<Confirmation>
    private let entrance: AsyncStream<Confirmation>.Continuation

    init(time: any TimeSource, logger: Logger, fetch: @escaping Fetch) {
        self.time = time
        self.logger = logger
        self.fetch = fetch
        (queue, entrance) = AsyncStream.makeStream(bufferingPolicy: .bufferingOldest(HandshakeDesk.waitingMax))
    }

    /// Who keeps secrets; set once, before the first request.
    func learns(_ learn: @escaping Learn) { learning.withLock { $0 = learn } }

    func learn(secret: String, token: String, connection: ConnectionID) async throws {
        guard let learn = learning.withLock({ $0 }) else { throw SluiceError(.internalError, "no secrets are kept yet") }
        try await learn(secret, token, connection)
    }

    func confirm(url: String, connection: ConnectionID) {
        guard isWithinRate(connection), case .enqueued = entrance.yield(Confirmation(url: url, connection: connection)) else {
            logger.warning("handshake not confirmed: too many at once", metadata: ["connection_id": "\(connection.rawValue)"])
            return
        }
    }

    private func isWithinRate(_ connection: ConnectionID) -> Bool {
        let now = time.now()
        return recent.withLock { recent in
            recent = recent.compactMapValues { times in
                let kept = times.filter { $0 > now - .minutes(1) }
                return kept.isEmpty ? nil : kept
            }
            guard recent[connection, default: []].count < HandshakeDesk.perMinuteMax else { return false }
            recent[connection, default: []].append(now)
            return true
        }
    }

    /// Asks until it is cancelled.
    func run() async {
        await withDiscardingTaskGroup { group in
            var running = 0
            let (ends, ended) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(HandshakeDesk.workers))
            var iterator = ends.makeAsyncIterator()
            for await confirmation in queue {
                if running == HandshakeDesk.workers {
                    _ = await iterator.next()
                    running -= 1
                }
                running += 1
                group.addTask {
                    await self.ask(confirmation)
                    ended.yield()
                }
            }
        }
    }

    private func ask(_ confirmation: Confirmation) async {
        // The query holds the provider's token: only the host is logged.
        let host = (try? WebAddress(confirmation.url))?.host ?? "?"
        var outcome: Logger.Metadata = ["host": "\(host)", "connection_id": "\(confirmation.connection.rawValue)"]
        do {
            let status = try await fetch(confirmation.url)
            outcome["status"] = "\(status)"
            logger.info("handshake confirmed", metadata: outcome)
        } catch {
            outcome["error"] = "\((error as? SluiceError)?.message ?? (error as? PollFailure)?.error.message ?? "\(type(of: error))")"
            logger.warning("handshake not confirmed: the provider asks again, or save the webhook anew", metadata: outcome)
        }
    }
}
