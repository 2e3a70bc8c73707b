import Foundation
import SluiceConnectors
import SluiceCore
import SluiceDelivery
import SluiceStore
import SluiceTesting
import Testing

@testable import SluiceNATS

/// Against a real nats-server of each test's own.
@Suite struct NATSCourierTests {
    static func parcel(_ key: String, record: String? = nil, trigger: String = "orders") -> Parcel {
        let job = StoredJob(
            trigger: TriggerID(1), position: JobPosition(7), token: "t", dedupKey: Array(key.utf8),
            record: Array((record ?? "{\n\"id\": \"\(key)\", \"n\": 1.50}").utf8), isDerived: false, cause: .webhook,
            createdAt: Timestamp(milliseconds: 1_767_225_600_000))
        return Parcel(
            delivery: 1, id: JobIdentity.id(uid: "u", dedupKey: job.dedupKey), job: job, trigger: (name: trigger, uid: "u"), attempt: 1)
    }

    static func parcels(_ range: Range<Int>) -> [Parcel] { range.map { parcel("k\($0)") } }

    private func courier(_ server: NATSServer, _ change: (inout NATSDestination) -> Void = { _ in }) throws -> NATSCourier {
        var destination = NATSDestination(name: "bus", url: server.url, subject: "jobs.{trigger}", addresses: true, limitSeconds: 10)
        change(&destination)
        try destination.validate()
        return NATSCourier(destination)
    }

    private func withServer(_ extra: String = "", _ body: @Sendable (NATSServer) async throws -> Void) async throws {
        try await withTemporaryDirectory("sluice-nats") { directory in
            try await NATSServer.with(directory: directory, extra: extra, body)
        }
    }

    @Test func P9_eachJobIsAMessageUnderItsIDAndADoubledOneIsKnown() async throws {
        try await withServer { server in
            let client = try await server.client()
            try await client.createStream("JOBS", subjects: ["jobs.>"])
            let courier = try courier(server) {
                $0.stream = "JOBS"
                $0.headers = [HTTPField("Source", "sluice")]
            }
            let parcels = Self.parcels(0..<600) + [Self.parcel("x", trigger: "shop.new orders")]
            #expect(await courier.carry(parcels).allSatisfy { $0.result == .delivered && $0.error == nil })
            let again = await courier.carry(Array(parcels[..<3]) + [Self.parcel("new")])
            #expect(again.allSatisfy { $0.result == .delivered })
            #expect(again.map { String(decoding: $0.response, as: UTF8.self).contains("already") } == [true, true, true, false])
            let kept = try await client.messages("JOBS")
            #expect(kept.map(\.id) == (parcels + [Self.parcel("new")]).map(\.id))
            #expect(kept[0].payload == parcels[0].json && kept[0].subject == "jobs.orders" && kept[0].headers["Source"] == "sluice")
            #expect(kept[600].subject == "jobs.shop_new_orders")
            await courier.close()
            #expect(await courier.carry(Self.parcels(0..<1))[0].result == .failed, "nothing is carried after")
        }
    }

    @Test func f_whatTheServerDoesNotTakeSaysWhy() async throws {
        try await withServer("max_payload: 100000") { server in
            let client = try await server.client()
            let none = await (try courier(server)).carry(Self.parcels(0..<2))
            #expect(
                none.allSatisfy { $0.result == .failed && $0.error?.contains("no JetStream stream takes the subject jobs.orders") == true })
            try await client.createStream("JOBS", subjects: ["jobs.>"], more: #","max_msgs":3"#)
            let other = await (try courier(server) { $0.stream = "OTHER" }).carry(Self.parcels(0..<1))[0]
            #expect(other.result == .failed && other.error?.contains("is not OTHER") == true, "\(other)")
            let courier = try courier(server)
            let large = Self.parcel("large", record: "\"" + String(repeating: "x", count: 200_000) + "\"")
            let mixed = await courier.carry([Self.parcel("a"), large, Self.parcel("b")])
            #expect(mixed.map(\.result) == [.delivered, .refused(reason: "too_large"), .delivered])
            #expect(mixed[1].error?.contains("max_payload") == true)
            let full = await courier.carry(Self.parcels(0..<3))
            #expect(full.map(\.result) == [.delivered, .failed, .failed] && full[1].error?.contains("maximum messages") == true)
            #expect(try await client.messages("JOBS").count == 3)
        }
    }

    @Test func P9_aServerThatIsKilledIsFoundAgainAndNothingIsLost() async throws {
        try await withServer { server in
            let client = try await server.client()
            try await client.createStream("JOBS", subjects: ["jobs.>"])
            let courier = try courier(server) { $0.limitSeconds = 5 }
            var open = Self.parcels(0..<400)
            var attempts = 0
            // Killed while it takes messages, again and again; what is not acknowledged is carried again.
            try await withThrowingDiscardingTaskGroup { group in
                group.addTask {
                    for _ in 0..<4 {
                        try await Task.sleep(for: .milliseconds(150))
                        server.kill9()
                        try await server.start()
                    }
                }
                for round in 0... {
                    let batch = Array(open.prefix(20))
                    if batch.isEmpty { break }
                    let answers = await courier.carry(batch)
                    attempts += batch.count
                    #expect(answers.count == batch.count && answers.allSatisfy { $0.result == .delivered || $0.error != nil })
                    let failed = zip(batch, answers).filter { $1.result != .delivered }.map(\.0)
                    open = failed + open.dropFirst(20)
                    if !failed.isEmpty { try await Task.sleep(for: .milliseconds(50)) }
                    try #require(round < 2000)
                }
            }
            let ids = try await server.client().messages("JOBS").compactMap(\.id)
            #expect(Set(ids) == Set(Self.parcels(0..<400).map(\.id)), "after \(attempts) attempts")
            #expect(ids.count == 400, "the stream knew each doubled one by its id")
        }
    }

