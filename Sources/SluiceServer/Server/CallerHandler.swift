import Hummingbird
import NIOCore
import NIOHTTPTypes
import Synchronization

/// Tells a connection's `Caller` what becomes of it.
final class CallerHandler: ChannelDuplexHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPRequestPart
    typealias InboundOut = HTTPRequestPart
    typealias OutboundIn = HTTPResponsePart
    typealias OutboundOut = HTTPResponsePart

    private let caller = Caller()
    private let callers: Callers

    init(_ callers: Callers) { self.callers = callers }

    func handlerAdded(context: ChannelHandlerContext) { callers.add(caller, context.channel) }

    func handlerRemoved(context: ChannelHandlerContext) { end(context) }

    func channelInactive(context: ChannelHandlerContext) {
        end(context)
        context.fireChannelInactive()
    }

    private func end(_ context: ChannelHandlerContext) {
        callers.remove(context.channel)
        caller.hangUp()
        caller.forget()
    }

    /// The server lets connections be closed in one direction, so that a FIN is an event and not the end.
    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case .some(.inputClosed) = event as? ChannelEvent { caller.hangUp() }
        context.fireUserInboundEventTriggered(event)
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        guard case .end = unwrapOutboundIn(data), let handover = caller.handover else { return context.write(data, promise: promise) }
        let written = promise ?? context.eventLoop.makePromise(of: Void.self)
        written.futureResult.whenComplete { [caller] result in
            if case .success = result {
                caller.handedOver(handover, isWritten: true)
            } else {
                caller.handedOver(handover, isWritten: false)
            }
        }
        context.write(data, promise: written)
    }
}

/// The callers of a listener, by their connections.
final class Callers: Sendable {
    private let all = Mutex<[ObjectIdentifier: Caller]>([:])

    func add(_ caller: Caller, _ channel: any Channel) { all.withLock { $0[ObjectIdentifier(channel)] = caller } }
    func remove(_ channel: any Channel) { all.withLock { $0[ObjectIdentifier(channel)] = nil } }
    func caller(_ channel: any Channel) -> Caller? { all.withLock { $0[ObjectIdentifier(channel)] } }
}

/// A request and the connection that it came over.
struct APIContext: RequestContext {
    var coreContext: CoreRequestContextStorage
    let channel: any Channel

    init(source: ApplicationRequestContextSource) {
        coreContext = .init(source: source)
        channel = source.channel
    }
}
