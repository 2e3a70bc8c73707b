import Crypto
import SluiceConnectors
import SluiceCore
import SluiceDelivery
import SluiceStore
import Synchronization

/// The API of a Sluice, apart from any transport: the server puts it behind HTTP, commands without a server call it in their
/// own process. Everything but the health check needs a token.
public final class API: Sendable {
    /// What the API works with.
    public struct Parts: Sendable {
        public var store: any Store
        public var shelf: ConnectorShelf
        /// Nil where nothing watches the connectors' files.
        public var reloader: ConnectorReloader?
        public var connectors: [String: any Connector] { shelf.connectors }
        public var sealer: SecretSealer
        public var clock: any TimeSource
        public var alarms: AlarmBoard
        public var control: any TriggerControl
        public var lifecycle: TriggerLifecycle
        public var jobs: JobFeed
        public var consumers: ConsumerService
        public var address: PublicAddress
        /// Whether a server answers, with pollers.
        public var isServing: Bool
        /// Nil where nothing is delivered.
        public var delivery: DeliveryService?
        /// What of this machine destinations may use.
        public var places: DestinationPlaces
        /// Nil without a server: nobody waits for anything.
        public var callbacks: CallbackDesk?
        public init(
            store: any Store, shelf: ConnectorShelf, reloader: ConnectorReloader? = nil, sealer: SecretSealer, clock: any TimeSource,
            alarms: AlarmBoard,
            control: any TriggerControl, lifecycle: TriggerLifecycle, jobs: JobFeed, consumers: ConsumerService? = nil,
            address: PublicAddress, isServing: Bool, delivery: DeliveryService? = nil, places: DestinationPlaces = DestinationPlaces()
        ) {
            self.delivery = delivery
            self.consumers = consumers ?? ConsumerService(store: store, time: clock, alarms: alarms, sieves: SieveShelf().ofConsumers)
            self.store = store
            self.shelf = shelf
            self.reloader = reloader
            self.sealer = sealer
            self.clock = clock
            self.alarms = alarms
            self.control = control
            self.lifecycle = lifecycle
            self.jobs = jobs
            self.address = address
            self.isServing = isServing
            self.places = places
        }
    }

    public static let version = "0.1.0"

    let parts: Parts
    let tokens: TokenGate
    /// One apply, or change of an address, at a time.
    let changes: ChangeLock
    /// Names of triggers by number, for lists of jobs.
    let names = Mutex<[TriggerID: JobJSON.TriggerNames]>([:])

    /// - Parameter localTokenHash: SHA-256 of a token that is valid while this process lives.
    public init(_ parts: Parts, localTokenHash: [UInt8]? = nil) {
        self.parts = parts
        changes = parts.reloader?.changes ?? ChangeLock()
        tokens = TokenGate(store: parts.store, localHash: localTokenHash)
    }

    /// Never throws: every failure is an answer.
    public func respond(to request: APIRequest) async -> APIResponse {
        do {
            guard request.body.count <= APIRequest.bodyBytesMax else {
                throw SluiceError(.tooLarge, "the body is larger than \(APIRequest.bodyBytesMax) bytes")
            }
            let match = API.match(request)
            let isOpen =
                switch match {
                case .found(let route, _): route.isOpen
                case .otherMethods(_, let isOpen): isOpen
                case .none: false
                }
            var caller = "this machine"
            if !isOpen, !request.isTrusted { caller = try await tokens.check(request.authorization) }
            switch match {
            case .found(let route, let parameters):
                var request = request
                if let operation = OpenAPI.operation(route) { request.body = try operation.check(request) }
                return try await route.handler(self, APICall(request: request, parameters: parameters, caller: caller))
            case .otherMethods(let methods, _):
                var refusal = APIResponse.failure(
                    SluiceError(.methodNotAllowed, "this address takes \(methods.joined(separator: ", "))"))
                refusal.headers.append(("Allow", methods.joined(separator: ", ")))
                return refusal
            case .none: throw SluiceError(.notFound, "there is nothing at this address: `/openapi.json` lists them")
            }
        } catch let error as SluiceError {
            return .failure(error)
        } catch is CancellationError {
            return .failure(SluiceError(.overloaded, "the server is stopping"))
        } catch {
            // Whatever it says may hold what it was working on.
            return .failure(
                SluiceError(.internalError, "the request failed inside the server: its log says more").with("kind", "\(type(of: error))"))
        }
    }

