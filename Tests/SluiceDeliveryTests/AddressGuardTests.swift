import SluiceCore
import Testing

@Suite struct AddressGuardTests {
    static let table: [(String, AddressGuard.Kind)] = [
        ("8.8.8.8", .global), ("1.1.1.1", .global), ("172.15.255.255", .global), ("172.32.0.0", .global), ("100.63.255.255", .global),
        ("100.128.0.0", .global), ("169.253.1.1", .global), ("198.17.255.255", .global), ("198.20.0.0", .global),
        ("223.255.255.255", .global),
        ("0.0.0.0", .unspecified), ("0.1.2.3", .reserved), ("10.0.0.1", .privateUse), ("10.255.255.255", .privateUse),
        ("100.64.0.1", .carrierGradeNAT), ("100.127.255.255", .carrierGradeNAT), ("127.0.0.1", .loopback), ("127.255.0.9", .loopback),
        ("169.254.169.254", .linkLocal), ("172.16.0.1", .privateUse), ("172.31.255.255", .privateUse), ("192.0.0.8", .reserved),
        ("192.0.2.1", .documentation), ("192.168.255.1", .privateUse), ("198.18.0.1", .benchmarking), ("198.19.255.255", .benchmarking),
        ("198.51.100.7", .documentation), ("203.0.113.9", .documentation), ("224.0.0.1", .multicast), ("239.1.1.1", .multicast),
        ("240.0.0.1", .reserved), ("255.255.255.255", .reserved),
        ("2606:4700::1111", .global), ("2a00:1450:4001::200e", .global), ("::", .unspecified), ("::1", .loopback),
        ("::ffff:127.0.0.1", .loopback), ("::ffff:10.1.2.3", .privateUse), ("::ffff:8.8.8.8", .embedded), ("::ffff:a9fe:a9fe", .linkLocal),
        ("::127.0.0.1", .loopback), ("::ffff:0:192.168.0.1", .privateUse), ("64:ff9b::7f00:1", .loopback), ("64:ff9b::8.8.8.8", .embedded),
        ("64:ff9b:1::1", .privateUse), ("2002:7f00:1::", .loopback), ("2002:808:808::1", .embedded), ("2001::1", .embedded),
        ("2001:2::1", .benchmarking), ("2001:10::1", .reserved), ("2001:db8::1", .documentation), ("3fff:1::", .documentation),
        ("fc00::1", .uniqueLocal), ("fdff::1", .uniqueLocal), ("fe80::1", .linkLocal), ("febf::1", .linkLocal), ("fec0::1", .privateUse),
        ("ff02::1", .multicast), ("100::1", .reserved), ("4000::1", .reserved), ("fbff::1", .reserved),
    ]

    @Test(arguments: table) func classifies(_ text: String, _ kind: AddressGuard.Kind) throws {
        let address = try #require(IPAddress(text))
        #expect(AddressGuard.classify(address) == kind)
        #expect(AddressGuard.isAllowed(address, allowed: .publicOnly) == (kind == .global))
        let isNeverOpen = [.unspecified, .multicast, .reserved].contains(kind) || AddressGuard.isMetadata(address)
        #expect(AddressGuard.isAllowed(address, allowed: true) == !isNeverOpen)
        #expect(IPAddress(address.description) == address)
    }

