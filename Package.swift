// swift-tools-version: 6.2
import PackageDescription

// Arrows are imports, and only these exist: Tests/SluiceTidyTests checks every `import` against this table.
// The two pure targets are optimised in debug builds as well, so that `./test` can run simulations by the million.
let strict: [SwiftSetting] = [.swiftLanguageMode(.v6), .treatAllWarnings(as: .error)]
let pure: [SwiftSetting] = strict + [.unsafeFlags(["-O"], .when(configuration: .debug))]

let hummingbird: Target.Dependency = .product(name: "Hummingbird", package: "hummingbird")
let hummingbirdCore: Target.Dependency = .product(name: "HummingbirdCore", package: "hummingbird")
let httpClient: Target.Dependency = .product(name: "AsyncHTTPClient", package: "async-http-client")
let crypto: Target.Dependency = .product(name: "Crypto", package: "swift-crypto")
let cryptoExtras: Target.Dependency = .product(name: "CryptoExtras", package: "swift-crypto")
let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")
let lifecycle: Target.Dependency = .product(name: "ServiceLifecycle", package: "swift-service-lifecycle")
let nioCore: Target.Dependency = .product(name: "NIOCore", package: "swift-nio")
let nioPosix: Target.Dependency = .product(name: "NIOPosix", package: "swift-nio")
let nioHTTP1: Target.Dependency = .product(name: "NIOHTTP1", package: "swift-nio")
let httpTypes: Target.Dependency = .product(name: "HTTPTypes", package: "swift-http-types")
let nioHTTPTypes: Target.Dependency = .product(name: "NIOHTTPTypesHTTP1", package: "swift-nio-extras")
let nioExtras: Target.Dependency = .product(name: "NIOExtras", package: "swift-nio-extras")

