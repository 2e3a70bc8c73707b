// swift-tools-version: 6.2
import PackageDescription

// The host's own sources, by links, so that they and nothing else are instrumented: what other packages bring would cost
// most of the time and show nothing.
let watched: [SwiftSetting] = [
    .swiftLanguageMode(.v6), .unsafeFlags(["-O", "-sanitize=fuzzer,address", "-parse-as-library", "-enable-testing"]),
]
let collections: [Target.Dependency] = [
    .product(name: "HeapModule", package: "swift-collections"), .product(name: "DequeModule", package: "swift-collections"),
]
let crypto: [Target.Dependency] = [
    .product(name: "Crypto", package: "swift-crypto"), .product(name: "CryptoExtras", package: "swift-crypto"),
]

let package = Package(
    name: "fuzzing",
    dependencies: [
        .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
    ],
    targets: [
        .target(name: "SluiceCore", dependencies: collections, swiftSettings: watched),
        .target(name: "SluiceConnectors", dependencies: ["SluiceCore"] + crypto, swiftSettings: watched),
        .systemLibrary(name: "CLua54", pkgConfig: "lua5.4", providers: [.apt(["liblua5.4-dev"])]),
        .target(
            name: "CLua", dependencies: ["CLua54"],
            cSettings: [.unsafeFlags(["-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=fuzzer-no-link,address"])]),
        .target(name: "SluiceLua", dependencies: ["CLua", "SluiceConnectors", "SluiceCore"] + crypto, swiftSettings: watched),
        .target(name: "Driver"),
        .executableTarget(
            name: "LuaHost", dependencies: ["Driver", "SluiceLua", "SluiceConnectors", "SluiceCore"], swiftSettings: watched,
            linkerSettings: [.unsafeFlags(["-sanitize=fuzzer,address", "-use-ld=lld"])]),
    ]
)