    static func noTrigger(_ name: String) -> SluiceError {
        SluiceError(.notFound, "there is no trigger `\(name)`: see `sluice trigger list`").with("trigger", name)
    }

    func trigger(_ name: String) async throws -> StoredTrigger {
        guard let trigger = try await parts.store.trigger(.default, named: name) else { throw API.noTrigger(name) }
        return trigger
    }

    func definitions() async throws -> Definitions { try await parts.store.definitions(.default) }
}

/// Checks bearer tokens (RFC 6750) against their stored hashes, in constant time.
final class TokenGate: Sendable {
    private let store: any Store
    private let localHash: [UInt8]?
    private struct Cache {
        var tokens: [StoredToken]?
        /// Raised by each change: what was read before it is out of date.
        var version = 0
    }
    private let cached = Mutex(Cache())

    init(store: any Store, localHash: [UInt8]?) {
        self.store = store
        self.localHash = localHash
    }

    /// Returns whose it is: `token NAME`, or `this machine` for the local one.
    func check(_ authorization: String?) async throws -> String {
        guard let authorization, ASCII.equalIgnoringCase(String(authorization.prefix(7)), "bearer ") else {
            throw SluiceError(.unauthorized, "send `Authorization: Bearer TOKEN`; make a token with `sluice token create NAME`")
        }
        let hash = TokenGate.hash(authorization.dropFirst(7).trimmed)
        var owner = localHash.map { TokenGate.isEqual($0, hash) } ?? false ? "this machine" : nil
        for token in try await tokens() where TokenGate.isEqual(token.hash, hash) { owner = "token \(token.name)" }
        guard let owner else { throw SluiceError(.unauthorized, "this token is not known: it was revoked, or belongs to another server") }
        return owner
    }

    /// Called when tokens were made or revoked.
    func forget() {
        cached.withLock { cache in
            cache.tokens = nil
            cache.version += 1
        }
    }

    private func tokens() async throws -> [StoredToken] {
        let (known, version) = cached.withLock { ($0.tokens, $0.version) }
        if let known { return known }
        let read = try await store.tokens()
        cached.withLock { if $0.version == version { $0.tokens = read } }
        return read
    }

    static func hash(_ token: some StringProtocol) -> [UInt8] { Array(SHA256.hash(data: Array(token.utf8))) }

    private static func isEqual(_ left: [UInt8], _ right: [UInt8]) -> Bool {
        left.count == right.count && zip(left, right).reduce(0) { $0 | ($1.0 ^ $1.1) } == 0
    }
}

extension StringProtocol {
    var trimmed: SubSequence {
        guard let first = firstIndex(where: { !$0.isWhitespace }), let last = lastIndex(where: { !$0.isWhitespace }) else {
            return self[endIndex..<endIndex]
        }
        return self[first...last]
    }
}

/// Lets one body run at a time, in the order of arrival. Bounded: beyond the limit callers are refused.
final class ChangeLock: Sendable {
    private struct State {
        var isHeld = false
        var waiting: [CheckedContinuation<Void, Never>] = []
    }
    private let waitingMax: Int
    private let state = Mutex(State())

    init(waitingMax: Int = 32) { self.waitingMax = waitingMax }

    func run<Value: Sendable>(_ body: @Sendable () async throws -> Value) async throws -> Value {
        let isRefused = state.withLock { $0.isHeld && $0.waiting.count >= waitingMax }
        if isRefused { throw SluiceError(.overloaded, "too many changes are waiting: try again") }
        await withCheckedContinuation { continuation in
            let takesIt = state.withLock { state in
                if state.isHeld {
                    state.waiting.append(continuation)
                    return false
                }
                state.isHeld = true
                return true
            }
            if takesIt { continuation.resume() }
        }
        defer { release() }
        return try await body()
    }

    private func release() {
        let next = state.withLock { state -> CheckedContinuation<Void, Never>? in
            if state.waiting.isEmpty {
                state.isHeld = false
                return nil
            }
            return state.waiting.removeFirst()
        }
        next?.resume()
    }
}