    @Test(.timeLimit(.minutes(10))) func P12_aServerThatHangsIsGivenUpWaitingFor() async throws {
        try await withServer { server in
            try await server.client().createStream("JOBS", subjects: ["jobs.>"])
            let courier = try courier(server) { $0.limitSeconds = 5 }
            try await waitUntil("it takes one") { await courier.carry(Self.parcels(0..<1))[0].result == .delivered }
            server.process?.send(SIGSTOP)
            let answers = await courier.carry(Self.parcels(1..<3))
            #expect(answers.allSatisfy { $0.result == .failed && $0.error?.contains("did not acknowledge") == true }, "\(answers)")
            let lost = await courier.carry(Self.parcels(1..<3))
            #expect(lost.allSatisfy { $0.result == .failed && $0.isConnectFailure }, "\(lost)")
            server.process?.send(SIGCONT)
            try await waitUntil("it answers again") { await courier.carry(Self.parcels(1..<3)).allSatisfy { $0.result == .delivered } }
        }
    }

    @Test func f_credentialsAreRefusedInWordsWithoutThem() async throws {
        let nkey = NATSKey.seed(of: [UInt8](repeating: 7, count: 32))
        let publicKey = try NATSKey(seed: nkey).publicKey
        let users = """
            authorization { timeout: 30, users = [
              { user: a, password: "right" }, { nkey: \(publicKey) },
              { user: mute, password: "right", permissions: { publish: { deny: "jobs.>" } } } ] }
            """
        try await withServer(users) { server in
            try await server.client(user: ("a", "right")).createStream("JOBS", subjects: ["jobs.>"])
            let good: [NATSDestination.Credentials] = [.user("a", password: "right"), .nkey(seed: nkey)]
            for credentials in good {
                let answer = await (try courier(server) { $0.credentials = credentials }).carry(Self.parcels(0..<1))[0]
                #expect(answer.result == .delivered, "\(answer)")
            }
            let other = NATSKey.seed(of: [UInt8](repeating: 8, count: 32))
            let bad: [NATSDestination.Credentials] = [
                .none, .user("a", password: "canary-wrong"), .token("canary-wrong"), .nkey(seed: other),
            ]
            for credentials in bad {
                let answer = await (try courier(server) { $0.credentials = credentials }).carry(Self.parcels(0..<1))[0]
                #expect(answer.result == .failed && answer.isConnectFailure && answer.error?.contains("refused the credentials") == true)
                #expect(answer.error?.contains("canary") == false && answer.error?.contains(other) == false)
            }
            let mute = await
                (try courier(server) {
                    $0.credentials = .user("mute", password: "right")
                    $0.limitSeconds = 10
                }).carry(Self.parcels(0..<1))[0]
            #expect(mute.result == .failed && mute.error?.contains("does not let this user publish") == true, "\(mute)")
        }
        try await withServer("authorization { timeout: 30, token: \"right\" }") { server in
            let right = await (try courier(server) { $0.credentials = .token("right") }).carry(Self.parcels(0..<1))[0]
            #expect(right.error?.contains("no JetStream stream") == true, "\(right)")
            let wrong = await (try courier(server) { $0.credentials = .token("canary") }).carry(Self.parcels(0..<1))[0]
            #expect(wrong.error?.contains("refused the credentials") == true)
        }
    }

    @Test func f_onlyTheServerThatWasNamedIsReached() async throws {
        try await withServer { server in
            let closed = NATSDestination(name: "bus", url: server.url, subject: "jobs")
            #expect { try closed.validate() } throws: { ($0 as? SluiceError)?.code == .forbiddenAddress }
            // A name is looked up when it is used, and its address checked then.
            let named = NATSDestination(name: "bus", url: "nats://localhost:\(server.port)", subject: "jobs")
            try named.validate()
            let answer = await NATSCourier(named).carry(Self.parcels(0..<1))[0]
            #expect(answer.result == .failed && answer.error?.contains("allow_private") == true, "\(answer)")
            let open = await (try courier(server) { $0.url = "nats://localhost:\(server.port)" }).carry(Self.parcels(0..<1))[0]
            #expect(open.error?.contains("no JetStream stream") == true, "\(open)")
            let plain = await (try courier(server) { $0.url = "tls://127.0.0.1:\(server.port)" }).carry(Self.parcels(0..<1))[0]
            #expect(plain.error?.contains("offers no TLS") == true, "\(plain)")
            let free = try LocalPort.free()
            let absent = await (try courier(server) { $0.url = "nats://127.0.0.1:\(free)" }).carry(Self.parcels(0..<1))[0]
            #expect(absent.error?.contains("cannot be reached") == true && absent.isConnectFailure, "\(absent)")
            // Of several servers the first that answers is taken.
            try await server.client().createStream("JOBS", subjects: ["jobs.>"])
            let second = try courier(server) { $0.url = "nats://127.0.0.1:\(free),nats://127.0.0.1:\(server.port)" }
            #expect(await second.carry(Self.parcels(0..<1))[0].result == .delivered)
        }
    }
}
