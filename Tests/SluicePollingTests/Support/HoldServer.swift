import NIOCore
import NIOPosix
import Synchronization

/// A provider of numbered items that holds requests: `?after=N&hold=1` is answered once there are items after N, or with none
/// after `holdMilliseconds`; `/watch?after=N` never ends, and writes each item as a line. Without either it answers at once.
final class HoldServer: Sendable {
    private struct State {
        var count = 0
        var held: [ObjectIdentifier: (channel: any Channel, after: Int, isStream: Bool)] = [:]
        var requests: [String] = []
        var isSilent = false
        var holdMilliseconds: Int64 = 60_000
        var cutsAfterLines: Int?
    }
    private let state = Mutex(State())
    private let bound = Mutex<(any Channel)?>(nil)

    var url: String { bound.withLock { "http://127.0.0.1:\($0?.localAddress?.port ?? 0)/items" } }
    var requests: [String] { state.withLock { $0.requests } }
    /// Requests that are held, or streams that are open.
    var heldCount: Int { state.withLock { $0.held.count } }
    var keys: [String] { state.withLock { state in (0..<state.count).map { "i\($0 + 1)" } } }

    func setHold(milliseconds: Int64) { state.withLock { $0.holdMilliseconds = milliseconds } }
    /// Takes requests and never answers, as behind a connection that is half open.
    func setSilent(_ isSilent: Bool) { state.withLock { $0.isSilent = isSilent } }
    /// Ends each stream in the middle of a line, after so many.
    func cutStreams(afterLines lines: Int?) { state.withLock { $0.cutsAfterLines = lines } }

    func add(_ count: Int) {
        let ready = state.withLock { state in
            state.count += count
            if state.isSilent { return [(channel: any Channel, after: Int, isStream: Bool)]() }
            let ready = Array(state.held.values)
            let last = state.count
            state.held = state.held.filter { $0.value.isStream }
            for key in state.held.keys { state.held[key]?.after = last }
            return ready
        }
        for held in ready { answer(held.channel, after: held.after, isStream: held.isStream, isOpen: true) }
    }

    func with(_ body: () async throws -> Void) async throws {
        let bootstrap = ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(HoldHandler(self)) }
            }
        let channel = try await bootstrap.bind(host: "127.0.0.1", port: 0).get()
        bound.withLock { $0 = channel }
        do {
            try await body()
            try await channel.close()
        } catch {
            try? await channel.close()
            throw error
        }
    }

    // MARK: Inside

    fileprivate func received(_ target: String, on channel: any Channel) {
        let after = target.split(separator: "after=").dropFirst().first.flatMap { Int($0.prefix { $0.isNumber }) } ?? 0
        let isStream = target.contains("/watch")
        let isHeld = isStream || target.contains("hold=")
        let (answersNow, hold) = state.withLock { state -> (Bool, Int64) in
            state.requests.append(target)
            if state.isSilent { return (false, 0) }
            if isStream {
                state.held[ObjectIdentifier(channel)] = (channel, state.count, true)
                return (true, 0)
            }
            if isHeld, after >= state.count {
                state.held[ObjectIdentifier(channel)] = (channel, after, false)
                return (false, state.holdMilliseconds)
            }
            return (true, 0)
        }
        if answersNow { return answer(channel, after: after, isStream: isStream, isOpen: false) }
        guard hold > 0 else { return }
        channel.eventLoop.scheduleTask(in: .milliseconds(hold)) {
            if self.forget(channel) { self.answer(channel, after: after, isStream: false, isOpen: false) }
        }
    }

    @discardableResult
    fileprivate func forget(_ channel: any Channel) -> Bool {
        state.withLock { $0.held.removeValue(forKey: ObjectIdentifier(channel)) != nil }
    }

    private func answer(_ channel: any Channel, after: Int, isStream: Bool, isOpen: Bool) {
        let (count, cut) = state.withLock { ($0.count, $0.cutsAfterLines) }
        let items = (min(after, count)..<count).map { "{\"id\":\"i\($0 + 1)\",\"n\":\($0 + 1)}" }
        guard isStream else {
            let body = "{\"items\":[\(items.joined(separator: ","))],\"next\":\(max(after, count)),\"more\":false}"
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: \(body.utf8.count)\r\n\r\n"
            return channel.writeAndFlush(ByteBuffer(string: head + body), promise: nil)
        }
        var text = isOpen ? "" : "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        let lines = items.prefix(cut ?? items.count)
        // Lines need not end where chunks do.
        let all = lines.map { $0 + "\n" }.joined()
        for part in [all.prefix(all.count / 3), all.dropFirst(all.count / 3)] where !part.isEmpty {
            text += String(part.utf8.count, radix: 16) + "\r\n" + part + "\r\n"
        }
        let isCut = cut != nil && items.count > lines.count
        if isCut { text += "9\r\n{\"id\":\"br\r\n" }
        channel.writeAndFlush(ByteBuffer(string: text)).whenComplete { _ in
            if isCut { channel.close(promise: nil) }
        }
    }
}

private final class HoldHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    private let server: HoldServer
    private var received = ""

    init(_ server: HoldServer) { self.server = server }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        received += String(buffer: unwrapInboundIn(data))
        guard received.hasSuffix("\r\n\r\n") else { return }
        let target = received.split(separator: " ").dropFirst().first.map(String.init) ?? ""
        received = ""
        server.received(target, on: context.channel)
    }

    func channelInactive(context: ChannelHandlerContext) { server.forget(context.channel) }
}
