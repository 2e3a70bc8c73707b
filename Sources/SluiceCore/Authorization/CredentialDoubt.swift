/// Whether a 403 speaks of a connection's credentials, or of what one trigger reads with them.
///
/// Most providers answer 403 where credentials are right and may not read this repository or that project. Such a trigger fails by
/// itself, and the others go on (P12). It speaks of the credentials where
/// - the connection has one trigger only, or
/// - two triggers that worked before are refused, with no success of any between, or
/// - none ever worked, and two are refused.
///
/// A 401 needs no such doubt: nobody is let in.
public struct CredentialDoubt: Sendable {
    private var hasWorked = false
    /// The first trigger that was refused since the last success.
    private var refused: TriggerID?

    public init() {}

    /// A poll of the connection succeeded, now or before this process started.
    public mutating func succeeded() {
        hasWorked = true
        refused = nil
    }

    /// The credentials were changed.
    public mutating func changed() { refused = nil }

    /// A trigger was refused with 403, again. `worked`: it succeeded before. True: no trigger of the connection need be tried.
    public mutating func isConnectionRefused(by trigger: TriggerID, worked: Bool, isOnly: Bool) -> Bool {
        if isOnly { return true }
        if worked { hasWorked = true }
        // It never could read this, and others can read theirs.
        if hasWorked, !worked { return false }
        guard let first = refused else {
            refused = trigger
            return false
        }
        return first != trigger
    }
}
