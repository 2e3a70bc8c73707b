import SluiceCore
import SluiceStore

/// `apply`: a list of changes, all or none.
extension Transaction {
    func apply(_ changes: [DefinitionChange], _ namespace: NamespaceID, at time: Timestamp) throws {
        for change in changes { try apply(change, namespace, time) }
    }

    private func apply(_ change: DefinitionChange, _ namespace: NamespaceID, _ time: Timestamp) throws {
        switch change {
        case .putConnection(let name, let connector, let fields, let sealedSecrets, let settings):
            try putConnection(namespace, name, connector, [fields, sealedSecrets, settings], time)
        case .setConnectionProblem(let name, let problem):
            let update = try prepare("UPDATE connection SET problem = ? WHERE id = ?")
            update.bind(1, problem)
            update.bind(2, try id(of: .connection, name, namespace))
            try update.run()
        case .removeConnection(let name, let discards):
            try removeConnection(namespace, name, discardsUndelivered: discards, at: time)
        case .addEndpoint(let connection, let token, let othersExpireAt):
            try addEndpoint(namespace, connection, token, othersExpireAt, time)
        case .putTrigger(let name, let uid, let connection, let type, let input, let settings, let topicKeys, let resets):
            let definition = TriggerDefinition(
                name: name, uid: uid, connection: ConnectionID(try id(of: .connection, connection, namespace)), type: type, input: input,
                settings: settings, topicKeys: topicKeys, resets: resets)
            try putTrigger(definition, namespace, time)
        case .setTriggerState(let name, let from, let to):
            try setState(namespace, name, from: from, to: to)
        case .readsInbox(let trigger, let reads):
            let trigger = try id(of: .trigger, trigger, namespace)
            try run("UPDATE \"trigger\" SET reads_inbox = ? WHERE id = ?", reads ? 1 : 0, trigger)
            if !reads {
                try run("DELETE FROM trigger_topic WHERE ns = ? AND trigger_id = ? AND through IS NOT NULL", namespace.rawValue, trigger)
            }
        case .removeTrigger(let name, let discards):
            try removeTrigger(namespace, name, discardsUndelivered: discards, at: time)
        case .putDestination(let name, let kind, let settings, let sealedSecrets):
            try putDestination(namespace, name, kind, settings, sealedSecrets)
        case .setDestinationState(let name, let state, let reason, let settings):
            try setState(namespace, destination: name, state, reason, ifSettings: settings, time)
        case .setOrdered(let trigger, let isOrdered):
            try order(namespace, trigger: try id(of: .trigger, trigger, namespace), isOrdered, at: time)
        case .removeDestination(let name, let discards):
            try removeDestination(namespace, name, discardsUndelivered: discards)
        case .attach(let trigger, let destination, let from):
            try attach(namespace, trigger, destination, from, time)
        case .detach(let trigger, let destination):
            try detach(namespace, trigger, destination, time)
        case .setAttachment(let trigger, let destination, let settings):
            try setAttachment(namespace, trigger, destination, settings)
        }
    }

    enum Kind: String { case connection, trigger, destination }

    func find(_ kind: Kind, _ name: String, _ namespace: NamespaceID) throws -> Int64? {
        let query = try prepare("SELECT id FROM \"\(kind.rawValue)\" WHERE ns = ? AND name = ?")
        query.bind(1, namespace)
        query.bind(2, name)
        return try query.first { $0.int(0) }
    }

    func id(of kind: Kind, _ name: String, _ namespace: NamespaceID) throws -> Int64 {
        guard let id = try find(kind, name, namespace) else {
            throw SluiceError(.notFound, "there is no \(kind.rawValue) named \(name)", context: [kind.rawValue: name])
        }
        return id
    }

    /// Runs `sql` with integers bound in order.
    func run(_ sql: String, _ values: Int64...) throws {
        let statement = try prepare(sql)
        for (index, value) in values.enumerated() { statement.bind(Int32(index + 1), value) }
        try statement.run()
    }

    // MARK: Connections

