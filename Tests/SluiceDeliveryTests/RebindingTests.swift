import Logging
import SluiceCore
import SluiceOutgoing
import Synchronization
import Testing

@testable import SluiceDelivery

/// A name that answers with a good address when it is checked and with a bad one later, or alternates (DNS rebinding). 127.0.0.1 is
/// allowed here and stands for a public address; 127.0.0.2 stands for what is inside, and somebody listens there, too.
@Suite(.timeLimit(.minutes(10))) struct RebindingTests {
    /// A name service that answers as the test says: one answer after the other, the last one from then on.
    final class Names: Sendable {
        private let answers: Mutex<[[String]]>
        private let count = Mutex(0)
        init(_ answers: [[String]]) { self.answers = Mutex(answers) }
        var asked: Int { count.withLock { $0 } }
        var lookUp: HostLookUp {
            { (host: String, _: Duration) async throws(SluiceError) -> [IPAddress] in
                self.count.withLock { $0 += 1 }
                guard host == "rebind.invalid" else { throw SluiceError(.providerUnreachable, "\(host) is not known") }
                return self.answers.withLock { $0.count > 1 ? $0.removeFirst() : $0[0] }.compactMap { IPAddress($0) }
            }
        }
    }

    static let inside = "127.0.0.2"

    /// A courier to a name that no real name service knows, an allowed receiver, and one inside on the same port.
    private func scene(
        _ answers: [[String]], freshSeconds: Int = 0, _ body: (PushCourier, _ outside: Sink, _ inside: Sink, Names) async throws -> Void
    ) async throws {
        try await Sink.with({ _, _ in .answer(200) }) { outside in
            try await Sink.with(host: Self.inside, port: outside.port, { _, _ in .answer(200) }) { inside in
                var plan = pushDestination(url: "http://rebind.invalid:\(outside.port)/in", allowsPrivate: false)
                plan.addresses = AddressAllowance(networks: [try #require(IPNetwork("127.0.0.1")), try #require(IPNetwork("127.0.0.3"))])
                let names = Names(answers)
                var options = DeliveryOptions()
                options.addressSecondsMax = freshSeconds
                let courier = PushCourier(
                    plan,
                    CourierTools(
                        wallTime: TestClock(), options: options, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
                        lookUp: names.lookUp))
                try await body(courier, outside, inside, names)
                await courier.close()
            }
        }
    }

    private func carry(_ courier: PushCourier) async -> CourierAnswer { await courier.carry([Parcels.make("a")])[0] }

    private func isRefused(_ answer: CourierAnswer) -> Bool {
        answer.result == .failed && answer.isConnectFailure && answer.error?.contains(Self.inside) == true
            && answer.error?.contains("allow_networks") == true
    }

    /// The name leads nowhere but to what was checked: the system's name service does not know it at all.
    @Test func theConnectionGoesToTheCheckedAddress() async throws {
        try await scene([["127.0.0.1"]]) { courier, outside, inside, _ in
            #expect(await carry(courier).result == .delivered)
            #expect(outside.requests.map { $0.header("host") } == ["rebind.invalid:\(outside.port)"])
            #expect(inside.connections == 0)
        }
    }

    @Test func aNameThatTurnsInwardsIsRefusedFromThenOn() async throws {
        try await scene([["127.0.0.1"], [Self.inside]]) { courier, outside, inside, names in
            #expect(await carry(courier).result == .delivered)
            for _ in 0..<3 { #expect(isRefused(await carry(courier))) }
            #expect(names.asked == 4, "each attempt asked anew")
            #expect(outside.requests.count == 1, "the open connection is not used, either")
            #expect(inside.connections == 0)
        }
    }

    @Test func aNameThatAlternatesIsReachedOutsideOnly() async throws {
        let answers = (0..<10).map { [$0 % 2 == 0 ? "127.0.0.1" : Self.inside] }
        try await scene(answers) { courier, outside, inside, _ in
            for number in 0..<10 {
                let answer = await carry(courier)
                if number % 2 == 0 { #expect(answer.result == .delivered) } else { #expect(isRefused(answer)) }
            }
            #expect(outside.requests.count == 5)
            #expect(inside.connections == 0)
        }
    }

    /// While an answer is fresh nobody is asked, so nothing can turn: the address that was checked stays the one that is used.
    @Test func whileItIsFreshTheCheckedAddressStays() async throws {
        try await scene([["127.0.0.1"], [Self.inside]], freshSeconds: 3600) { courier, outside, inside, names in
            for _ in 0..<5 { #expect(await carry(courier).result == .delivered) }
            #expect(names.asked == 1)
            #expect(outside.requests.count == 5)
            #expect(inside.connections == 0)
        }
    }

    /// Wherever the bad one stands in it, and whatever it is written as.
    @Test(
        arguments: [
            ["127.0.0.1", "127.0.0.2"], ["127.0.0.2", "127.0.0.1"], ["127.0.0.1", "::ffff:127.0.0.2"], ["127.0.0.1", "::1"],
            ["127.0.0.1", "10.0.0.1"], ["127.0.0.1", "169.254.169.254"], ["127.0.0.1", "fd00::1"], ["127.0.0.1", "64:ff9b::7f00:2"],
            ["127.0.0.1", "2002:7f00:2::"], ["127.0.0.1", "2001::1"], ["127.0.0.1", "100.64.0.1"], ["127.0.0.1", "fe80::1"],
            ["127.0.0.1", "0.0.0.0"],
        ])
    func anAnswerWithOneBadAddressIsRefusedWhole(_ addresses: [String]) async throws {
        try await scene([addresses]) { courier, outside, inside, _ in
            let answer = await carry(courier)
            #expect(answer.result == .failed && answer.isConnectFailure)
            #expect(answer.error?.contains("rebind.invalid has the address") == true, "\(answer.error ?? "")")
            #expect(outside.connections == 0 && inside.connections == 0)
        }
    }

    /// Where one of several cannot be reached, the next of those that were checked together is taken.
    @Test func anotherAddressIsOneThatWasCheckedToo() async throws {
        try await scene([["127.0.0.3", "127.0.0.1"], [Self.inside]], freshSeconds: 3600) { courier, outside, inside, names in
            #expect(await carry(courier).isConnectFailure, "nobody listens at the first")
            #expect(await carry(courier).result == .delivered)
            #expect(names.asked == 1 && outside.requests.count == 1)
            #expect(inside.connections == 0)
        }
    }
}
