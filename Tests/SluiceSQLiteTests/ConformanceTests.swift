import SluiceSQLite
import SluiceStore
import SluiceTesting
import Testing

@Suite struct ConformanceTests {
    @Test(arguments: StoreConformance.all)
    func conforms(_ test: ConformanceCase) async throws {
        let directory = try TemporaryDirectory()
        // What the disk does is not the subject here, and syncs are slow.
        let options = directory.options { $0.synchronous = .off }
        let suite = StoreConformance(
            makeStore: { try await TemporaryDirectory.open(options) },
            reopen: { store in
                await store.close()
                return try await TemporaryDirectory.open(options)
            })
        try await test.run(suite)
        withExtendedLifetime(directory) {}
    }

    @Test func caseNamesAreUnique() {
        #expect(Set(StoreConformance.all.map(\.name)).count == StoreConformance.all.count)
    }
}
