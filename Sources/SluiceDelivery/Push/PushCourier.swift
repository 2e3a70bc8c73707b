import AsyncHTTPClient
import NIOCore
import SluiceConnectors
import SluiceCore
import SluiceOutgoing

/// Pushes jobs by signed HTTP: one POST each.
struct PushCourier: Courier {
    let batchMax = 1
    private let destination: PushDestination
    /// Or why there is none.
    private let route: Result<OutgoingRoute, SluiceError>
    /// Or why there is none.
    private let signer: Result<WebhookSigner, SluiceError>
    private let sender: PushSender
    /// Some receivers repeat what they were sent.
    private let scrubber: SecretScrubber
    private let responseBytesKept: Int
    private let wallTime: any TimeSource

    init(_ destination: PushDestination, _ tools: CourierTools) {
        self.destination = destination
        do {
            signer = .success(try WebhookSigner(destination.secrets))
        } catch {
            signer = .failure(error)
        }
        do {
            route = .success(
                OutgoingRoute(
                    host: try WebAddress(destination.url).host, lookUp: tools.lookUp,
                    freshFor: .seconds(tools.options.addressSecondsMax), configuration: PushCourier.clientConfiguration(destination)))
        } catch {
            route = .failure(error)
        }
        sender = PushSender(destination, options: tools.options)
        scrubber = SecretScrubber(destination.credentials)
        responseBytesKept = tools.options.responseBytesKept
        wallTime = tools.wallTime
    }

    func carry(_ parcels: [Parcel]) async -> [CourierAnswer] {
        var answers: [CourierAnswer] = []
        for parcel in parcels { answers.append(await carry(parcel)) }
        return answers
    }

    private func carry(_ parcel: Parcel) async -> CourierAnswer {
        let deadline = NIODeadline.now() + .seconds(Int64(destination.timeoutSeconds))
        let route: OutgoingRoute
        let client: PinnedClient
        let signer: WebhookSigner
        do {
            signer = try self.signer.get()
            route = try self.route.get()
            client = try await route.client(allowed: destination.addresses, within: .seconds(destination.timeoutSeconds))
        } catch {
            return CourierAnswer(.failed, error: error.message, isConnectFailure: true)
        }
        defer { client.end() }
        let body = JobJSON.pushBody(
            parcel.job, triggerName: parcel.trigger.name, uid: parcel.trigger.uid, id: parcel.id, isProjected: parcel.isProjected)
        var answer = await sender.send(
            body, id: parcel.id, signedBy: signer, with: client, at: wallTime.now(), until: deadline, now: { wallTime.now() })
        answer.error = answer.error.map(scrubber.scrubbed)
        answer.response = Array(scrubber.scrubbed(answer.response).prefix(responseBytesKept))
        if answer.isConnectFailure { route.failed(client) }
        return answer
    }

    func close() async { try? route.get().close() }

    private static func clientConfiguration(_ destination: PushDestination) -> HTTPClient.Configuration {
        var pool = HTTPClient.Configuration.ConnectionPool(
            // Shorter than any server's usual keep-alive (Node: 5 s): a connection that the server closes just as it is
            // used again is an attempt lost.
            idleTimeout: .seconds(3), concurrentHTTP1ConnectionsPerHostSoftLimit: max(1, destination.connectionsMax))
        pool.retryConnectionEstablishment = false
        var configuration = HTTPClient.Configuration(
            redirectConfiguration: .disallow, timeout: .init(connect: .seconds(Int64(min(10, destination.timeoutSeconds)))),
            connectionPool: pool)
        configuration.httpVersion = .http1Only
        return configuration
    }
}