let package = Package(
    name: "sluice",
    products: [
        .executable(name: "sluice", targets: ["sluice"]),
        .library(name: "SluiceServer", targets: ["SluiceServer"]),
        .library(name: "SluiceConnectors", targets: ["SluiceConnectors"]),
    ],
    dependencies: [
        .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1"),
        .package(url: "https://github.com/swift-server/async-http-client", from: "1.37.0"),
        .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-http-types", from: "1.8.0"),
        .package(url: "https://github.com/apple/swift-nio-extras", from: "1.35.2"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
        .package(url: "https://github.com/swiftlang/swift-subprocess", from: "1.0.2", traits: []),
    ],
    targets: [
        .target(
            name: "SluiceCore",
            dependencies: [
                .product(name: "HeapModule", package: "swift-collections"),
                .product(name: "DequeModule", package: "swift-collections"),
            ],
            swiftSettings: pure),
        .target(
            name: "SluiceConnectors", dependencies: ["SluiceCore", crypto, cryptoExtras],
            swiftSettings: strict + [.unsafeFlags(["-O"], .when(configuration: .debug))]),
        .systemLibrary(name: "CLua54", pkgConfig: "lua5.4", providers: [.apt(["liblua5.4-dev"])]),
        .target(name: "CLua", dependencies: ["CLua54"], cSettings: [.unsafeFlags(["-O2"])]),
        .target(name: "SluiceLua", dependencies: ["CLua", "SluiceConnectors", "SluiceCore", crypto], swiftSettings: pure),
        .target(name: "SluiceStore", dependencies: ["SluiceCore"], swiftSettings: strict),
        .systemLibrary(name: "CSQLite", pkgConfig: "sqlite3", providers: [.apt(["libsqlite3-dev"])]),
        .target(
            name: "SluiceSQLite",
            dependencies: [
                "CSQLite", "SluiceStore", "SluiceCore", .product(name: "GRDB", package: "GRDB.swift"),
                .product(name: "GRDBSQLite", package: "GRDB.swift"),
            ],
            swiftSettings: strict),
        .target(
            name: "SluiceGateway",
            dependencies: [
                "SluiceStore", "SluiceConnectors", "SluiceCore", hummingbird, hummingbirdCore, nioCore, nioPosix, nioHTTP1, nioExtras,
                crypto, logging, lifecycle, .product(name: "DequeModule", package: "swift-collections"),
            ],
            swiftSettings: strict),
        .target(name: "SluiceOutgoing", dependencies: ["SluiceCore", httpClient, nioCore, nioHTTP1, nioPosix], swiftSettings: strict),
        .target(
            name: "SluicePolling",
            dependencies: [
                "SluiceOutgoing", "SluiceStore", "SluiceConnectors", "SluiceCore", httpClient, nioCore, nioPosix, nioHTTP1, crypto, logging,
            ],
            swiftSettings: strict),
        .target(
            name: "SluiceDelivery",
            dependencies: [
                "SluiceOutgoing", "SluiceStore", "SluiceConnectors", "SluiceCore", httpClient, hummingbird, nioCore, nioPosix, nioHTTP1,
                crypto, logging,
                .product(name: "Subprocess", package: "swift-subprocess"),
            ],
            swiftSettings: strict),
        .systemLibrary(name: "CNATS", pkgConfig: "libnats", providers: [.apt(["libnats-dev"])]),
        .target(
            name: "SluiceNATS", dependencies: ["CNATS", "SluiceDelivery", "SluiceOutgoing", "SluiceConnectors", "SluiceCore", crypto],
            swiftSettings: strict),
        .target(
            name: "SluiceServer",
            dependencies: [
                "SluiceCore", "SluiceConnectors", "SluiceLua", "SluiceStore", "SluiceSQLite", "SluiceGateway",
                "SluicePolling", "SluiceDelivery", "SluiceOutgoing", "SluiceNATS", hummingbird, httpClient, crypto, logging, lifecycle,
                nioCore, nioHTTP1, nioHTTPTypes, .product(name: "Yams", package: "Yams"),
            ],
            swiftSettings: strict),
        .target(name: "SluiceSimulation", dependencies: ["SluiceCore", "SluiceStore", "SluiceConnectors"], swiftSettings: pure),
        .executableTarget(
            name: "sluice",
            dependencies: [
                "SluiceServer", "SluiceSimulation", httpClient,
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: strict),
        .target(
            name: "SluiceTesting",
            dependencies: [
                "CNATS", "SluiceCore", "SluiceStore", "SluiceConnectors", hummingbird, httpClient, nioCore, nioPosix, nioHTTP1, httpTypes,
                logging,
                crypto,
                lifecycle,
            ],
            swiftSettings: strict),
        .executableTarget(
            name: "sluice-demo",
            dependencies: ["SluiceTesting", "SluiceCore", httpClient, .product(name: "ArgumentParser", package: "swift-argument-parser")],
            swiftSettings: strict),
        .executableTarget(
            name: "sluice-example", dependencies: [hummingbird, httpClient, nioCore, httpTypes, crypto], path: "examples/clients/swift",
            swiftSettings: strict),
        .testTarget(name: "SluiceCoreTests", dependencies: ["SluiceCore"], swiftSettings: strict),
        .testTarget(name: "SluiceSimulationTests", dependencies: ["SluiceSimulation", "SluiceCore"], swiftSettings: strict),
        .testTarget(
            name: "SluiceConnectorsTests", dependencies: ["SluiceConnectors", "SluiceCore", crypto, cryptoExtras], exclude: ["Fixtures"],
            swiftSettings: strict),
        .testTarget(name: "SluiceLuaTests", dependencies: ["SluiceLua", "SluiceConnectors", "SluiceCore"], swiftSettings: strict),
        .testTarget(
            name: "SluiceSQLiteTests",
            dependencies: [
                "SluiceSQLite", "SluiceStore", "SluiceCore", "SluiceTesting", .product(name: "GRDB", package: "GRDB.swift"),
            ],
            swiftSettings: strict),
        .testTarget(
            name: "SluiceGatewayTests",
            dependencies: [
                "SluiceGateway", "SluiceStore", "SluiceConnectors", "SluiceCore", "SluiceTesting", nioCore, nioPosix, crypto, logging,
                lifecycle,
            ],
            swiftSettings: strict),
        .testTarget(
            name: "SluiceOutgoingTests",
            dependencies: ["SluiceOutgoing", "SluiceCore", "SluiceTesting", httpClient, nioCore, nioPosix, nioHTTP1],
            swiftSettings: strict),
        .testTarget(
            name: "SluicePollingTests",
            dependencies: [
                "SluicePolling", "SluiceOutgoing", "SluiceSQLite", "SluiceLua", "SluiceStore", "SluiceConnectors", "SluiceCore",
                "SluiceTesting",
                httpClient,
                nioCore, nioPosix, logging,
            ],
            swiftSettings: strict),
        .testTarget(
            name: "SluiceDeliveryTests",
            dependencies: [
                "SluiceDelivery", "SluiceOutgoing", "SluiceSQLite", "SluiceTesting", "SluiceStore", "SluiceConnectors", "SluiceCore",
                nioCore, nioPosix,
                nioHTTP1, crypto, logging,
            ],
            swiftSettings: strict),
        .testTarget(
            name: "SluiceNATSTests",
            dependencies: ["SluiceNATS", "SluiceDelivery", "SluiceStore", "SluiceConnectors", "SluiceCore", "SluiceTesting", crypto],
            swiftSettings: strict),
        .testTarget(
            name: "SluiceServerTests",
            dependencies: [
                "SluiceServer", "SluiceCore", "SluiceConnectors", "SluiceStore", "SluiceSQLite", "SluiceDelivery", "SluiceOutgoing",
                "SluiceNATS", "SluiceLua", "SluicePolling", "SluiceGateway", "SluiceTesting", httpClient, logging,
            ],
            swiftSettings: strict),
        .testTarget(
            name: "SluiceToolsTests",
            dependencies: [
                "SluiceServer", "SluiceSimulation", "SluiceLua", "SluiceConnectors", "SluiceCore", "SluiceTesting", nioCore, nioPosix,
            ], swiftSettings: strict),
        .testTarget(name: "SluiceTestingTests", dependencies: ["SluiceTesting", "SluiceCore", httpClient], swiftSettings: strict),
        .testTarget(name: "SluiceTidyTests", swiftSettings: strict),
        .testTarget(
            name: "SluiceDocsTests", dependencies: ["SluiceServer", "SluiceLua", "SluiceConnectors", "SluiceCore"], swiftSettings: strict),
        .testTarget(
            name: "SluiceLiveTests",
            dependencies: [
                "SluiceTesting", "SluiceCore", "sluice", httpClient, nioCore, .product(name: "GRDB", package: "GRDB.swift"),
            ], swiftSettings: strict),
    ]
)
