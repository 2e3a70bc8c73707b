import AsyncHTTPClient
import NIOCore
import NIOPosix
import SluiceConnectors
import SluiceCore
import SluiceOutgoing
import Synchronization
import Testing

@testable import SluicePolling

/// Polls of a name that answers with a good address when it is checked and with a bad one later (DNS rebinding). 127.0.0.1 is
/// allowed here and stands for a public address; 127.0.0.2 stands for what is inside, and somebody listens there, too.
@Suite(.timeLimit(.minutes(10))) struct PollRebindingTests {
    static let inside = "127.0.0.2"

    private func scene(
        _ answers: [[String]], freshFor: Duration = .zero,
        _ body: (_ poll: @Sendable () async throws -> Int, _ outside: Listener, _ inside: Listener) async throws -> Void
    ) async throws {
        let outside = try await Listener(host: "127.0.0.1")
        let inside = try await Listener(host: Self.inside, port: outside.port)
        let left = Mutex(answers)
        let configuration = HTTPClient.Configuration(redirectConfiguration: .disallow)
        let client = HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration)
        let lookUp: HostLookUp = { (host: String, _: Duration) async throws(SluiceError) -> [IPAddress] in
            guard host == "rebind.invalid" else { throw SluiceError(.providerUnreachable, "\(host) is not known") }
            return left.withLock { $0.count > 1 ? $0.removeFirst() : $0[0] }.compactMap { IPAddress($0) }
        }
        let routes = OutgoingRoutes(lookUp: lookUp, freshFor: freshFor, configuration: configuration)
        var settings = ConnectionPollSettings()
        settings.allowedNetworks = [try #require(IPNetwork("127.0.0.1"))]
        let http = PollHTTP(
            client: client, settings: settings, time: ManualTime(), pageBytesMax: 1 << 20,
            guardAddress: { _, _ in }, routes: routes)
        let url = "http://rebind.invalid:\(outside.port)/list"
        do {
            try await body({ try await http.send(HTTPRequestPlan(url: url)).status }, outside, inside)
        } catch {
            Issue.record(error)
        }
        routes.close()
        try await client.shutdown()
        try await outside.close()
        try await inside.close()
    }

    private func refusal(_ poll: @Sendable () async throws -> Int) async -> String? {
        do {
            return "answered \(try await poll())"
        } catch let error as SluiceError {
            return error.code == .forbiddenAddress ? nil : "\(error)"
        } catch let error as PollFailure {
            return error.error.code == .forbiddenAddress ? nil : "\(error)"
        } catch {
            return "\(error)"
        }
    }

    @Test func theConnectionGoesToTheCheckedAddress() async throws {
        try await scene([["127.0.0.1"]]) { poll, outside, inside in
            let status = try await poll()
            #expect(status == 200)
            #expect(outside.connections == 1 && inside.connections == 0)
        }
    }

    @Test func aNameThatAlternatesIsReachedOutsideOnly() async throws {
        try await scene((0..<8).map { [$0 % 2 == 0 ? "127.0.0.1" : Self.inside] }) { poll, outside, inside in
            for number in 0..<8 {
                if number % 2 == 0 {
                    let status = try await poll()
                    #expect(status == 200)
                } else {
                    #expect(await refusal(poll) == nil)
                }
            }
            #expect(outside.requests == 4 && inside.connections == 0)
        }
    }

    @Test(arguments: [
        ["127.0.0.1", inside], [inside, "127.0.0.1"], ["127.0.0.1", "::ffff:127.0.0.2"], ["127.0.0.1", "169.254.169.254"],
    ])
    func anAnswerWithOneBadAddressIsRefusedWhole(_ addresses: [String]) async throws {
        try await scene([addresses]) { poll, outside, inside in
            #expect(await refusal(poll) == nil)
            #expect(outside.connections == 0 && inside.connections == 0)
        }
    }

    @Test func whileItIsFreshTheCheckedAddressStays() async throws {
        try await scene([["127.0.0.1"], [Self.inside]], freshFor: .seconds(3600)) { poll, outside, inside in
            for _ in 0..<4 {
                let status = try await poll()
                #expect(status == 200)
            }
            #expect(outside.requests == 4 && inside.connections == 0)
        }
    }
}

/// Answers every request with an empty object, and counts.
private final class Listener: Sendable {
    private let channel: any Channel
    private let counts: Counts

    final class Counts: Sendable {
        let connections = Mutex(0)
        let requests = Mutex(0)
    }

    private final class Answers: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        typealias OutboundOut = ByteBuffer
        let counts: Counts
        init(_ counts: Counts) { self.counts = counts }
        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            // A GET without a body comes in one piece here.
            counts.requests.withLock { $0 += 1 }
            let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
            context.writeAndFlush(wrapOutboundOut(ByteBuffer(string: answer)), promise: nil)
        }
    }

    init(host: String, port: Int = 0) async throws {
        let counts = Counts()
        self.counts = counts
        channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .childChannelInitializer { channel in
                counts.connections.withLock { $0 += 1 }
                return channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(Answers(counts)) }
            }
            .bind(host: host, port: port).get()
    }

    var port: Int { channel.localAddress?.port ?? 0 }
    var connections: Int { counts.connections.withLock { $0 } }
    var requests: Int { counts.requests.withLock { $0 } }
    func close() async throws { try await channel.close() }
}
