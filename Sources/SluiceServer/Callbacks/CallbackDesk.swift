import Crypto
import SluiceConnectors
import SluiceCore
import SluiceGateway
import SluicePolling
import SluiceStore

/// Makes callbacks, and takes what comes to their URLs.
public final class CallbackDesk: CallbackTaking {
    /// What somebody wants to be waited for.
    struct Order {
        var connection: String
        var type: String?
        /// A JSON object.
        var input: [UInt8]
        var lifetime: Span
        var destination: String?
        var pauses: [Span]
        var idempotencyKey: String?
    }

    let service: CallbackService
    private let catalogue: RuntimeCatalogue
    private let sealer: SecretSealer
    private let address: PublicAddress
    private let clock: any TimeSource

    init(service: CallbackService, catalogue: RuntimeCatalogue, sealer: SecretSealer, address: PublicAddress, clock: any TimeSource) {
        self.service = service
        self.catalogue = catalogue
        self.sealer = sealer
        self.address = address
        self.clock = clock
    }

    // MARK: Making one

    /// Throws `.notFound` and `.invalid` that name what mends it.
    func make(_ order: Order) async throws -> (callback: StoredCallback, isNew: Bool) {
        let current = catalogue.current
        let connection = try connection(order.connection, current)
        let type = try type(order, connection.connector.definition)
        let asks = type?.asks ?? false
        if !asks { try checkVerified(connection) }
        let destination = try order.destination.map { try destinationID($0, current) }
        let input = try checked(order.input, type, order.type)
        let (id, token) = ("cb_" + Randomness.text(26), Randomness.endpointToken())
        let now = clock.now()
        let policy = CallbackPolicy(pauses: order.pauses.isEmpty ? type?.pauses ?? [] : order.pauses)
        let machine = CallbackMachine(
            asks: asks, at: now, expiresAt: now + order.lifetime, policy: policy, random: Double.random(in: 0..<1))
        let made = try await service.add(
            NewCallback(
                id: id, connection: connection.stored.id, type: type?.name, input: input, destination: destination,
                tokenHash: CallbackDesk.hash(token), sealedToken: try sealer.seal(Array(token.utf8), owner: SecretOwner.callback(id)),
                idempotencyKey: order.idempotencyKey, requestDigest: digest(order, input), isUnsafe: !asks && !isSafe(connection),
                state: machine.callback, pauses: order.pauses, sourceUID: Randomness.triggerUID()))
        return made
    }

    /// What is defined now.
    var definitions: Catalogue { catalogue.current }

    /// Whether its source is known to those who carry jobs.
    func knowsSource(of callback: StoredCallback) -> Bool { catalogue.current.triggerNames[callback.source] != nil }

    private func connection(_ name: String, _ current: Catalogue) throws(SluiceError) -> Catalogue.Connection {
        guard let id = current.connectionNames.first(where: { $0.value == name })?.key else {
            throw SluiceError(
                .notFound, "there is no connection `\(name)`: \(Words.hint(name, among: Array(current.connectionNames.values)))")
        }
        guard let connection = current.connections[id] else {
            throw current.problems.first { $0.subject == "connection \(name)" }?.error
                ?? SluiceError(.connector, "the connection \(name) cannot be used")
        }
        return connection
    }

    private func type(_ order: Order, _ definition: ConnectorDefinition) throws(SluiceError) -> CallbackTypeDefinition? {
        let known = definition.callbacks.map(\.name)
        guard let name = order.type else {
            if known.count > 1 {
                throw SluiceError(.invalid, "`type` says which kind of callback it is: one of \(known.joined(separator: ", "))")
            }
            return definition.callbacks.first
        }
        guard let type = definition.callback(name) else {
            throw SluiceError(
                .invalid, "connector \(definition.name) has no callback type `\(name.prefix(64))`: \(Words.hint(name, among: known))")
        }
        return type
    }

    private func scheme(_ connection: Catalogue.Connection) -> SignatureScheme? {
        (connection.settings.scheme ?? connection.connector.definition.webhook?.scheme).flatMap { SignatureScheme.named($0) }
    }

    private func isSafe(_ connection: Catalogue.Connection) -> Bool { scheme(connection)?.isSafe ?? false }

    /// Where nothing can be asked, a call brings the result: it must be verified, unless the connection says `none`.
    private func checkVerified(_ connection: Catalogue.Connection) throws(SluiceError) {
        let name = connection.stored.name
        guard let scheme = scheme(connection) else {
            throw SluiceError(
                .conflict,
                "connection \(name) can neither be asked how an operation stands (its connector has no `status`) nor verify a call: "
                    + "give it `webhook: {scheme: …, secrets: […]}`")
        }
        if scheme.isSafe, connection.webhookSecrets.isEmpty {
            throw SluiceError(
                .conflict, "connection \(name) has no webhook secret, so no call could be verified: give it `webhook: {secrets: […]}`")
        }
    }

