import Foundation
import NIOCore
import NIOPosix
import SluiceCore
import SluiceTesting
import Synchronization
import Testing

extension Live {
    /// Show f, with the real server: receivers that cannot be reached and answers without end cost nothing but themselves, and say why.
    @Suite(.serialized) struct DeliveryBadInputLiveTests {
        static let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

        @Test func f_unreachableAndHugeAnswersAreSaidAndNothingIsLost() async throws {
            try await GigabyteSink.with { sink in
                let destinations = """
                    destinations:
                      refused: { kind: push, url: "http://127.0.0.1:1/", allow_private: true, secret: \(Self.secret), retries: [] }
                      unknown: { kind: push, url: "http://nobody.invalid/", secret: \(Self.secret), retries: [] }
                      inside: { kind: push, url: "http://localhost:\(sink.port)/", secret: \(Self.secret), retries: [] }
                      huge: { kind: push, url: "http://127.0.0.1:\(sink.port)/", allow_private: true, secret: \(Self.secret) }
                    """
                try await withTemporaryDirectory("sluice-bad") { directory in
                    try await StandInProvider.with(PromiseLiveTests.settings(PromiseLiveTests.quiet)) { provider in
                        let configuration = Chargebee.configuration(provider.baseURL, safety: "1s", extra: destinations)
                            .replacing(
                                "safety_interval: 1s }", with: "safety_interval: 1s, destinations: [refused, unknown, inside, huge] }")
                        let sluice = try SluiceProcess(
                            .init(directory: directory, configuration: configuration, environment: Chargebee.environment))
                        defer { sluice.kill9() }
                        try await sluice.start()
                        let before = try await Self.memoryMegabytes(sluice)
                        provider.makeChanges(5, resource: "subscription")
                        try await Self.judge(sluice, sink)
                        // Answers of a gigabyte each, none of which was read to its end or kept.
                        #expect(try await Self.memoryMegabytes(sluice) - before < 100)
                    }
                }
            }
        }

        private static func judge(_ sluice: SluiceProcess, _ sink: GigabyteSink) async throws {
            for (name, status, words) in [
                ("refused", nil as Int64?, "the connection was refused"), ("unknown", nil, "The host name nobody.invalid"),
                ("inside", nil, "set allow_private: true or allow_networks"),
            ] {
                try await waitUntil("dead letters of \(name)", seconds: 60) {
                    let jobs = try await sluice.jobs().count
                    let dead = try await sluice.send("GET", "/v1/dead-letters?destination=\(name)").json()["dead_letters"]?.elements ?? []
                    return jobs > 0 && dead.count == jobs
                }
                let dead = try await sluice.send("GET", "/v1/dead-letters?destination=\(name)").json()["dead_letters"]?.elements ?? []
                for letter in dead {
                    #expect(letter["reason"]?.string == "exhausted" && letter["last_status"]?.int64 == status)
                    #expect(letter["last_error"]?.string?.contains(words) == true, "\(name): \(letter["last_error"]?.string ?? "nothing")")
                }
            }
            try await waitUntil("delivered, by their status", seconds: 60) {
                let list = try await sluice.send("GET", "/v1/deliveries?destination=huge").json()["deliveries"]?.elements ?? []
                return !list.isEmpty && list.allSatisfy { $0["state"]?.string == "delivered" && $0["attempts"]?.int64 == 1 }
            }
            let number = try await sluice.send("GET", "/v1/deliveries?destination=huge").json()["deliveries"]?.elements?.first?["id"]?.int64
            let shown = try await sluice.send("GET", "/v1/deliveries/\(try #require(number))").json()
            let kept = shown["history"]?.elements?.first?["response"]?.string ?? ""
            #expect(kept == String(repeating: "z", count: 4096), "the first 4 KB are kept, not \(kept.count)")
            // Of a subscription that changed twice between two polls there is one job.
            let jobs = try await sluice.jobs().count
            #expect(jobs > 0 && sink.requests >= jobs)
            #expect(sink.bytesSent < sink.requests * 64 << 20, "\(sink.bytesSent) bytes were taken")
        }

        /// What the server's process takes of the machine's memory.
        private static func memoryMegabytes(_ sluice: SluiceProcess) async throws -> Int {
            let pid = try #require(sluice.pid)
            let status = try await offPool { try String(contentsOfFile: "/proc/\(pid)/status", encoding: .utf8) }
            let line = try #require(status.split(separator: "\n").first { $0.hasPrefix("VmRSS:") })
            return (Int(line.split(separator: " ").dropFirst().first ?? "") ?? 0) / 1024
        }
    }
}

/// Answers each request with 200 and a gigabyte, as fast as it is taken.
private final class GigabyteSink: Sendable {
    private let counts = Counts()
    private let channel: any Channel

    final class Counts: Sendable {
        let bytes = Atomic(0)
        let requests = Atomic(0)
    }

    private final class Answer: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        typealias OutboundOut = ByteBuffer
        static let piece = ByteBuffer(repeating: UInt8(ascii: "z"), count: 1 << 20)
        let counts: Counts
        private var left = 0
        init(_ counts: Counts) { self.counts = counts }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            guard left == 0 else { return }
            counts.requests.add(1, ordering: .relaxed)
            left = 1024
            let head = "HTTP/1.1 200 OK\r\nContent-Length: \(1 << 30)\r\n\r\n"
            context.write(wrapOutboundOut(ByteBuffer(string: head)), promise: nil)
            goOn(context)
        }

        private func goOn(_ context: ChannelHandlerContext) {
            guard left > 0 else { return }
            left -= 1
            let written = context.eventLoop.makePromise(of: Void.self)
            let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
            written.futureResult.whenSuccess {
                let (handler, context) = bound.value
                handler.counts.bytes.add(1 << 20, ordering: .relaxed)
                handler.goOn(context)
            }
            context.writeAndFlush(wrapOutboundOut(Answer.piece), promise: written)
        }
    }

    private init() async throws {
        let counts = self.counts
        channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(Answer(counts)) }
            }
            .bind(host: "127.0.0.1", port: 0).get()
    }

    static func with(_ body: (GigabyteSink) async throws -> Void) async throws {
        let sink = try await GigabyteSink()
        do {
            try await body(sink)
        } catch {
            try? await sink.channel.close()
            throw error
        }
        try await sink.channel.close()
    }

    var port: Int { channel.localAddress?.port ?? 0 }
    var bytesSent: Int { counts.bytes.load(ordering: .relaxed) }
    var requests: Int { counts.requests.load(ordering: .relaxed) }
}
