import SluiceConnectors
import SluiceCore
import Synchronization

/// Answers each request out of memory; some fail, and some while the coroutine that asked hangs.
final class Provider: HTTPSending {
    private let bodies: [[UInt8]]
    private let failure: Int
    private let count = Mutex(0)

    init(_ bodies: [[UInt8]], failure: Int = 0) { (self.bodies, self.failure) = (bodies, failure) }

    func send(_ request: HTTPRequestPlan) async throws -> HTTPReply {
        let number = count.withLock { count in
            count += 1
            return count
        }
        if failure & 7 == number { throw PollFailure(.transient, SluiceError(.providerAnswer, "refused")) }
        if failure >> 3 & 7 == number { throw CancellationError() }
        check(!request.url.isEmpty, "a request without a URL")
        check(request.headers.allSatisfy { !$0.value.utf8.contains(10) && !$0.value.utf8.contains(13) }, "a header with a line end")
        let headers = [
            HTTPField("Date", "Sun, 06 Nov 1994 08:49:37 GMT"), HTTPField("Link", "<https://p.test/2>; rel=\"next\""),
            HTTPField("x", "\u{0}ÿ"), HTTPField("X", ""), HTTPField("", "nameless"),
        ]
        return HTTPReply(status: number == 5 ? 500 : 200, headers: headers, body: bodies[number % bodies.count])
    }

    /// Numbers at every edge, names that repeat, names that are Lua's own, strings with what JSON must escape.
    static let awkward = Array(
        #"""
        {"items":[{"id":1,"n":18446744073709551615,"f":1e400,"t":"\u0000\ud83d\ude00\"\\"},{"id":9223372036854775807,"n":-9223372036854775808,
        "f":-0.0,"x":null},{"id":"24e0","deep":[[[[[[{"a":[]}]]]]]]},[],{},"text",true,null,1.10,0.1e-7,123456789012345678901234567890],
        "items":"again","":{"":""},"__index":{"__gc":1},"$function":1,"next":null,"has_more":true,"n":7,"1":"one","-1":[1,2,3]}
        """#.utf8)
}
