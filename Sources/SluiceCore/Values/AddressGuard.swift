/// Keeps requests that follow somebody's configuration out of the network that Sluice itself stands in.
///
/// Every address that a name resolves to is checked, and the connection goes to a checked address, so that a name which
/// changes its answer in between gains nothing. Source: the IANA IPv4 and IPv6 special-purpose address registries
/// (RFC 6890 and its updates).
public enum AddressGuard {
    /// What an address is for.
    public enum Kind: String, Sendable, CaseIterable {
        case global
        case loopback
        case privateUse = "private"
        case linkLocal = "link_local"
        case carrierGradeNAT = "carrier_grade_nat"
        case uniqueLocal = "unique_local"
        /// An IPv6 form of a global IPv4 address: mapped, NAT64, 6to4, Teredo.
        case embedded
        case documentation
        case benchmarking
        case unspecified
        case multicast
        case reserved

        /// Whether `allow_private` opens it. What no TCP connection can sensibly go to stays closed.
        public var isOpenToPrivate: Bool {
            switch self {
            case .unspecified, .multicast, .reserved: false
            default: true
            }
        }
    }

    /// Whether a connection may be made.
    public static func isAllowed(_ address: IPAddress, allowed: AddressAllowance) -> Bool {
        let kind = classify(address)
        if kind == .global { return true }
        guard kind.isOpenToPrivate, !isMetadata(address) || allowed.networks.contains(where: { $0.names(address) }) else { return false }
        return allowed.allowsPrivate || allowed.networks.contains { $0.contains(address) }
    }

    /// Where clouds give out credentials to whoever asks from inside. Opened only by a network of this one address.
    /// Sources: the instance metadata pages of AWS (also over IPv6), Google Cloud, Azure, Oracle, Alibaba Cloud.
    public static func isMetadata(_ address: IPAddress) -> Bool {
        let inner = embedded(address) ?? address
        return metadata.contains(inner)
    }

    private static let metadata: [IPAddress] = [
        IPAddress("169.254.169.254"), IPAddress("169.254.170.2"), IPAddress("100.100.100.200"), IPAddress("192.0.0.192"),
        IPAddress("fd00:ec2::254"), IPAddress("fd20:ce::254"),
    ].compactMap { $0 }

    /// The IPv4 address that lies in an IPv6 one.
    private static func embedded(_ address: IPAddress) -> IPAddress? {
        guard !address.isVersion4, let rule = version6.first(where: { matches(address.bytes, $0.prefix, bits: $0.bits) }),
            let offset = rule.embeddedAt
        else { return nil }
        return IPAddress(bytes: Array(address.bytes[offset..<offset + 4]))
    }

    /// Throws `.forbiddenAddress` if one of the addresses of a host may not be connected to: one bad address spoils all,
    /// because which one a connection takes is chance.
    public static func check(host: String, addresses: [IPAddress], allowed: AddressAllowance) throws(SluiceError) {
        guard let bad = addresses.first(where: { !isAllowed($0, allowed: allowed) }) else { return }
        let kind = classify(bad)
        let remedy =
            if isMetadata(bad) {
                "It gives out credentials of this machine; if that is meant, name it alone: allow_networks: [\(bad)/\(bad.bytes.count * 8)]."
            } else if !kind.isOpenToPrivate {
                "Requests never go to such an address; correct the URL."
            } else if allowed.networks.isEmpty {
                "If that is meant, set allow_private: true or allow_networks where the URL is set."
            } else {
                "It is in none of the networks of allow_networks; if that is meant, add its network there."
            }
        throw SluiceError(
            .forbiddenAddress, "The host \(host) has the address \(bad), which is not a public one (\(kind.rawValue)). \(remedy)")
    }

    public static func classify(_ address: IPAddress) -> Kind {
        address.isVersion4 ? classify4(address.bytes) : classify6(address.bytes)
    }

    private static func classify4(_ bytes: [UInt8]) -> Kind {
        version4.first { matches(bytes, $0.prefix, bits: $0.bits) }?.kind ?? .global
    }

    private static func classify6(_ bytes: [UInt8]) -> Kind {
        guard let rule = version6.first(where: { matches(bytes, $0.prefix, bits: $0.bits) }) else {
            return matches(bytes, [0x20], bits: 3) ? .global : .reserved
        }
        guard rule.kind == .embedded, let offset = rule.embeddedAt else { return rule.kind }
        let inner = classify4(Array(bytes[offset..<offset + 4]))
        return inner == .global ? .embedded : inner
    }

    /// Whether the first bits are those of a prefix, which goes on with zeros.
    static func matches(_ bytes: [UInt8], _ prefix: [UInt8], bits: Int) -> Bool {
        for index in 0..<(bits + 7) / 8 {
            let mask: UInt8 = bits - index * 8 >= 8 ? 0xFF : ~(0xFF >> UInt8(bits - index * 8))
            let expected = index < prefix.count ? prefix[index] : 0
            if bytes[index] & mask != expected & mask { return false }
        }
        return true
    }

    private static let version4: [(prefix: [UInt8], bits: Int, kind: Kind)] = [
        ([0, 0, 0, 0], 32, .unspecified), ([0], 8, .reserved), ([10], 8, .privateUse), ([100, 64], 10, .carrierGradeNAT),
        ([127], 8, .loopback), ([169, 254], 16, .linkLocal), ([172, 16], 12, .privateUse), ([192, 0, 0], 24, .reserved),
        ([192, 0, 2], 24, .documentation), ([192, 88, 99], 24, .reserved), ([192, 168], 16, .privateUse),
        ([198, 18], 15, .benchmarking), ([198, 51, 100], 24, .documentation), ([203, 0, 113], 24, .documentation),
        ([224], 4, .multicast), ([240], 4, .reserved),
    ]

    /// The first that matches decides. A prefix goes on with zeros. `embeddedAt`: where an IPv4 address lies in it.
    private static let version6: [(prefix: [UInt8], bits: Int, kind: Kind, embeddedAt: Int?)] = [
        ([], 128, .unspecified, nil),
        ([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], 128, .loopback, nil),
        ([], 96, .embedded, 12),  // IPv4-compatible (RFC 4291), long deprecated
        ([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF], 96, .embedded, 12),  // IPv4-mapped
        ([0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF], 96, .embedded, 12),  // IPv4-translated (RFC 2765)
        ([0, 0x64, 0xFF, 0x9B], 96, .embedded, 12),  // NAT64 (RFC 6052)
        ([0, 0x64, 0xFF, 0x9B, 0, 1], 48, .privateUse, nil),  // NAT64 of one's own network (RFC 8215)
        ([0x20, 0x02], 16, .embedded, 2),  // 6to4 (RFC 3056)
        ([0x20, 0x01], 32, .embedded, nil),  // Teredo (RFC 4380)
        ([0x20, 0x01, 0x00, 0x02], 48, .benchmarking, nil),
        ([0x20, 0x01], 23, .reserved, nil),
        ([0x20, 0x01, 0x0D, 0xB8], 32, .documentation, nil),
        ([0x3F, 0xFF], 20, .documentation, nil),
        ([0xFC], 7, .uniqueLocal, nil),
        ([0xFE, 0x80], 10, .linkLocal, nil),
        ([0xFE, 0xC0], 10, .privateUse, nil),  // site-local, deprecated by RFC 3879
        ([0xFF], 8, .multicast, nil),
    ]
}
