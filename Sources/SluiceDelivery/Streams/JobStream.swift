import SluiceCore
import SluiceStore
import Synchronization

/// Jobs as Server-Sent Events (WHATWG HTML, 9.2): one event a job, its `id` the token to resume from.
///
/// No more is read from the store than the reader takes: a page is read when the one before is written. A reader that takes
/// nothing for `stallSeconds` is let go of. Ends with the server, with the reader, and where the reader fell behind retention:
/// then with an event `error`.
public struct JobStream: Sendable {
    public typealias Names = @Sendable ([StoredJob]) async throws -> [TriggerID: JobJSON.TriggerNames]
    public typealias Write = @Sendable ([UInt8]) async throws -> Void

    /// A comment goes out after so long without a job, so that both sides notice a connection that is gone.
    public var heartbeatSeconds = 15
    public var stallSeconds = 60
    /// Records of one page. A larger record comes alone.
    public var pageBytesMax = 64 * 1024
    /// After how long a client connects again, in milliseconds.
    static let retryMilliseconds = 3000

    private let feed: JobFeed
    private let names: Names

    public init(feed: JobFeed, names: @escaping Names) {
        self.feed = feed
        self.names = names
    }

    /// The first page, so that what is wrong with the request is an answer rather than a stream that breaks off.
    public func begin(_ query: JobQuery) async throws -> JobPage { try await feed.read(bounded(query)) }

    /// Writes until the end. Throws what `write` throws, and `.overloaded` for a reader that takes nothing.
    public func run(_ query: JobQuery, from first: JobPage, write: @escaping Write) async throws {
        let progress = Progress()
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                try await follow(query, from: first) { bytes in
                    try await write(bytes)
                    progress.note()
                }
            }
            group.addTask {
                while true {
                    try await Task.sleep(for: .seconds(max(1, stallSeconds / 4)))
                    guard progress.last.duration(to: .now) < .seconds(stallSeconds + heartbeatSeconds) else {
                        throw SluiceError(.overloaded, "the reader of a stream took nothing for \(stallSeconds) s")
                    }
                }
            }
            _ = try await group.next()
            group.cancelAll()
        }
    }

    private func follow(_ query: JobQuery, from first: JobPage, write: Write) async throws {
        try await write(Array("retry: \(JobStream.retryMilliseconds)\n\n".utf8))
        var (query, page) = (bounded(query), first)
        while !Task.isCancelled {
            if page.jobs.isEmpty {
                if feed.isStopped { return }
                try await write(Array(": nothing new\n\n".utf8))
            } else {
                try await write(try JobStream.events(page.jobs, try await names(page.jobs)))
            }
            query.after = page.next
            do {
                page = try await feed.read(query, waitSeconds: heartbeatSeconds)
            } catch let error as SluiceError {
                return try await write(JobStream.failure(error))
            }
        }
    }

    private func bounded(_ query: JobQuery) -> JobQuery {
        var query = query
        query.bytesMax = pageBytesMax
        return query
    }

    // MARK: Events

    static func events(_ jobs: [StoredJob], _ names: [TriggerID: JobJSON.TriggerNames]) throws(SluiceError) -> [UInt8] {
        var bytes: [UInt8] = []
        for job in jobs {
            guard let trigger = names[job.trigger] else {
                throw SluiceError(.internalError, "A job belongs to trigger number \(job.trigger), which is not known yet; ask again.")
            }
            var json: [UInt8] = []
            JobJSON.write(job, triggerName: trigger.name, uid: trigger.uid, into: &json)
            bytes += "id: \(job.token)\nevent: job\n".utf8
            append(json, to: &bytes)
        }
        return bytes
    }

    static func failure(_ error: SluiceError) -> [UInt8] {
        var writer = JSONWriter()
        writer.object { writer in
            writer.key("error")
            writer.object { writer in
                writer.member("code", error.code.rawValue)
                writer.member("message", error.message)
                writer.key("context")
                writer.object { writer in for (key, value) in error.context.sorted(by: { $0.key < $1.key }) { writer.member(key, value) } }
            }
        }
        var bytes = Array("event: error\n".utf8)
        append(writer.bytes, to: &bytes)
        return bytes
    }

    /// A line of data for each line of the text: line ends inside a record are white space between its values.
    private static func append(_ data: [UInt8], to bytes: inout [UInt8]) {
        bytes += "data: ".utf8
        var isAfterReturn = false
        for byte in data {
            let isEnd = byte == 0x0A || byte == 0x0D
            if isEnd {
                if !(byte == 0x0A && isAfterReturn) { bytes += "\ndata: ".utf8 }
            } else {
                bytes.append(byte)
            }
            isAfterReturn = byte == 0x0D
        }
        bytes += "\n\n".utf8
    }
}

/// When a stream's reader took something last.
private final class Progress: Sendable {
    private let at = Mutex(ContinuousClock.now)
    var last: ContinuousClock.Instant { at.withLock { $0 } }
    func note() { at.withLock { $0 = .now } }
}
