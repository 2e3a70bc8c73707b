import SluiceCore
import SluiceDelivery
import SluiceStore
import Synchronization
import Testing

@testable import SluiceServer

/// Streams whose reader has nothing to read, or does not read.
@Suite struct StreamTests {
    private static func withStream<Value>(stallSeconds: Int, _ body: (JobStream, JobPage) async throws -> Value) async throws -> Value {
        try await ConsumerTests.withConsumers { api, store in
            try await ConsumerTests.commit(store, cycle: 1, keys: ["a"])
            var stream = JobStream(feed: api.parts.jobs) { try await api.triggerNames(containing: $0) }
            (stream.heartbeatSeconds, stream.stallSeconds) = (1, stallSeconds)
            return try await body(stream, try await stream.begin(JobQuery()))
        }
    }

    @Test(.timeLimit(.minutes(10))) func P9_aStreamWithoutNewsSaysThatItIsThere() async throws {
        struct Enough: Error {}
        try await Self.withStream(stallSeconds: 60) { stream, first in
            let comments = Count()
            let begun = ContinuousClock.now
            await #expect(throws: Enough.self) {
                try await stream.run(JobQuery(), from: first) { bytes in
                    guard bytes.first == UInt8(ascii: ":") else { return }
                    if comments.next() == 2 { throw Enough() }
                }
            }
            #expect(begun.duration(to: .now) > .seconds(1), "one after each second without a job")
        }
    }

    @Test(.timeLimit(.minutes(10))) func P10_aReaderThatTakesNothingIsLetGoOf() async throws {
        try await Self.withStream(stallSeconds: 1) { stream, first in
            let error = await #expect(throws: SluiceError.self) {
                try await stream.run(JobQuery(), from: first) { bytes in
                    // The job is never taken.
                    if bytes.starts(with: "id:".utf8) { try await Task.sleep(for: .seconds(3600)) }
                }
            }
            #expect(error?.code == .overloaded && error?.message.contains("took nothing for 1 s") == true)
        }
    }
}

private final class Count: Sendable {
    private let value = Mutex(0)
    func next() -> Int {
        value.withLock { value in
            value += 1
            return value
        }
    }
}
