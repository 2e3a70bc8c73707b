import Logging
import ServiceLifecycle
import SluiceCore
import SluiceDelivery
import SluiceStore
import Synchronization
import Testing

@testable import SluiceServer

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// Callers that hang up while they wait, on the real listener.
@Suite(.timeLimit(.minutes(10))) struct CallerTests {
    enum End: CaseIterable, Sendable { case closed, reset, halfClosed }

    @Test(arguments: End.allCases) func P9_whoHangsUpWhileItWaitsTakesNoJobs(_ end: End) async throws {
        try await Self.withServer { port, api, store in
            let client = try RawClient(port: port)
            defer { client.close() }
            client.send("POST", "/v1/consumers/billing/fetch", body: #"{"wait":60,"worker":"gone"}"#)
            try await Self.eventually("it waits") { api.parts.consumers.waiting == 1 }
            client.end(end)
            try await Self.eventually("its wait ends") { api.parts.consumers.waiting == 0 }
            try await ConsumerTests.commit(store, cycle: 1, keys: ["a", "b"])
            let (_, jobs) = try await ConsumerTests.fetch(api, #"{"max":10}"#)
            #expect(jobs.map { $0["attempt"]?.int64 } == [1, 1], "they go to the next, and it was no attempt")
            guard end == .halfClosed else { return }
            let answer = try await client.answer()
            #expect(answer.hasPrefix("HTTP/1.1 400") && answer.contains("keep it open until the answer is there"), "\(answer)")
        }
    }

    /// A worker that has its answer may close as it likes, and one that closes its own direction and does not wait is answered.
    @Test func aHalfClosedFetchThatNeedNotWaitIsAnswered() async throws {
        try await Self.withServer { port, api, store in
            try await ConsumerTests.commit(store, cycle: 1, keys: ["a"])
            let client = try RawClient(port: port)
            defer { client.close() }
            client.send("POST", "/v1/consumers/billing/fetch", body: "{}")
            client.end(.halfClosed)
            let answer = try await client.answer()
            #expect(answer.hasPrefix("HTTP/1.1 200") && answer.contains(#""attempt":1"#), "\(answer)")
            let standing = await api.ask("GET", "/v1/consumers/billing").text
            #expect(standing.contains(#""in_hand":1"#), "\(standing)")
        }
    }

    @Test(arguments: ["/v1/jobs?wait=60", "/v1/jobs/stream"], End.allCases)
    func longPollsAndStreamsEndWithTheirReader(_ path: String, _ end: End) async throws {
        try await Self.withServer { port, api, _ in
            let client = try RawClient(port: port)
            defer { client.close() }
            client.send("GET", path)
            try await Self.eventually("it waits") { api.parts.jobs.waiting == 1 }
            client.end(end)
            try await Self.eventually("its wait ends") { api.parts.jobs.waiting == 0 }
        }
    }

    /// One that waited in vain asks again over the same connection.
    @Test func aConnectionOutlivesItsWaits() async throws {
        try await Self.withServer { port, api, store in
            let client = try RawClient(port: port)
            defer { client.close() }
            for cycle in 1...3 {
                client.send("POST", "/v1/consumers/billing/fetch", body: #"{"wait":60}"#)
                try await Self.eventually("it waits") { api.parts.consumers.waiting == 1 }
                try await ConsumerTests.commit(store, cycle: Int64(cycle), keys: ["k\(cycle)"])
                let answer = try await client.answer(until: "\"at_bound\":false}\n")
                #expect(answer.contains(#""dedup_key":"k\#(cycle)""#) && answer.contains(#""attempt":1"#), "\(answer)")
            }
        }
    }

    /// Whose answer lies half in the system's buffers when its connection breaks gets nothing: the jobs go back at once.
    @Test func P9_whatCannotBeWrittenIsGivenBackAtOnce() async throws {
        try await Self.withServer { port, api, store in
            let large = String(repeating: "x", count: 1 << 20)
            try await ConsumerTests.commit(store, cycle: 1, keys: (0..<12).map { "k\($0)" }) { "{\"id\":\"\($0)\",\"text\":\"\(large)\"}" }
            let client = try RawClient(port: port, receivesAtMost: 4096)
            defer { client.close() }
            client.send("POST", "/v1/consumers/billing/fetch", body: #"{"max":100,"visibility":3600}"#)
            try await Self.eventually("it has jobs in hand") {
                await !api.ask("GET", "/v1/consumers/billing").text.contains(#""in_hand":0"#)
            }
            client.end(.reset)
            try await Self.eventually("they are given back") {
                await api.ask("GET", "/v1/consumers/billing").text.contains(#""in_hand":0"#)
            }
            let (_, jobs) = try await ConsumerTests.fetch(api, #"{"max":1}"#)
            #expect(jobs.first?["attempt"]?.int64 == 1)
        }
    }

    // MARK: Support

    static func withServer(_ body: (Int, API, any Store) async throws -> Void) async throws {
        try await Fixture.withAPI(localToken: "caller") { api, store in
            #expect(await api.apply(ConsumerTests.manifest).status == 200)
            store.observe(api.parts.consumers)
            store.observe(api.parts.jobs)
            let (ports, bound) = AsyncStream.makeStream(of: Int.self)
            let quiet = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
            let server = APIServer(
                api: api, host: "127.0.0.1", port: 0, logger: quiet, onBound: { bound.yield($0) },
                onShutdown: {
                    api.parts.jobs.stopWaiting()
                    api.parts.consumers.stopWaiting()
                })
            let group = ServiceGroup(configuration: ServiceGroupConfiguration(services: [.init(service: server)], logger: quiet))
            try await withThrowingTaskGroup(of: Void.self) { tasks in
                tasks.addTask { try await group.run() }
                tasks.addTask { await api.parts.consumers.run() }
                var iterator = ports.makeAsyncIterator()
                let port = try #require(await iterator.next())
                do {
                    try await body(port, api, store)
                } catch {
                    await group.triggerGracefulShutdown()
                    tasks.cancelAll()
                    throw error
                }
                await group.triggerGracefulShutdown()
                tasks.cancelAll()
            }
        }
    }

    static func eventually(_ what: Comment, _ condition: () async throws -> Bool) async throws {
        let deadline = ContinuousClock.now + .seconds(40)
        while ContinuousClock.now < deadline {
            if try await condition() { return }
            try await Task.sleep(for: .milliseconds(5))
        }
        try #require(Bool(false), what)
    }
}

/// A connection that does what a test says, and no more.
final class RawClient: Sendable {
    private let socket: Int32
    private let isClosed = Mutex(false)

    init(port: Int, receivesAtMost: Int32? = nil) throws {
        socket = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        if var size = receivesAtMost { setsockopt(socket, SOL_SOCKET, SO_RCVBUF, &size, socklen_t(MemoryLayout<Int32>.size)) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(port).bigEndian
        address.sin_addr.s_addr = inet_addr("127.0.0.1")
        let isConnected = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(socket, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
            }
        }
        try #require(isConnected)
        _ = fcntl(socket, F_SETFL, O_NONBLOCK)
    }

    func send(_ method: String, _ path: String, body: String = "") {
        let text = """
            \(method) \(path) HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer caller\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)
            """
        send(text)
    }

    func send(_ text: String) {
        let bytes = Array(text.utf8)
        #expect(Glibc.send(socket, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count)
    }

    func end(_ end: CallerTests.End) {
        switch end {
        case .halfClosed: shutdown(socket, Int32(SHUT_WR))
        case .closed: close()
        case .reset:
            var linger = linger(l_onoff: 1, l_linger: 0)
            setsockopt(socket, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout<linger>.size))
            close()
        }
    }

    func close() {
        let isFirst = isClosed.withLock { isClosed in
            defer { isClosed = true }
            return !isClosed
        }
        if isFirst { _ = Glibc.close(socket) }
    }

    /// What has come once it holds `mark`; nil: once the connection ends.
    func answer(until mark: String? = nil) async throws -> String {
        var all: [UInt8] = []
        try await CallerTests.eventually("an answer") {
            var chunk = [UInt8](repeating: 0, count: 65_536)
            let count = read(socket, &chunk, chunk.count)
            if count > 0 { all += chunk[..<count] }
            return mark.map { String(decoding: all, as: UTF8.self).contains($0) } ?? (count == 0)
        }
        return String(decoding: all, as: UTF8.self)
    }
}
