import SluiceConnectors
import SluiceCore
import SluiceOutgoing

/// The address of an API, as a connection's field: looked at before anything is asked there.
enum ConnectionURL {
    /// By its name, as connectors call them: `base_url`, `site_url`, `url`.
    static func isOne(_ field: Field) -> Bool {
        field.type == .string && !field.isSecret && (field.name == "url" || field.name.hasSuffix("_url"))
    }

    /// Throws `.invalid` for what is no http or https URL, or holds credentials, which stand in lists and pages then.
    static func check(_ text: String) throws(SluiceError) { _ = try WebAddress(text) }

    /// Why polls would be refused, where the address itself shows it; a name is looked up only when it is polled.
    static func problem(_ text: String, _ allowed: AddressAllowance) -> String? {
        guard let target = try? WebAddress(text) else { return nil }
        do throws(SluiceError) {
            if let literal = target.literal { try AddressGuard.check(host: target.host, addresses: [literal], allowed: allowed) }
            return nil
        } catch {
            return error.message
        }
    }
}
