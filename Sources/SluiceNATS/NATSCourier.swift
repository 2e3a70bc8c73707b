import SluiceConnectors
import SluiceCore
import SluiceDelivery
import SluiceOutgoing
import Synchronization

/// Publishes jobs to a JetStream, each under its job's id (`Nats-Msg-Id`), and counts one as delivered once the stream has
/// acknowledged it, also where it had the message already.
///
/// All of a batch is published before the first acknowledgement is awaited. A connection that breaks is made anew for the next
/// batch; what was not acknowledged comes again, and the stream drops it where its duplicate window still knows the id.
public final class NATSCourier: Courier {
    private let destination: NATSDestination
    private let scrubber: SecretScrubber
    private let thread = CourierThread()
    private let link = Mutex<NATSLink?>(nil)

    /// Name servers of brokers hold up nobody else.
    private static let resolver = HostResolver(threadCount: 4)

    public var batchMax: Int { destination.jobsMax }

    public init(_ destination: NATSDestination) {
        self.destination = destination
        scrubber = SecretScrubber(destination.secrets)
    }

    public func carry(_ parcels: [Parcel]) async -> [CourierAnswer] {
        // A server may repeat what it was shown.
        await give(parcels).map { answer in
            var answer = answer
            answer.error = answer.error.map(scrubber.scrubbed)
            answer.response = scrubber.scrubbed(answer.response)
            return answer
        }
    }

    private func give(_ parcels: [Parcel]) async -> [CourierAnswer] {
        guard !parcels.isEmpty else { return [] }
        let subject: NATSSubject
        let routes: [(NATSAddress, IPAddress)]
        do {
            subject = try NATSSubject(destination.subject)
            routes = try await needsConnection() ? addresses() : []
        } catch {
            return parcels.map { _ in CourierAnswer(.failed, error: error.message, isConnectFailure: true) }
        }
        let answers = await thread.run(within: 2 * destination.limitSeconds + 5) { [self] in
            let messages = parcels.map { parcel in
                NATSLink.Message(
                    subject: subject.expanded(trigger: parcel.trigger.name, cause: parcel.job.cause.rawValue), id: parcel.id,
                    payload: parcel.json)
            }
            return link.withLock { publish(messages, routes, &$0) }
        }
        return answers
            ?? parcels.map { _ in
                CourierAnswer(.failed, error: "the NATS server has not answered in time", isConnectFailure: true)
            }
    }

    public func close() async { thread.close { [self] in link.withLock { $0 = nil } } }

    // MARK: - Connecting

    private func needsConnection() async throws(SluiceError) -> Bool {
        guard let needs = await thread.run(within: destination.limitSeconds, { [self] in link.withLock { $0?.isOpen != true } }) else {
            throw SluiceError(.providerUnreachable, "the NATS server has not answered in time")
        }
        return needs
    }

    /// Every address of every server, all of them checked. Throws where none can be had.
    private func addresses() async throws(SluiceError) -> [(NATSAddress, IPAddress)] {
        var routes: [(NATSAddress, IPAddress)] = []
        var problem: SluiceError?
        for server in try NATSAddress.list(destination.url) {
            do {
                let found: [IPAddress] =
                    if let literal = IPAddress(server.host) { [literal] } else {
                        try await NATSCourier.resolver.addresses(of: server.host, within: .seconds(destination.limitSeconds))
                    }
                try AddressGuard.check(host: server.host, addresses: found, allowed: destination.addresses)
                routes += found.map { (server, $0) }
            } catch {
                problem = error
            }
        }
        guard routes.isEmpty else { return routes }
        throw problem ?? SluiceError(.providerUnreachable, "no NATS server is named")
    }

    /// On the thread. Tries one address after the other.
    private func connect(_ routes: [(NATSAddress, IPAddress)]) throws(NATSLink.Failure) -> NATSLink {
        let deadline = ContinuousClock.now + .seconds(destination.limitSeconds)
        var problem = NATSLink.Failure(message: "the connection to the NATS server was lost")
        for (server, address) in routes {
            let left = Int64(ContinuousClock.now.duration(to: deadline) / .milliseconds(1))
            guard left > 0 else { break }
            do throws(NATSLink.Failure) {
                return try NATSLink(destination, server, at: address, milliseconds: min(left, 5000))
            } catch {
                problem = error
            }
        }
        throw problem
    }

    // MARK: - Publishing

    private func publish(
        _ messages: [NATSLink.Message], _ routes: [(NATSAddress, IPAddress)], _ link: inout NATSLink?
    ) -> [CourierAnswer] {
        let made: NATSLink
        do throws(NATSLink.Failure) {
            if let known = link, known.isOpen {
                made = known
            } else {
                link = nil
                made = try connect(routes)
                link = made
            }
        } catch {
            return messages.map { _ in CourierAnswer(.failed, error: error.message, isConnectFailure: true) }
        }
        // What the server would not even read is told apart before: it would end the connection for all.
        let fits = messages.map { $0.payload.count + 1024 <= made.payloadMax }
        let sendable = zip(messages, fits).filter(\.1).map(\.0)
        var headers: [(name: String, value: String)] = destination.headers.map { ($0.name, $0.value) }
        if let stream = destination.stream { headers.append(("Nats-Expected-Stream", stream)) }
        let (given, problem) = made.publish(sendable, headers: headers, milliseconds: Int64(destination.limitSeconds) * 1000)
        if problem != nil { link = nil }
        var answers = zip(sendable, given).map { answer($0, $1, problem) }[...]
        return zip(messages, fits).map { message, fits in
            if fits { return answers.removeFirst() }
            return CourierAnswer(
                .refused(reason: DeliveryMachine.DeadReason.tooLarge.rawValue),
                error: "the job has \(message.payload.count) bytes, and the NATS server takes messages up to \(made.payloadMax): "
                    + "raise its max_payload and the stream's max_msg_size, then replay it")
        }
    }

    private func answer(_ message: NATSLink.Message, _ given: NATSAcknowledgement?, _ problem: String?) -> CourierAnswer {
        guard let given else { return CourierAnswer(.failed, error: problem ?? "no acknowledgement", isConnectFailure: true) }
        if case .kept(let stream, let sequence, let isDuplicate) = given {
            let words = "\(stream) \(sequence)" + (isDuplicate ? ", which it had already" : "")
            return CourierAnswer(.delivered, response: Array(words.utf8))
        }
        return CourierAnswer(.failed, error: given.problem(subject: message.subject, stream: destination.stream) ?? "not kept")
    }
}
