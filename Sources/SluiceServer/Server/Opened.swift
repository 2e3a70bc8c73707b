import NIOPosix
import SluiceConnectors
import SluiceCore
import SluiceDelivery
import SluiceSQLite
import SluiceStore

/// A data directory, opened under its lock: what a server and a command without a server have in common.
public struct Opened: Sendable {
    public var store: any Store
    public var sealer: SecretSealer
    public var library: ConnectorLibrary
    public var clock: AnchoredClock
    /// For the person who starts it: a master key was made, a connector could not be loaded.
    public var notices: [String]
    /// What of this machine destinations may use.
    public var places: DestinationPlaces

    /// Throws `.locked` where another process uses the directory, `.wrongKey`, `.storage`. `connectorsDirectory` nil: only
    /// the connectors that come with Sluice.
    public static func open(
        dataDirectory: String, connectorsDirectory: String?, environment: [String: String], filesDirectory: String? = nil,
        commandsDirectory: String? = nil
    ) async throws -> Opened {
        var options = SQLiteOptions(directory: dataDirectory)
        // For the test that shows that it would notice a server which answers before it syncs. Never set otherwise.
        let isUnsafeForATest = environment["SLUICE_TEST_SYNCHRONOUS"] == "normal"
        if isUnsafeForATest { options.synchronous = .normal }
        let storeOptions = options
        let (store, library, places, loss) = try await NIOThreadPool.singleton.runIfActive {
            try SmallFile.makeDirectory(dataDirectory)
            let places = try DestinationPlaces.find(
                files: filesDirectory, commands: commandsDirectory, dataDirectory: dataDirectory,
                connectorsDirectory: connectorsDirectory, environment: environment)
            var library = ConnectorLibrary()
            if let connectorsDirectory { try library.load(directory: connectorsDirectory) }
            let loss = try DatabaseLoss.find(in: dataDirectory)
            return (try SQLiteStore.open(storeOptions), library, places, loss)
        }
        do {
            let key = try await MasterKey.sealer(environment: environment, dataDirectory: dataDirectory, store: store)
            let unsafe = isUnsafeForATest ? ["SLUICE_TEST_SYNCHRONOUS is set: a 2xx does not survive a power loss"] : []
            let notices = unsafe + [loss, key.notice].compactMap(\.self) + library.failures.map { "a connector is not loaded: \($0)" }
            return Opened(store: store, sealer: key.sealer, library: library, clock: AnchoredClock(), notices: notices, places: places)
        } catch {
            await store.close()
            throw error
        }
    }

    /// The API without a server: nothing polls and nothing listens.
    public func api() -> API {
        let control = NoPollers()
        return API(
            API.Parts(
                store: store, shelf: ConnectorShelf(library, at: clock.now()), sealer: sealer, clock: clock,
                alarms: AlarmBoard(clock: clock),
                control: control,
                lifecycle: TriggerLifecycle(store: store, clock: clock, control: control, isServing: false), jobs: JobFeed(store: store),
                address: PublicAddress(nil), isServing: false, places: places))
    }
}
