import SluiceConnectors
import SluiceCore

extension LuaDefinition {
    /// What `read` makes of a description. One with a place that names no declared field is refused: it could never have a value.
    static func placed<Rules>(_ declared: PlaceWitness.Declared, _ read: () throws -> Rules) throws -> Rules {
        let witness = PlaceWitness()
        let rules = try PlaceWitness.$current.withValue(witness) { try read() }
        if let problem = witness.problem(declared) { throw SluiceError(.connector, problem) }
        return rules
    }
}