    private func putConnection(
        _ namespace: NamespaceID, _ name: String, _ connector: String, _ blobs: [[UInt8]], _ time: Timestamp
    ) throws {
        let put = try prepare(
            """
            INSERT INTO connection (ns, name, connector, fields, sealed_secrets, settings, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT (ns, name) DO UPDATE SET connector = excluded.connector, fields = excluded.fields,
                sealed_secrets = excluded.sealed_secrets, settings = excluded.settings
            """)
        put.bind(1, namespace)
        put.bind(2, name)
        put.bind(3, connector)
        for (index, blob) in blobs.enumerated() { put.bind(Int32(index + 4), blob) }
        put.bind(7, time)
        try put.run()
        // Every connection has the topic of webhooks that no key matches.
        _ = try topic(namespace, ConnectionID(try id(of: .connection, name, namespace)), key: "")
    }

    /// With its addresses and topics. Its triggers must be gone before: their jobs are not removed by the way.
    private func removeConnection(
        _ namespace: NamespaceID, _ name: String, discardsUndelivered: Bool, at time: Timestamp
    ) throws {
        let connection = try id(of: .connection, name, namespace)
        try removeCallbacks(ofConnection: connection, name, namespace, discardsUndelivered: discardsUndelivered, at: time)
        let used = try prepare("SELECT name FROM \"trigger\" WHERE ns = ? AND connection_id = ? ORDER BY name LIMIT 1")
        used.bind(1, namespace)
        used.bind(2, connection)
        if let trigger = try used.first({ $0.text(0) }) {
            throw SluiceError(
                .conflict, "the connection \(name) is used by the trigger \(trigger): remove that first",
                context: ["connection": name, "trigger": trigger])
        }
        let subscribed = try prepare("SELECT id FROM subscription WHERE ns = ? AND connection_id = ? ORDER BY id LIMIT 1")
        subscribed.bind(1, namespace)
        subscribed.bind(2, connection)
        if let number = try subscribed.first({ $0.int(0) }) {
            throw SluiceError(
                .conflict, "the connection \(name) still has subscription \(number) at its provider: remove that first",
                context: ["connection": name])
        }
        try run("DELETE FROM endpoint WHERE ns = ? AND connection_id = ?", namespace.rawValue, connection)
        try run("DELETE FROM topic WHERE ns = ? AND connection_id = ?", namespace.rawValue, connection)
        try run("DELETE FROM credential WHERE connection_id = ?", connection)
        try run("DELETE FROM connection WHERE id = ?", connection)
        try discard(namespace, .inbox, connection)
    }

    private func addEndpoint(
        _ namespace: NamespaceID, _ connection: String, _ token: String, _ othersExpireAt: Timestamp?, _ time: Timestamp
    ) throws {
        let connectionID = try id(of: .connection, connection, namespace)
        let taken = try prepare("SELECT 1 FROM endpoint WHERE token = ?")
        taken.bind(1, token)
        if try taken.first({ _ in true }) != nil {
            throw SluiceError(.conflict, "this address exists already: make a new token", context: ["connection": connection])
        }
        if let othersExpireAt {
            let expire = try prepare(
                "UPDATE endpoint SET expires_at = min(coalesce(expires_at, ?1), ?1) WHERE ns = ?2 AND connection_id = ?3")
            expire.bind(1, othersExpireAt)
            expire.bind(2, namespace)
            expire.bind(3, connectionID)
            try expire.run()
        }
        let insert = try prepare("INSERT INTO endpoint (ns, connection_id, token, created_at) VALUES (?, ?, ?, ?)")
        insert.bind(1, namespace)
        insert.bind(2, connectionID)
        insert.bind(3, token)
        insert.bind(4, time)
        try insert.run()
    }

    /// The topic of a key, made if it is missing.
    func topic(_ namespace: NamespaceID, _ connection: ConnectionID, key: String) throws -> TopicID {
        let insert = try prepare("INSERT INTO topic (ns, connection_id, key) VALUES (?, ?, ?) ON CONFLICT DO NOTHING")
        insert.bind(1, namespace)
        insert.bind(2, connection)
        insert.bind(3, key)
        try insert.run()
        let query = try prepare("SELECT id FROM topic WHERE ns = ? AND connection_id = ? AND key = ?")
        query.bind(1, namespace)
        query.bind(2, connection)
        query.bind(3, key)
        guard let topic: TopicID = try query.first({ $0.id(0) }) else { throw SluiceError(.storage, "a topic was not written") }
        return topic
    }
}