    @Test(arguments: [
        "", "1", "127.1", "0x7f.0.0.1", "127.0.0.01", "1.2.3.256", "1.2.3.4.5", "1.2.3.", "+1.2.3.4", ":", ":::", "1:", "1::2::3", "::g",
        "12345::",
        "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7:8::", "::1.2.3", "1.2.3.4::", "fe80::1%eth0", "::+1",
    ]) func refusesWhatIsNoAddress(_ text: String) { #expect(IPAddress(text) == nil) }

    @Test func writesTheShortestForm() throws {
        #expect(IPAddress("2001:DB8:0:0:1:0:0:0")?.description == "2001:db8:0:0:1::")
        #expect(IPAddress("0:0:0:0:0:0:0:1")?.description == "::1")
        #expect(IPAddress(bytes: [1, 2, 3]) == nil)
    }

    @Test func oneBadAddressSpoilsAll() throws {
        let addresses = try ["8.8.8.8", "10.0.0.1"].map { try #require(IPAddress($0)) }
        let error = #expect(throws: SluiceError.self) {
            try AddressGuard.check(host: "evil.example", addresses: addresses, allowed: .publicOnly)
        }
        #expect(error?.code == .forbiddenAddress)
        #expect(error?.message.contains("allow_private") == true)
        try AddressGuard.check(host: "inside.example", addresses: addresses, allowed: true)
    }

    /// Networks that are allowed, an address, and whether it is then.
    @Test(
        arguments: [
            (["10.0.0.0/8"], "10.1.2.3", true), (["10.0.0.0/8"], "192.168.0.1", false),
            (["10.0.0.0/8"], "172.16.0.1", false), (["10.0.0.0/8"], "127.0.0.1", false), (["10.0.0.0/8"], "::ffff:10.1.2.3", true),
            (["10.0.0.0/8"], "::ffff:192.168.0.1", false), (["10.0.0.0/8"], "64:ff9b::10.1.2.3", false),
            (["10.0.0.0/8"], "::10.1.2.3", false),
            (["10.0.0.0/8"], "2002:a01:203::", false), (["10.0.0.0/8"], "2001:0:a01:203::1", false),
            (["10.0.0.0/8", "fd00::/8"], "fd12::1", true),
            (["fd00::/8"], "fc00::1", false), (["127.0.0.1"], "127.0.0.1", true), (["127.0.0.1"], "127.0.0.2", false),
            (["100.64.0.0/10"], "100.100.1.1", true), (["100.64.0.0/10"], "100.100.100.200", false),
            (["169.254.0.0/16"], "169.254.1.1", true),
            (["169.254.0.0/16"], "169.254.169.254", false), (["169.254.169.254/32"], "169.254.169.254", true),
            (["169.254.169.254"], "::ffff:169.254.169.254", true), (["fd00::/8"], "fd00:ec2::254", false),
            (["fd00:ec2::254"], "fd00:ec2::254", true),
            (["0.0.0.0/0"], "10.0.0.1", true), (["0.0.0.0/0"], "0.0.0.0", false), (["0.0.0.0/0"], "224.0.0.1", false),
            (["0.0.0.0/0"], "240.0.0.1", false), (["0.0.0.0/0"], "169.254.169.254", false), (["::/0"], "fe80::1", true),
            (["::/0"], "10.0.0.1", false), (["::/0"], "ff02::1", false), ([], "8.8.8.8", true),
        ] as [([String], String, Bool)]) func allowedNetworksOpenThemselvesAndNothingElse(
            _ networks: [String], _ text: String, _ isOpen: Bool
        ) throws
    {
        let allowed = AddressAllowance(networks: try networks.map { try #require(IPNetwork($0)) })
        let address = try #require(IPAddress(text))
        #expect(AddressGuard.isAllowed(address, allowed: allowed) == isOpen)
        if isOpen { return try AddressGuard.check(host: "h", addresses: [address], allowed: allowed) }
        let error = #expect(throws: SluiceError.self) { try AddressGuard.check(host: "h", addresses: [address], allowed: allowed) }
        #expect(error?.code == .forbiddenAddress)
    }

    @Test(arguments: ["169.254.169.254", "100.100.100.200", "fd00:ec2::254", "::ffff:a9fe:a9fe", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::"])
    func whatGivesOutCredentialsNeedsToBeNamed(_ text: String) throws {
        let address = try #require(IPAddress(text))
        #expect(!AddressGuard.isAllowed(address, allowed: true))
        let error = #expect(throws: SluiceError.self) { try AddressGuard.check(host: "h", addresses: [address], allowed: true) }
        #expect(error?.message.contains("credentials") == true)
    }

    @Test(arguments: [
        "", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/+8", "10.0.0.0/8/8", "10.0.0.1/8", "10/8", "fd00::/129",
        "fd00::1/64", "localhost",
    ])
    func refusesWhatIsNoNetwork(_ text: String) { #expect(IPNetwork(text) == nil) }

    @Test(arguments: [
        ("HTTP://Example.COM", "http://example.com/"), ("https://a.b:443/x?y#z", "https://a.b/x?y"),
        ("http://[::1]:8080?q", "http://[::1]:8080/?q"),
        ("http://a:80/", "http://a/"), ("http://0x7f.1/", "http://0x7f.1/"),
    ]) func rewritesURLs(_ text: String, _ url: String) throws { #expect(try WebAddress(text).url == url) }

    @Test(arguments: [
        "", "ftp://a/", "//a", "http://", "http:///x", "http://u@a/", "http://u:p@127.0.0.1/", "http://a b/", "http://a\\@b/",
        "http://a:0/",
        "http://a:65536/", "http://a:+80/", "http://a:/", "http://[::1/", "http://[fe80::1%25eth0]/", "http://ä.example/", "http://a%2eb/",
        "http+unix://x/",
    ]) func refusesURLs(_ text: String) { #expect(throws: SluiceError.self) { try WebAddress(text) } }
}
