import HTTPTypes
import Hummingbird
import NIOCore
import NIOHTTP1
import NIOHTTPTypes
import NIOHTTPTypesHTTP1
import SluiceCore

/// Says in the API's own words that a request could not be read as HTTP.
///
/// The server answers such a request with an empty 400 and closes the connection, or closes it without an answer. A client that reads
/// JSON from each answer would fail at the first, and the second looks like a server that died.
final class UnreadableRequestHandler: ChannelDuplexHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPRequestPart
    typealias InboundOut = HTTPRequestPart
    typealias OutboundIn = HTTPResponsePart
    typealias OutboundOut = HTTPResponsePart

    private var unreadable: (any Error)?

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        switch error {
        case is HTTPParserError:
            unreadable = error
            context.fireErrorCaught(error)
        case is HTTP1TypeConversionError:
            // A method or a path that HTTP has no type for. The server knows what to do with the parser's errors only.
            unreadable = error
            context.fireErrorCaught(HTTPParserError.invalidURL)
        default: context.fireErrorCaught(error)
        }
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        guard let unreadable, case .head(var head) = unwrapOutboundIn(data), head.status == .badRequest,
            head.headerFields[.contentLength] == "0"
        else { return context.write(data, promise: promise) }
        let body = APIResponse.failure(Self.explanation(of: unreadable)).body + [0x0A]
        head.headerFields[.contentType] = "application/json"
        head.headerFields[.cacheControl] = "no-store"
        head.headerFields[.contentLength] = String(body.count)
        context.write(wrapOutboundOut(.head(head)), promise: nil)
        context.write(wrapOutboundOut(.body(ByteBuffer(bytes: body))), promise: promise)
    }

    /// - Parameter error: What reading a request failed with. Its text names the rule that was broken, and no byte of the request.
    static func explanation(of error: any Error) -> SluiceError {
        switch error {
        case is HTTPParserError:
            SluiceError(.invalid, "the request is not HTTP/1.1 as it must be (\(error)): check its first line, its headers and its length")
        case is HTTP1TypeConversionError:
            SluiceError(.invalid, "the request's method or path is none that HTTP has: percent-encode what is not plain ASCII")
        default: SluiceError(.invalid, "the request broke off before its end: send it again")
        }
    }
}
