import SluiceCore
import SluiceDelivery

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// What of this machine destinations may use. Whoever has an API token can define destinations, so it is who starts the server
/// that says which programs may run and where files may lie.
public struct DestinationPlaces: Sendable, Equatable {
    /// The directory that files of `file` destinations lie in: absolute; nil: none may be written.
    public var files: String?
    /// The directory that programs of `command` destinations lie in: absolute; nil: none may run.
    public var commands: String?

    public static let filesVariable = "SLUICE_FILES_IN"
    public static let commandsVariable = "SLUICE_COMMANDS_FROM"

    public init(files: String? = nil, commands: String? = nil) {
        self.files = files
        self.commands = commands
    }

    /// Where they were named, or else in the environment; files else in `files` of the data directory. Throws `.invalid` for
    /// one that is no directory, and for two that let one token make what it may run or what Sluice trusts. Blocks.
    public static func find(
        files: String?, commands: String?, dataDirectory: String, connectorsDirectory: String?, environment: [String: String]
    ) throws(SluiceError) -> DestinationPlaces {
        var places = DestinationPlaces()
        if let named = commands ?? environment[commandsVariable] { places.commands = try directory(named, "--commands-from") }
        guard let data = real(dataDirectory) else { return places }
        if let named = files ?? environment[filesVariable] {
            let found = try directory(named, "--files-in")
            guard !contains(found, data) else {
                throw SluiceError(.invalid, "--files-in \(named) holds the data directory: files must not lie beside the store and its key")
            }
            places.files = found
        } else {
            places.files = (data == "/" ? "" : data) + "/files"
        }
        let trusted = [("--commands-from", places.commands), ("--connectors", connectorsDirectory.flatMap(real))]
        for case (let option, let other?) in trusted {
            guard let files = places.files, contains(files, other) || contains(other, files) else { continue }
            throw SluiceError(.invalid, "--files-in and \(option) must not lie in each other: what is written there would be run")
        }
        return places
    }

    private static func directory(_ path: String, _ option: String) throws(SluiceError) -> String {
        var state = stat()
        guard let found = real(path), stat(found, &state) == 0, state.st_mode & S_IFMT == S_IFDIR else {
            throw SluiceError(.invalid, "\(option) names \(path), which is no directory: create it first")
        }
        return found
    }

    private static func real(_ path: String) -> String? {
        guard let resolved = realpath(path, nil) else { return nil }
        defer { free(resolved) }
        return String(cString: resolved)
    }

    private static func contains(_ outer: String, _ inner: String) -> Bool {
        outer == inner || inner.hasPrefix(outer == "/" ? "/" : outer + "/")
    }
}
