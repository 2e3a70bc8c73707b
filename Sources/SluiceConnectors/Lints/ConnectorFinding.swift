/// Something about a connector that its writer should know, from `sluice connector check`.
public struct ConnectorFinding: Sendable, Equatable {
    public enum Severity: String, Sendable { case error, warning }

    public var severity: Severity
    /// A stable name in kebab-case, for example `no-version`; `definition` for what keeps a connector from loading.
    public var lint: String
    public var file: String
    /// From 1; nil where it is not known.
    public var line: Int?
    /// What it is about, for example `triggers.new_order.dedup`.
    public var subject: String
    /// What is wrong, or may be, as a sentence.
    public var message: String
    /// What is lost, doubled or let in by it.
    public var loses: String
    public var fix: String

    public init(
        _ severity: Severity, _ lint: String, file: String, line: Int?, subject: String, message: String, loses: String, fix: String
    ) {
        self.severity = severity
        self.lint = lint
        self.file = file
        self.line = line
        self.subject = subject
        self.message = message
        self.loses = loses
        self.fix = fix
    }
}
