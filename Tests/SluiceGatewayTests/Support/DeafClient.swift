import Glibc
import Synchronization
import Testing

/// A client that sends and does not read unless told to, on a socket that never waits.
final class DeafClient: Sendable {
    private let socket: Int32
    private struct State {
        var isFull = false
        var isClosed = false
        var answers = 0
        var tail: [UInt8] = []
    }
    private let state = Mutex(State())

    init(port: Int) throws {
        socket = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var size: Int32 = 4096
        setsockopt(socket, SOL_SOCKET, SO_RCVBUF, &size, socklen_t(MemoryLayout<Int32>.size))
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

    /// Whether the last bytes found no room, for two seconds.
    var isFull: Bool { state.withLock(\.isFull) }
    var isClosed: Bool { state.withLock(\.isClosed) }
    /// Answers that were read.
    var answers: Int { state.withLock(\.answers) }

    /// Returns how many bytes went; 0 where there was no room, or the server has closed. Blocks for up to two seconds.
    func send(_ bytes: [UInt8]) -> Int {
        for _ in 0..<200 {
            let count = Glibc.send(socket, bytes, bytes.count, Int32(MSG_NOSIGNAL))
            if count >= 0 {
                state.withLock { $0.isFull = false }
                return count
            }
            guard errno == EAGAIN else {
                state.withLock { $0.isClosed = true }
                return 0
            }
            usleep(10_000)
        }
        state.withLock { $0.isFull = true }
        return 0
    }

    /// Returns whether there was anything to read.
    @discardableResult func readSome() -> Bool {
        var chunk = [UInt8](repeating: 0, count: 1 << 16)
        let count = Glibc.read(socket, &chunk, chunk.count)
        guard count > 0 else { return false }
        let mark = Array("HTTP/1.1 404".utf8)
        state.withLock { state in
            let all = state.tail + chunk[..<count]
            var (found, index) = (0, 0)
            while index + mark.count <= all.count {
                let isAnswer = all[index] == mark[0] && all[index..<index + mark.count].elementsEqual(mark)
                if isAnswer { found += 1 }
                index += isAnswer ? mark.count : 1
            }
            state.answers += found
            state.tail = Array(all[max(index, all.count - mark.count + 1)...])
        }
        return true
    }

    /// Reads until so many answers have come, or nothing has for `seconds`. Blocks.
    func read(answers count: Int, seconds: Int) {
        var end = ContinuousClock.now + .seconds(seconds)
        while answers < count, ContinuousClock.now < end {
            if readSome() { end = ContinuousClock.now + .seconds(seconds) } else { usleep(1000) }
        }
    }

    func close() { _ = Glibc.close(socket) }
}
