/// Which addresses besides public ones requests may go to.
public struct AddressAllowance: Sendable, Hashable, ExpressibleByBooleanLiteral {
    /// All that are private: `allow_private`.
    public var allowsPrivate: Bool
    /// Those in these networks: `allow_networks`.
    public var networks: [IPNetwork]

    public static let networksMax = 64
    public static let publicOnly = AddressAllowance()

    public init(allowsPrivate: Bool = false, networks: [IPNetwork] = []) {
        self.allowsPrivate = allowsPrivate
        self.networks = networks
    }

    public init(booleanLiteral value: Bool) { self.init(allowsPrivate: value) }
}

/// Addresses with a common beginning, for example 10.0.0.0/8 or fd00::/8.
public struct IPNetwork: Sendable, Hashable, CustomStringConvertible {
    public let address: IPAddress
    /// How many bits are common.
    public let bits: Int

    /// Reads `ADDRESS/BITS`, or an address for itself alone. Nil for anything else, and where bits behind the first `BITS` are set:
    /// whoever writes 10.1.2.3/8 may mean another network.
    public init?(_ text: String) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count <= 2, let address = IPAddress(String(parts[0])) else { return nil }
        let most = address.bytes.count * 8
        var bits = most
        if parts.count == 2 {
            guard (1...3).contains(parts[1].utf8.count), parts[1].utf8.allSatisfy({ $0 &- 0x30 < 10 }), let given = Int(parts[1]),
                given <= most
            else { return nil }
            bits = given
        }
        self.address = address
        self.bits = bits
        for index in bits..<most where address.bytes[index / 8] & (0x80 >> UInt8(index % 8)) != 0 { return nil }
    }

    public var description: String { "\(address)/\(bits)" }

    /// An IPv4-mapped address counts as the IPv4 address that it is.
    public func contains(_ other: IPAddress) -> Bool {
        let bytes = IPNetwork.unmapped(other)
        guard bytes.count == address.bytes.count else { return false }
        return AddressGuard.matches(bytes, address.bytes, bits: bits)
    }

    /// Whether it is this address and nothing else.
    public func names(_ other: IPAddress) -> Bool { bits == address.bytes.count * 8 && contains(other) }

    private static func unmapped(_ address: IPAddress) -> [UInt8] {
        let bytes = address.bytes
        let isMapped = bytes.count == 16 && bytes[..<10].allSatisfy { $0 == 0 } && bytes[10] == 0xFF && bytes[11] == 0xFF
        return isMapped ? Array(bytes[12...]) : bytes
    }
}
