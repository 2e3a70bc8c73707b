import AsyncHTTPClient
import Dispatch
import SluiceCore
import SluiceTesting
import Synchronization
import Testing

@testable import SluiceOutgoing

/// A name service that answers as the test says, and counts.
final class ScriptedNames: Sendable {
    private let answer: @Sendable (Int) throws(SluiceError) -> [IPAddress]
    private let asked = Mutex(0)
    var count: Int { asked.withLock { $0 } }

    /// `answer` gets the number of the question, from 0.
    init(_ answer: @escaping @Sendable (Int) throws(SluiceError) -> [IPAddress]) { self.answer = answer }

    convenience init(_ answers: [String]...) {
        self.init { number throws(SluiceError) in answers[min(number, answers.count - 1)].compactMap { IPAddress($0) } }
    }

    var lookUp: HostLookUp {
        HostResolver(threadCount: 1) { [self] _ throws(SluiceError) in
            try answer(
                asked.withLock { asked in
                    asked += 1
                    return asked - 1
                })
        }.lookUp
    }
}

@Suite(.timeLimit(.minutes(10))) struct OutgoingRouteTests {
    private func route(_ names: ScriptedNames, host: String = "host.example", freshFor: Duration = .seconds(3600)) -> OutgoingRoute {
        OutgoingRoute(host: host, lookUp: names.lookUp, freshFor: freshFor, configuration: HTTPClient.Configuration())
    }

    /// Gets a client, says that it is done, and tells which address it was for.
    private func address(_ route: OutgoingRoute, _ allowed: AddressAllowance = .publicOnly, fails: Bool = false) async throws -> String {
        let client = try await route.client(allowed: allowed, within: .seconds(30))
        if fails { route.failed(client) }
        client.end()
        return client.address.description
    }

    @Test func anAnswerIsUsedWhileItIsFresh() async throws {
        let names = ScriptedNames(["8.8.8.8"])
        let route = route(names)
        for _ in 0..<5 { #expect(try await address(route) == "8.8.8.8") }
        #expect(names.count == 1)
        let stale = self.route(names, freshFor: .zero)
        for _ in 0..<5 { #expect(try await address(stale) == "8.8.8.8") }
        #expect(names.count == 6)
    }

    @Test func anAddressIsKeptUntilItFails() async throws {
        let route = route(ScriptedNames(["8.8.8.8", "8.8.4.4", "1.1.1.1"]))
        var taken: [String] = []
        for fails in [false, true, false, true, true, false] { taken.append(try await address(route, fails: fails)) }
        #expect(taken == ["8.8.8.8", "8.8.8.8", "8.8.4.4", "8.8.4.4", "1.1.1.1", "8.8.8.8"])
    }

    @Test func aLateFailureOfAFormerAddressChangesNothing() async throws {
        let route = route(ScriptedNames(["8.8.8.8", "8.8.4.4"]))
        let first = try await route.client(allowed: .publicOnly, within: .seconds(30))
        let second = try await route.client(allowed: .publicOnly, within: .seconds(30))
        route.failed(first)
        route.failed(second)
        first.end()
        second.end()
        #expect(try await address(route) == "8.8.4.4")
    }

    @Test func anAddressIsKeptWhereTheNameHasItStill() async throws {
        let route = route(ScriptedNames(["8.8.8.8", "1.1.1.1"], ["1.1.1.1", "8.8.8.8"], ["1.1.1.1"]), freshFor: .zero)
        let first = try await route.client(allowed: .publicOnly, within: .seconds(30))
        let second = try await route.client(allowed: .publicOnly, within: .seconds(30))
        #expect(first === second)
        second.end()
        #expect(try await address(route) == "1.1.1.1")
        #expect(!first.begin(), "the client of an address that is gone is retired")
        first.end()
    }

    @Test func aNameThatTurnsInwardsIsRefused() async throws {
        let route = route(ScriptedNames(["8.8.8.8"], ["8.8.8.8", "127.0.0.1"], ["169.254.169.254"]), freshFor: .zero)
        #expect(try await address(route) == "8.8.8.8")
        for _ in 0..<2 {
            let error = await #expect(throws: SluiceError.self) { try await address(route) }
            #expect(error?.code == .forbiddenAddress)
        }
    }

    @Test func whoeverMendsTheNameIsHeardAtOnce() async throws {
        let route = route(ScriptedNames(["10.0.0.1"], ["8.8.8.8"]))
        await #expect(throws: SluiceError.self) { try await address(route) }
        #expect(try await address(route) == "8.8.8.8")
    }

    /// Two connections may ask the same host, and only one of them may go to the private network.
    @Test func eachIsCheckedForWhatItIsAllowed() async throws {
        let route = route(ScriptedNames(["10.0.0.1"]))
        for _ in 0..<3 {
            #expect(try await address(route, true) == "10.0.0.1")
            let error = await #expect(throws: SluiceError.self) { try await address(route) }
            #expect(error?.code == .forbiddenAddress)
        }
    }

    @Test(arguments: [("10.0.0.1", "10.0.0.1"), ("[fd00::1]", "fd00::1"), ("fd00::1", "fd00::1")])
    func aLiteralAddressIsCheckedAndNotLookedUp(_ host: String, _ found: String) async throws {
        let names = ScriptedNames(["8.8.8.8"])
        let route = route(names, host: host)
        #expect(try await address(route, true) == found)
        await #expect(throws: SluiceError.self) { try await address(route) }
        #expect(names.count == 0)
    }

    /// A name server that is dead: who waits for its answer does not ask it again, one after the other.
    @Test(arguments: [true, false]) func whoeverWaitsSharesTheAnswer(_ fails: Bool) async throws {
        let gate = DispatchSemaphore(value: 0)
        let names = ScriptedNames { _ throws(SluiceError) in
            gate.wait()
            if fails { throw SluiceError(.providerUnreachable, "no answer") }
            return [IPAddress("8.8.8.8")].compactMap { $0 }
        }
        let route = route(names)
        let outcomes = try await withThrowingTaskGroup(of: String?.self) { group in
            for _ in 0..<20 { group.addTask { try? await address(route) } }
            do {
                try await waitUntil("nineteen wait for the one that asks") { route.waiting == 19 }
            } catch {
                for _ in 0..<20 { gate.signal() }
                throw error
            }
            gate.signal()
            return try await group.reduce(into: [String?]()) { $0.append($1) }
        }
        #expect(outcomes == Array(repeating: fails ? nil : "8.8.8.8", count: 20))
        #expect(names.count == 1)
    }

    @Test func aNameServerThatHangsIsGivenUp() async throws {
        let gate = DispatchSemaphore(value: 0)
        defer { gate.signal() }
        let route = route(
            ScriptedNames { _ throws(SluiceError) in
                gate.wait()
                return []
            })
        let error = await #expect(throws: SluiceError.self) {
            try await route.client(allowed: .publicOnly, within: .milliseconds(20)).end()
        }
        #expect(error?.code == .providerUnreachable)
    }

    /// Also one that is asked for after that. A request that is held goes on until it is done.
    @Test func aClosedRouteShutsItsClientsDownWhenTheyAreDone() async throws {
        try await StandInSite().serve { port in
            let route = route(ScriptedNames(["127.0.0.1"]))
            let held = try await route.client(allowed: true, within: .seconds(30))
            route.close()
            let late = try await route.client(allowed: true, within: .seconds(30))
            #expect(!held.begin() && !late.begin())
            for pinned in [held, late] {
                try await call(pinned, port)
                pinned.end()
                try await waitUntil("the client is shut down") {
                    do {
                        try await call(pinned, port)
                    } catch let error as HTTPClientError {
                        return error == .alreadyShutdown
                    }
                    return false
                }
            }
        }
    }

    private func call(_ pinned: PinnedClient, _ port: Int) async throws {
        let response = try await pinned.client.execute(HTTPClientRequest(url: "http://host.example:\(port)/"), timeout: .seconds(30))
        _ = try await response.body.collect(upTo: 1024)
    }
}

@Suite(.timeLimit(.minutes(10))) struct OutgoingRoutesTests {
    private func routes(_ names: ScriptedNames, _ configuration: HTTPClient.Configuration = .init()) -> OutgoingRoutes {
        OutgoingRoutes(lookUp: names.lookUp, freshFor: .seconds(3600), configuration: configuration)
    }

    /// The name is none that any name service knows: the request arrives because its connection goes to the checked address.
    @Test func aConnectionGoesToTheCheckedAddress() async throws {
        let provider = StandInSite()
        try await provider.serve { port in
            let routes = routes(ScriptedNames(["127.0.0.1"]))
            let pinned = try await routes.client(for: "checked.invalid", allowed: true, within: .seconds(30))
            defer { pinned.end() }
            let request = HTTPClientRequest(url: "http://checked.invalid:\(port)/")
            let response = try await pinned.client.execute(request, timeout: .seconds(30))
            let body = try await response.body.collect(upTo: 1024)
            #expect(String(buffer: body) == "checked.invalid:\(port)")
            routes.close()
        }
    }

    @Test func moreHostsThanTheBoundCostNewConnectionsOnly() async throws {
        let names = ScriptedNames(["8.8.8.8"])
        let routes = routes(names)
        let first = try await routes.client(for: "h0.example", allowed: .publicOnly, within: .seconds(30))
        for number in 1...OutgoingRoutes.hostsMax {
            try await routes.client(for: "h\(number).example", allowed: .publicOnly, within: .seconds(30)).end()
        }
        #expect(!first.begin())
        first.end()
        routes.failed(first)
        try await routes.client(for: "h0.example", allowed: .publicOnly, within: .seconds(30)).end()
        #expect(names.count == OutgoingRoutes.hostsMax + 2)
        routes.close()
    }

    @Test(arguments: ["a b", "a%2eb", "a@b", "a/b", "ä.example", "a\\b", "a\0b"]) func whatIsNoHostNameIsRefused(_ host: String)
        async throws
    {
        let names = ScriptedNames(["8.8.8.8"])
        let error = await #expect(throws: SluiceError.self) {
            try await routes(names).client(for: host, allowed: true, within: .seconds(30)).end()
        }
        #expect(error?.code == .connector)
        #expect(names.count == 0)
    }

    /// As at the stop of a server, with a dead name server.
    @Test func whoIsCancelledWaitsForNoNameService() async throws {
        let release = DispatchSemaphore(value: 0)
        let hasBegun = Mutex(false)
        let resolver = HostResolver(threadCount: 1) { _ throws(SluiceError) in
            hasBegun.withLock { $0 = true }
            release.wait()
            return []
        }
        let asking = Task { try await resolver.addresses(of: "dead.example", within: .seconds(3600)) }
        try await waitUntil("the name service is asked") { hasBegun.withLock { $0 } }
        asking.cancel()
        await #expect(throws: SluiceError.self) { try await asking.value }
        release.signal()
    }
}
