import SluiceCore
import SluicePolling
import SluiceStore
import SluiceTesting
import Synchronization
import Testing

/// What a provider does wrong, and what the trigger's reader is told.
struct ProviderFault: Sendable, CustomTestStringConvertible {
    var testDescription: String
    /// Given the page that would have been right.
    var answer: @Sendable (FeedServer.Request) -> FeedServer.Answer
    var words: String

    init(_ name: String, _ words: String, _ answer: @escaping @Sendable (FeedServer.Request) -> FeedServer.Answer) {
        (testDescription, self.words, self.answer) = (name, words, answer)
    }

    static let right = FeedServer.pageBody(after: 3, of: 6)

    static let all: [ProviderFault] = [
        ProviderFault("hangs", "no whole answer from the provider within 2000 ms") { _ in .silence },
        ProviderFault("hangs in the body", "no whole answer from the provider within 2000 ms") { _ in
            .raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", closes: false)
        },
        ProviderFault("closes at once", "no whole answer from the provider") { _ in .raw("", closes: true) },
        ProviderFault("closes in the head", "no whole answer from the provider") { _ in .raw("HTTP/1.1 200 OK\r\nConte", closes: true) },
        ProviderFault("says a greater length", "no whole answer from the provider") { _ in
            .raw("HTTP/1.1 200 OK\r\nContent-Length: \(right.utf8.count + 50)\r\n\r\n" + right, closes: true)
        },
        ProviderFault("says a greater length and waits", "no whole answer from the provider within 2000 ms") { _ in
            .raw("HTTP/1.1 200 OK\r\nContent-Length: \(right.utf8.count + 50)\r\n\r\n" + right, closes: false)
        },
        ProviderFault("says a smaller length", "JSON") { _ in
            .raw("HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n" + right, closes: false)
        },
        ProviderFault("does not speak HTTP", "the answer is not HTTP: is this the right port") { _ in
            .raw("220 mail.example.com ESMTP\r\n", closes: true)
        },
        ProviderFault("answers HTML", "JSON") { _ in .whole("200 OK", "<html><body>Down for maintenance</body></html>", type: "text/html")
        },
        ProviderFault("answers nothing", "JSON") { _ in .whole("200 OK", "") },
        ProviderFault("answers 500", "status=500") { _ in .whole("500 Internal Server Error", "{}") },
        ProviderFault("answers 503", "status=503") { _ in .whole("503 Service Unavailable", "<html>", headers: ["Retry-After: 7"]) },
        ProviderFault("answers 404", "404") { _ in .whole("404 Not Found", "{\"error\":\"no such list\"}") },
        ProviderFault("never ends", "larger than 100000 bytes") { _ in
            .endless("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
        },
        ProviderFault("says it is endless", "larger than 100000 bytes") { _ in
            .raw("HTTP/1.1 200 OK\r\nContent-Length: 9000000000\r\n\r\n{", closes: false)
        },
        ProviderFault("redirects for ever", "redirects more than 5 times") { _ in
            .whole("302 Found", "", headers: ["Location: /items?after=0"])
        },
        ProviderFault("redirects to nowhere", "without saying where") { _ in .whole("301 Moved Permanently", "") },
    ]
}

@Suite struct ProviderFaultTests {
    /// Three items are jobs; the provider breaks; three more appear at it; it says so where people look; it recovers.
    @Test(arguments: ProviderFault.all)
    func P2_aBrokenProviderIsNamedAndLosesNothing(fault: ProviderFault) async throws {
        let time = ManualTime()
        let server = FeedServer(clock: time)
        server.add(3)
        try await server.with {
            var connection = BenchConnection(connector: try feed(), url: server.url)
            // Where the end of the wait is what is seen.
            if fault.words.contains("2000 ms") { connection.settings.requestSpanMax = .seconds(2) }
            try await Bench.with([connection], time: time, limits: .init(pageBytesMax: 100_000)) { bench in
                try await waitUntil("3 jobs") { try await bench.keys() == server.keys }
                server.setFault(fault.answer)
                server.add(3)
                try await bench.pollNow()
                try await waitUntil("a failure") { try await bench.trigger().progress.failures > 0 }
                try await waitUntil("the alarm") { bench.alarms.message(.triggerFailing, "trigger items") != nil }
                let trigger = try await bench.trigger()
                let error = try #require(trigger.progress.lastError)
                #expect(error.contains(fault.words), "\(error)")
                let alarm = try #require(bench.alarms.message(.triggerFailing, "trigger items"))
                #expect(alarm.contains("the next try is at"), "\(alarm)")
                #expect(!error.contains(BenchConnection.key) && !alarm.contains(BenchConnection.key), "no secret is told")
                #expect(try await bench.keys() == ["i1", "i2", "i3"], "the jobs stay, and nothing is made of garbage")
                #expect(trigger.state == .running)
                server.setFault(nil)
                try await bench.advanceUntil("6 jobs") { try await bench.keys().count >= 6 }
                #expect(try await bench.keys() == server.keys, "nothing is missing and nothing doubled")
                try await waitUntil("all is well") { bench.alarms.message(.triggerFailing, "trigger items") == nil }
                let after = try await bench.trigger().progress
                #expect(after.lastError == nil && after.failures == 0)
            }
        }
    }

