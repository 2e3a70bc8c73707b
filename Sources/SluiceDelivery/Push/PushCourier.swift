import NIOCore
import SluiceConnectors
import SluiceCore

/// Pushes jobs by signed HTTP: one POST each.
struct PushCourier: Courier {
    let batchMax = 1
    private let destination: PushDestination
    private let route: PushRoute
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
        route = PushRoute(destination, freshFor: .seconds(tools.options.addressSecondsMax))
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
        let client: PinnedClient
        let signer: WebhookSigner
        do {
            signer = try self.signer.get()
            client = try await route.client(within: destination.timeoutSeconds)
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
        if answer.isConnectFailure { route.connectFailed(client) }
        return answer
    }

    func close() async { route.close() }
}
