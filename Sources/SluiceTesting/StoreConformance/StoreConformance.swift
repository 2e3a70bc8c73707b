import SluiceCore
import SluiceStore

/// The suite that every `Store` passes unchanged. It knows the protocol only.
///
/// ```swift
/// @Test(arguments: StoreConformance.all)
/// func conforms(_ test: ConformanceCase) async throws { try await test.run(StoreConformance(makeStore: …, reopen: …)) }
/// ```
public struct StoreConformance: Sendable {
    let makeStore: @Sendable () async throws -> any Store
    let reopen: @Sendable (any Store) async throws -> any Store

    /// - Parameters:
    ///   - makeStore: a new, empty store.
    ///   - reopen: closes a store and opens another on the same data, as after a restart.
    public init(
        makeStore: @escaping @Sendable () async throws -> any Store, reopen: @escaping @Sendable (any Store) async throws -> any Store
    ) {
        self.makeStore = makeStore
        self.reopen = reopen
    }

    /// Every case, named after the promise it holds.
    public static let all: [ConformanceCase] =
        inbox + inboxReads + pages + cycles + dedup + jobs + deliveries + order + consumers + definitions + subscriptions + credentials
        + backfills + callbacks + upkeep + attachments + deadLetters + quarantine + removals + retention
}

/// One promise of a store.
public struct ConformanceCase: Sendable, CustomStringConvertible {
    public let name: String
    private let body: @Sendable (inout StoreBench) async throws -> Void

    init(_ name: String, _ body: @escaping @Sendable (inout StoreBench) async throws -> Void) {
        self.name = name
        self.body = body
    }

    public var description: String { name }

    /// Runs the case on a new store, which it closes. Throws `ConformanceFailure` where the store does not keep the promise.
    public func run(_ suite: StoreConformance) async throws {
        var bench = StoreBench(suite: suite, store: try await suite.makeStore())
        do {
            try await body(&bench)
        } catch {
            await bench.store.close()
            throw error
        }
        await bench.store.close()
    }
}

/// What a store did not do, and where the suite saw it.
public struct ConformanceFailure: Error, CustomStringConvertible {
    public let description: String
}

// MARK: - Expectations, which throw so that no testing library is needed

func expect(_ condition: Bool, _ what: @autoclosure () -> String, file: StaticString = #fileID, line: UInt = #line) throws {
    if !condition { throw ConformanceFailure(description: "\(what()) (\(file):\(line))") }
}

func expectEqual<T: Equatable>(
    _ found: T, _ wanted: T, _ what: @autoclosure () -> String, file: StaticString = #fileID, line: UInt = #line
) throws {
    try expect(found == wanted, "\(what()): found \(found), wanted \(wanted)", file: file, line: line)
}

func expectError(
    _ code: SluiceError.Code, _ what: String, file: StaticString = #fileID, line: UInt = #line, _ body: () async throws -> Void
) async throws {
    do {
        try await body()
    } catch let error as SluiceError {
        return try expectEqual(error.code.rawValue, code.rawValue, what, file: file, line: line)
    }
    throw ConformanceFailure(description: "\(what): no error, wanted \(code.rawValue) (\(file):\(line))")
}

func require<T>(_ value: T?, _ what: String, file: StaticString = #fileID, line: UInt = #line) throws -> T {
    guard let value else { throw ConformanceFailure(description: "\(what) is missing (\(file):\(line))") }
    return value
}
