import SluiceCore
import SluiceStore

/// A lease as workers see it: `lease_` + the consumer's number, the lease's and its nonce, joined by `_`.
public struct LeaseToken: Sendable, Equatable {
    public var consumer: DestinationID
    public var id: LeaseID
    public init(consumer: DestinationID, id: LeaseID) {
        self.consumer = consumer
        self.id = id
    }

    static let prefix = "lease_"

    public var text: String {
        "\(LeaseToken.prefix)\(consumer.rawValue)_\(id.number)_\(String(UInt64(bitPattern: id.nonce), radix: 36))"
    }

    /// Throws `.invalid` for what is no lease, and `.notFound` for one of another consumer.
    public init(_ text: String, of consumer: DestinationID) throws(SluiceError) {
        let parts = text.dropFirst(LeaseToken.prefix.count).split(separator: "_", omittingEmptySubsequences: false)
        guard text.utf8.count <= 64, text.hasPrefix(LeaseToken.prefix), parts.count == 3, let owner = Int64(parts[0]),
            let number = Int64(parts[1]), let nonce = UInt64(parts[2], radix: 36)
        else {
            let given = "`lease` is the text that a fetch gave as `lease`"
            throw SluiceError(
                .invalid,
                text.hasPrefix(LeaseToken.prefix)
                    ? "this lease is malformed, cut off perhaps: \(given), such as lease_3_17_1x9kq"
                    : "\(given): it begins with \(LeaseToken.prefix)")
        }
        guard owner == consumer.rawValue else {
            throw SluiceError(.notFound, "this lease belongs to another consumer: nothing was changed")
        }
        self.init(consumer: consumer, id: LeaseID(number: number, nonce: Int64(bitPattern: nonce)))
    }
}
