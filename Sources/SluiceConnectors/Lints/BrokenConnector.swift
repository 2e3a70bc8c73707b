/// A connector's file that does not load, among others that do.
public struct BrokenConnector: Sendable, Equatable {
    public var file: String
    /// Why, without the file's name.
    public var message: String
    public init(file: String, message: String) {
        self.file = file
        self.message = message
    }

    /// A row of a table.
    public var text: String { "\(file)  BROKEN  \(message)" }
}