    private func destinationID(_ name: String, _ current: Catalogue) throws(SluiceError) -> DestinationID {
        guard let found = current.destinations.values.first(where: { $0.stored.name == name }) else {
            throw SluiceError(
                .notFound,
                "there is no destination `\(name)`: \(Words.hint(name, among: current.destinations.values.map(\.stored.name)))")
        }
        return found.stored.id
    }

    /// The input with its defaults, by what the type declares; without a type whatever was given.
    private func checked(_ input: [UInt8], _ type: CallbackTypeDefinition?, _ name: String?) throws(SluiceError) -> [UInt8] {
        guard input.count <= CallbackDesk.inputBytesMax else {
            throw SluiceError(.tooLarge, "`input` is larger than \(CallbackDesk.inputBytesMax >> 10) KB")
        }
        guard let type else { return input }
        let filled = Defaults.filled(input, type.inputFields)
        let members = (try? JSONDocument(filled))?.root.members ?? []
        for (key, _) in members where !type.inputFields.contains(where: { $0.name == key }) {
            throw SluiceError(
                .invalid, "`input` has no field `\(key.prefix(64))`: \(Words.hint(key, among: type.inputFields.map(\.name)))")
        }
        for field in type.inputFields {
            guard let value = members.first(where: { $0.key == field.name })?.value, !value.isNull else {
                if field.isOptional { continue }
                throw SluiceError(.invalid, "`input` needs `\(field.name)`" + (field.hint.map { ": \($0)" } ?? ""))
            }
            if !CallbackDesk.fits(value, field.type) {
                throw SluiceError(.invalid, "`input.\(field.name)` must be of the type \(field.type.rawValue)")
            }
        }
        return filled
    }

    private static func fits(_ value: JSONView, _ type: Field.FieldType) -> Bool {
        switch type {
        case .string: value.string != nil
        case .integer: value.int64 != nil
        case .number: value.double != nil
        case .boolean: value.bool != nil
        case .dateTime: value.text != nil
        case .object: value.members != nil
        case .array: value.elements != nil
        }
    }

    private func digest(_ order: Order, _ input: [UInt8]) -> [UInt8] {
        var writer = JSONWriter()
        writer.object { writer in
            writer.member("type", order.type)
            writer.member("destination", order.destination)
            writer.member("lifetime", order.lifetime.milliseconds)
            writer.key("pauses")
            writer.array { writer in for pause in order.pauses { writer.value(pause.milliseconds) } }
            writer.member("input", json: input)
        }
        return Array(SHA256.hash(data: writer.bytes))
    }

    static let inputBytesMax = 64 * 1024
    static func hash(_ token: some StringProtocol) -> [UInt8] { Array(SHA256.hash(data: Array(token.utf8))) }

    // MARK: Its URL

    /// The address to hand to the provider; nil where the master key does not open it.
    func url(of callback: StoredCallback) -> String? {
        guard let token = try? sealer.open(callback.sealedToken, owner: SecretOwner.callback(callback.id)) else { return nil }
        return (address.url ?? "") + "/callbacks/" + String(decoding: token, as: UTF8.self)
    }

    /// What keeps providers from reaching it, or nil.
    var reachProblem: String? {
        address.urlForProviders == nil
            ? "only this machine reaches this address: start the server with `--public-url https://…` for providers elsewhere" : nil
    }

    // MARK: CallbackTaking

    public func callback(token: String) async throws -> StoredCallback? {
        try await service.callback(tokenHash: CallbackDesk.hash(token))
    }

    public func called(_ callback: StoredCallback, _ request: WebhookRequest) async throws -> CallbackState {
        try await service.called(callback, record: request.bodyRecord)
    }
}

extension SecretOwner {
    /// The token in a callback's URL.
    static func callback(_ id: String) -> String { "callback default/\(id)" }
}

extension RuntimeCatalogue: CallbackCatalogue {
    public func callbackMeans(connection: ConnectionID, type: String?) throws -> CallbackMeans {
        let current = self.current
        guard let found = current.connections[connection] else {
            let name = current.connectionNames[connection] ?? "?"
            throw current.problems.first { $0.subject == "connection \(name)" }?.error
                ?? SluiceError(.connector, "the connection of the callback cannot be used")
        }
        let definition = found.connector.definition
        if let type, definition.callback(type) == nil {
            throw SluiceError(
                .connector, "connector \(definition.name) no longer has the callback type `\(type)`: load the version that has it")
        }
        return CallbackMeans(
            connector: found.connector, connectionName: found.stored.name, connection: try JSONDocument(found.values),
            type: type.flatMap { definition.callback($0) })
    }
}
