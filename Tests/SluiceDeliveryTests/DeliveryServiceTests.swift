import Crypto
import Foundation
import NIOCore
import NIOPosix
import SluiceConnectors
import SluiceCore
import SluiceStore
import Synchronization
import Testing

@testable import SluiceDelivery

@Suite(.timeLimit(.minutes(10))) struct DeliveryServiceTests {
    let store = FakeStore()
    let clock = TestClock()
    let first = DestinationID(1)

    /// Standard Webhooks by the specification's text, apart from the code that signs.
    private func isSigned(_ request: Sink.Request, secret: String, index: Int = 0) throws -> Bool {
        let key = try #require(Data(base64Encoded: String(secret.dropFirst(6))))
        let id = try #require(request.header("webhook-id"))
        let time = try #require(request.header("webhook-timestamp"))
        let header = try #require(request.header("webhook-signature"))
        let content = Data("\(id).\(time).".utf8) + Data(request.body)
        let parts = header.split(separator: " ").map { $0.split(separator: ",", maxSplits: 1).map(String.init) }
        guard parts.indices.contains(index), parts[index].first == "v1", let code = Data(base64Encoded: parts[index][1]) else {
            return false
        }
        return HMAC<SHA256>.isValidAuthenticationCode(code, authenticating: content, using: SymmetricKey(data: key))
    }

    @Test func P9_intendedIsDelivered() async throws {
        try await Sink.with({ _, _ in .answer(204) }) { sink in
            let other = "whsec_" + Data((0..<32).map { UInt8($0) }).base64EncodedString()
            var plan = pushDestination(url: sink.url, secrets: [other, testSecret])
            plan.headers = [HTTPField("x-key", "v"), HTTPField("Webhook-Id", "forged"), HTTPField("Content-Length", "1")]
            let target = try destination(1, plan)
            let before = store.commit("before@1", to: [first], at: clock.now())[0]
            try await withDelivery(store, [target], clock: clock) { _ in
                try await eventually("delivered") { store.delivery(before).state == .delivered }
                let later = store.commit("later@1", to: [first], at: clock.now())[0]
                try await eventually("delivered") { store.delivery(later).state == .delivered }
            }
            let request = try #require(sink.requests.first)
            #expect(sink.requests.count == 2)
            #expect(request.path == "/hook?a=b")
            #expect(request.headers["webhook-id"] == [JobIdentity.id(uid: "uid1", dedupKey: Array("before@1".utf8))])
            #expect(request.header("content-type") == "application/json")
            #expect(request.header("user-agent") == "Sluice")
            #expect(request.header("x-key") == "v")
            #expect(request.header("host") == "127.0.0.1:\(sink.port)")
            #expect(request.headers["content-length"] == [String(request.body.count)])
            #expect(try isSigned(request, secret: other, index: 0))
            #expect(try isSigned(request, secret: testSecret, index: 1))
            #expect(try !isSigned(request, secret: testSecret, index: 0))
            #expect(request.body == JobJSON.pushBody(store.delivery(before).claimed.job, triggerName: "orders", uid: "uid1"))
            #expect(store.attempts(before).map(\.status) == [204])
        }
    }

    @Test(arguments: [301, 302, 307, 308, 400, 401, 404, 429, 500, 503]) func failuresAreTriedAgain(_ status: Int) async throws {
        try await Sink.with({ number, _ in
            number == 0 ? .answer(status, [("location", "/elsewhere"), ("retry-after", "0")], Array("why".utf8)) : .answer(200)
        }) { sink in
            let id = store.commit("a", to: [first], at: clock.now())[0]
            try await withDelivery(store, [try destination(url: sink.url)], clock: clock) { _ in
                try await eventually("delivered") { store.delivery(id).state == .delivered }
            }
            #expect(store.attempts(id).map(\.status) == [status, 200])
            #expect(store.attempts(id)[0].response == Array("why".utf8))
            #expect(store.attempts(id)[0].error?.contains(String(status)) == true)
            // The id and the body stay, and a redirect is not followed.
            #expect(Set(sink.requests.map { $0.header("webhook-id")! }).count == 1)
            #expect(Set(sink.requests.map(\.body)).count == 1)
            #expect(sink.requests.map(\.path) == ["/hook?a=b", "/hook?a=b"])
        }
    }

    /// A receiver that repeats its request in the answer: what is kept of it holds no secret.
    @Test func whatAReceiverRepeatsOfItsSecretsIsNotKept() async throws {
        let (password, key) = ("sink-header-canary/1", "url-part-canary-123456")
        try await Sink.with({ _, request in
            let shown = request.headers.map { "\($0.name): \($0.value)\n" }.joined()
            let text = "\(request.path)\n\(shown)\(testSecret)\n\(testSecret.dropFirst(6))"
            return .answer(400, [], Array(text.utf8))
        }) { sink in
            let id = store.commit("a", to: [first], at: clock.now())[0]
            var plan = pushDestination(url: sink.url + "&key=" + key)
            plan.headers = [HTTPField("Authorization", "Bearer " + password), HTTPField("X-Token", "another-" + password)]
            let target = try destination(1, plan)
            try await withDelivery(store, [target], clock: clock) { _ in
                try await eventually("an attempt") { !store.attempts(id).isEmpty }
            }
            let attempt = store.attempts(id)[0]
            let kept = String(decoding: attempt.response, as: UTF8.self) + (attempt.error ?? "")
            #expect(sink.requests[0].path.contains(key) && sink.requests[0].header("authorization") == "Bearer " + password)
            for hidden in [password, key, String(testSecret.dropFirst(6))] {
                #expect(!kept.contains(hidden) && !kept.contains(hidden.dropLast(4)), "\(kept)")
            }
            #expect(kept.hasPrefix("/hook?a=b&key=[secret]\n") && kept.contains("webhook-id: "), "the rest stays: \(kept)")
        }
    }

    @Test func P9_deadLetterAfterTheScheduleCanBeReplayed() async throws {
        let alarms = TestAlarms()
        let works = Mutex(false)
        try await Sink.with({ _, _ in works.withLock { $0 } ? .answer(200) : .answer(500) }) { sink in
            let id = store.commit("a", to: [first], at: clock.now())[0]
            let retries: [Span] = [.milliseconds(5), .milliseconds(10), .milliseconds(20)]
            try await withDelivery(store, [try destination(url: sink.url, retries: retries)], clock: clock, alarms: alarms) { _ in
                try await eventually("dead") { store.delivery(id).state == .dead }
                #expect(store.delivery(id).reason == "exhausted")
                #expect(store.attempts(id).map(\.status) == [500, 500, 500, 500])
                try await eventually("alarm") { !alarms.all.isEmpty }
                #expect(alarms.all.map(\.kind) == [.deadLetters])
                #expect(alarms.all.map(\.subject) == ["destination d1"])
                works.withLock { $0 = true }
                _ = try await store.replayDeadLetters(.default, destination: nil, delivery: id, at: clock.now())
                try await eventually("replayed") { store.delivery(id).state == .delivered }
            }
            #expect(Set(sink.requests.map { $0.header("webhook-id")! }).count == 1)
        }
    }

    @Test func goneDisablesTheDestination() async throws {
        let told = Mutex<[DestinationID]>([])
        try await Sink.with({ _, _ in .answer(410) }) { sink in
            let id = store.commit("a", to: [first], at: clock.now())[0]
            let target = try destination(url: sink.url)
            try await withDelivery(store, [target], clock: clock, gone: { id, _, _ in told.withLock { $0.append(id) } }) { service in
                try await eventually("dead") { store.delivery(id).state == .dead }
                #expect(store.delivery(id).reason == "gone")
                let later = store.commit("b", to: [first], at: clock.now())[0]
                service.update(destinations: [target], triggers: [TriggerID(1): (name: "orders", uid: "uid1")])
                try await Sink.with({ _, _ in .answer(200) }) { healthy in
                    // The URL is another one: it may be tried again.
                    #expect(sink.requests.count == 1)
                    service.update(
                        destinations: [try destination(url: healthy.url)], triggers: [TriggerID(1): (name: "orders", uid: "uid1")])
                    try await eventually("delivered") { store.delivery(later).state == .delivered }
                }
            }
            #expect(sink.requests.count == 1)
            #expect(told.withLock { $0 } == [first])
        }
    }

    @Test func retryAfterPutsTheDestinationOff() async throws {
        try await Sink.with({ number, _ in number == 0 ? .answer(429, [("Retry-After", "600")]) : .answer(200) }) { sink in
            let id = store.commit("a", to: [first], at: clock.now())[0]
            try await withDelivery(store, [try destination(url: sink.url, atOnce: 1)], clock: clock) { service in
                try await eventually("put off") { store.attempts(id).count == 1 }
                let asked = store.delivery(id).dueAt - store.attempts(id)[0].at
                #expect(asked >= .seconds(600) && asked < .seconds(660))
                let other = store.commit("b", to: [first], at: clock.now())[0]
                clock.advance(.seconds(601))
                service.deliveriesIntended()
                try await eventually("both delivered") { [id, other].allSatisfy { store.delivery($0).state == .delivered } }
            }
            let second = try #require(store.state.withLock { $0.attempts.dropFirst().first })
            #expect(second.at - store.attempts(id)[0].at >= .seconds(600))
        }
    }

    @Test func aHangIsCutOff() async throws {
        try await Sink.with({ number, _ in number == 0 ? .hang : .answer(200) }) { sink in
            let id = store.commit("a", to: [first], at: clock.now())[0]
            try await withDelivery(store, [try destination(url: sink.url, timeoutSeconds: 5)], clock: clock) { _ in
                try await eventually("delivered") { store.delivery(id).state == .delivered }
            }
            #expect(store.attempts(id).map(\.status) == [nil, 200])
            #expect(store.attempts(id)[0].error == "no answer within 5 s")
            #expect(store.attempts(id)[0].durationMilliseconds >= 5000)
        }
    }

    @Test func aResetAndARefusalAreTriedAgain() async throws {
        try await Sink.with({ number, _ in number == 0 ? .reset : .answer(200) }) { sink in
            let id = store.commit("a", to: [first], at: clock.now())[0]
            try await withDelivery(store, [try destination(url: sink.url)], clock: clock) { _ in
                try await eventually("delivered") { store.delivery(id).state == .delivered }
            }
            #expect(store.attempts(id).map(\.status) == [nil, 200])
            #expect(store.attempts(id)[0].error?.contains("connection") == true)
        }
        // Nobody listens on port 1.
        let id = store.commit("b", to: [first], at: clock.now())[0]
        try await withDelivery(store, [try destination(url: "http://127.0.0.1:1/", retries: [])], clock: clock) { _ in
            try await eventually("dead") { store.delivery(id).state == .dead }
        }
        #expect(store.attempts(id)[0].error == "the connection was refused")
    }

    @Test(arguments: ["220 mail.example.com ESMTP\r\n", "SSH-2.0-OpenSSH_9.7\r\n", "\u{15}\u{3}\u{1}\u{0}\u{2}\u{2}\u{50}"])
    func whoeverDoesNotSpeakHTTPIsNamedSo(_ greeting: String) async throws {
        let server = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(Greeter(greeting: greeting)) }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        let id = store.commit("a", to: [first], at: clock.now())[0]
        let port = try #require(server.localAddress?.port)
        try await withDelivery(store, [try destination(url: "http://127.0.0.1:\(port)/", retries: [])], clock: clock) { _ in
            try await eventually("dead") { store.delivery(id).state == .dead }
        }
        try await server.close()
        #expect(store.attempts(id)[0].error == "the answer is not HTTP: is this the right port, or does it want TLS (https)?")
    }

    @Test func P10_aHugeAnswerIsCutOff() async throws {
        try await Sink.with({ _, _ in .endless }) { sink in
            let id = store.commit("a", to: [first], at: clock.now())[0]
            try await withDelivery(store, [try destination(url: sink.url)], clock: clock) { _ in
                try await eventually("delivered") { store.delivery(id).state == .delivered }
            }
            #expect(store.attempts(id)[0].response == Array(repeating: UInt8(ascii: "z"), count: 4096))
            // 64 KiB are read; the rest lies between the two sockets, in buffers of 4 and 6 MiB at most unless the system is set otherwise.
            let sent = sink.bytesSent
            #expect(sent < 12 * 1024 * 1024, "\(sent) bytes")
        }
    }

    @Test func aDribblingAnswerCountsByItsStatus() async throws {
        try await Sink.with({ _, _ in .dribble }) { sink in
            let id = store.commit("a", to: [first], at: clock.now())[0]
            try await withDelivery(store, [try destination(url: sink.url, timeoutSeconds: 15)], clock: clock) { _ in
                try await eventually("delivered") { store.delivery(id).state == .delivered }
            }
            #expect(store.attempts(id)[0].response == [UInt8(ascii: "x")])
        }
    }

    @Test(arguments: ["http://127.0.0.1:PORT/", "http://localhost:PORT/", "http://[::ffff:127.0.0.1]:PORT/", "http://127.1:PORT/"])
    func privateAddressesAreRefused(_ url: String) async throws {
        try await Sink.with({ _, _ in .answer(200) }) { sink in
            let id = store.commit("a", to: [first], at: clock.now())[0]
            let url = url.replacing("PORT", with: String(sink.port))
            try await withDelivery(store, [try destination(url: url, allowsPrivate: false, retries: [])], clock: clock) { _ in
                try await eventually("dead") { store.delivery(id).state == .dead }
            }
            #expect(sink.requests.isEmpty)
            #expect(store.attempts(id)[0].error?.contains("allow_private") == true)
        }
    }

    @Test func namesAreResolvedAndKeptInTheHostHeader() async throws {
        try await Sink.with({ _, _ in .answer(200) }) { sink in
            let id = store.commit("a", to: [first], at: clock.now())[0]
            let url = "http://LOCALHOST:\(sink.port)/x"
            try await withDelivery(store, [try destination(url: url, retries: Array(repeating: .milliseconds(5), count: 5))], clock: clock)
            {
                _ in
                // localhost may resolve to ::1 first, where nobody listens: then the next address is taken.
                try await eventually("delivered") { store.delivery(id).state == .delivered }
            }
            #expect(sink.requests.first?.header("host") == "localhost:\(sink.port)")
        }
    }

    @Test func badSettingsAreShownNotSent() async throws {
        try await Sink.with({ _, _ in .answer(200) }) { sink in
            let bad = try destination(url: sink.url, secrets: ["whsec_***"], retries: [])
            #expect(throws: SluiceError.self) { try bad.validate() }
            #expect(throws: SluiceError.self) { try destination(url: sink.url, secrets: []).validate() }
            #expect(throws: SluiceError.self) { try destination(url: sink.url, allowsPrivate: false).validate() }
            try destination(url: sink.url).validate()
            let id = store.commit("a", to: [first], at: clock.now())[0]
            try await withDelivery(store, [bad], clock: clock) { _ in
                try await eventually("dead") { store.delivery(id).state == .dead }
            }
            #expect(sink.requests.isEmpty)
            #expect(store.attempts(id)[0].error?.contains("***") == false)
        }
    }

    // MARK: Batches, filters, couriers

    @Test func aCallCarriesABatchAndEachJobGetsItsOwnAnswer() async throws {
        let script = Script(batchMax: 10) { number, parcels in
            parcels.map { parcel in
                switch parcel.job.position.rawValue {
                case 3 where parcel.attempt == 1: CourierAnswer(.failed, status: 75, error: "later")
                case 4: CourierAnswer(.refused(reason: "rejected"), status: 65, error: "no")
                default: CourierAnswer(.delivered, status: 0)
                }
            }
        }
        for number in 1...40 { store.commit("k\(number)", to: [first], at: clock.now()) }
        try await withDelivery(store, [try destination(1, ScriptedPlan(script: script), atOnce: 1)], clock: clock) { service in
            try await eventually("settled") { store.count(.pending) == 0 }
            try await eventually("counted") { service.counters == .init(delivered: 39, retried: 1, dead: 1, filtered: 0) }
        }
        #expect(script.batches.map(\.count).max() == 10)
        #expect(script.batches.first?.map(\.job.position.rawValue) == Array(1...10))
        #expect(script.batches.joined().count == 41)
        #expect(store.attempts(3).map(\.status) == [75, 0])
        #expect(store.delivery(4).reason == "rejected")
        #expect(script.closed == 1)
    }

    @Test func aFilterSettlesWhatItLeavesOutAndWhatItFailsOnIsADeadLetter() async throws {
        struct Sieve: JobSieve {
            func sift(_ job: StoredJob) throws(SluiceError) -> Sifted {
                switch job.position.rawValue {
                case 1: return .skip
                case 2: throw SluiceError(.invalid, "line 1: attempt to compare nil with number")
                case 3: return .pass(record: Array("{\"n\":1.50}".utf8), isProjected: true)
                default: return .pass(record: job.record, isProjected: false)
                }
            }
        }
        let script = Script(batchMax: 10) { _, parcels in parcels.map { _ in CourierAnswer(.delivered) } }
        for number in 1...4 { store.commit("k\(number)", to: [first], at: clock.now()) }
        let other = store.commit("other", trigger: TriggerID(2), to: [first], at: clock.now())[0]
        let sieve: DeliveryService.SieveSource = { $0.job.trigger == TriggerID(1) ? Sieve() : nil }
        try await withDelivery(store, [try destination(1, ScriptedPlan(script: script))], clock: clock, sieve: sieve) { service in
            try await eventually("settled") { store.count(.pending) == 0 }
            try await eventually("counted") { service.counters == .init(delivered: 3, retried: 0, dead: 1, filtered: 1) }
        }
        #expect(store.delivery(1).state == .filtered)
        #expect(store.attempts(1).isEmpty)
        #expect(store.delivery(2).state == .dead && store.delivery(2).reason == "filter")
        #expect(store.attempts(2).map(\.error) == ["line 1: attempt to compare nil with number"])
        let carried = script.batches.joined().sorted { $0.job.position < $1.job.position }
        #expect(carried.map(\.delivery) == [3, 4, other])
        #expect(carried.map(\.isProjected) == [true, false, false])
        #expect(carried[0].job.record == Array("{\"n\":1.50}".utf8))
    }

    @Test func anotherPlanGetsAnotherCourierAndTheFormerIsClosed() async throws {
        let former = Script(batchMax: 1) { _, parcels in parcels.map { _ in CourierAnswer(.delivered) } }
        let later = Script(batchMax: 1) { _, parcels in parcels.map { _ in CourierAnswer(.delivered) } }
        store.commit("a", to: [first], at: clock.now())
        try await withDelivery(store, [try destination(1, ScriptedPlan(script: former))], clock: clock) { service in
            try await eventually("delivered") { store.count(.delivered) == 1 }
            let names = [TriggerID(1): (name: "orders", uid: "uid1")]
            service.update(destinations: [try destination(1, ScriptedPlan(script: former), atOnce: 3)], triggers: names)
            #expect(former.closed == 0)
            service.update(destinations: [try destination(1, ScriptedPlan(script: later))], triggers: names)
            try await eventually("closed") { former.closed == 1 }
            store.commit("b", to: [first], at: clock.now())
            try await eventually("delivered") { store.count(.delivered) == 2 }
        }
        for script in [former, later] {
            #expect(script.batches.count == 1)
            #expect(script.closed == 1)
        }
    }

    @Test func whatWasClaimedAndNotBegunIsPutBackAtAStop() async throws {
        let (gate, opener) = AsyncStream.makeStream(of: Void.self)
        let script = Script(batchMax: 1) { _, parcels in
            for await _ in gate {}
            return parcels.map { _ in CourierAnswer(.delivered) }
        }
        for number in 1...3 { store.commit("k\(number)", to: [first], at: clock.now()) }
        try await withDelivery(store, [try destination(1, ScriptedPlan(script: script), atOnce: 1)], clock: clock) { service in
            try await eventually("begun") { script.batches.count == 1 }
            service.stop()
            opener.finish()
        }
        #expect(store.count(.delivered) == 1)
        #expect([2, 3].allSatisfy { store.delivery($0).dueAt <= clock.now() })
        #expect([2, 3].allSatisfy { store.delivery($0).claimed.attempts == 0 })
    }
}

/// Says the same whatever it is asked.
private final class Greeter: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer
    private let greeting: String
    init(greeting: String) { self.greeting = greeting }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let channel = context.channel
        context.writeAndFlush(wrapOutboundOut(ByteBuffer(string: greeting))).whenComplete { _ in channel.close(promise: nil) }
    }
}