    /// A page in the middle fails: the cycle goes on from there.
    @Test func P3_aFaultBetweenTwoPagesGoesOnWhereItStopped() async throws {
        let time = ManualTime()
        let server = FeedServer(clock: time)
        server.add(9)
        server.setFault { $0.after == 4 ? .whole("502 Bad Gateway", "") : nil }
        try await server.with {
            try await Bench.with([BenchConnection(connector: try feed(), url: server.url)], time: time) { bench in
                try await waitUntil("a failure") { try await bench.trigger().progress.failures > 0 }
                #expect(try await bench.keys() == ["i1", "i2", "i3", "i4"])
                let before = server.requests.count
                server.setFault(nil)
                try await bench.advanceUntil("9 jobs") { try await bench.keys().count >= 9 }
                #expect(try await bench.keys() == server.keys)
                #expect(server.requests.dropFirst(before).first?.after == 4, "no page is read again that was committed")
            }
        }
    }

    /// A long list whose every page fails once: each try gets further, so that none waits longer than the one before.
    @Test func P2_whatGetsFurtherDoesNotWaitLonger() async throws {
        let time = ManualTime()
        let server = FeedServer(clock: time)
        server.add(16)
        let seen = Mutex<[Int: Int]>([:])
        server.setFault { request in
            let count = seen.withLock { seen in
                seen[request.after, default: 0] += 1
                return seen[request.after, default: 0]
            }
            return count == 1 ? .whole("500 Internal Server Error", "{}") : nil
        }
        try await server.with {
            try await Bench.with([BenchConnection(connector: try feed(), url: server.url)], time: time) { bench in
                // Slower than a slice yields, so that a page that was asked for ahead is seen to fail.
                try await waitUntil("16 jobs") {
                    bench.advance(by: .seconds(1))
                    return try await bench.keys() == server.keys
                }
                let waits = bench.store.waits
                #expect(!waits.isEmpty && waits.allSatisfy { $0 <= Backoff.delayFirst }, "\(waits)")
            }
        }
    }

    /// The same page again and again: each failure waits longer.
    @Test func P2_whatGetsNoFurtherWaitsLonger() async throws {
        let time = ManualTime()
        let server = FeedServer(clock: time)
        server.add(16)
        server.setFault { $0.after >= 4 ? .whole("500 Internal Server Error", "{}") : nil }
        try await server.with {
            try await Bench.with([BenchConnection(connector: try feed(), url: server.url)], time: time) { bench in
                try await bench.advanceUntil("5 failures") { bench.store.waits.count >= 5 }
                let waits = bench.store.waits.prefix(5)
                #expect(zip(waits.dropFirst(), waits.dropFirst(2)).allSatisfy { $1 >= $0 * 2 }, "\(waits)")
            }
        }
    }
}
