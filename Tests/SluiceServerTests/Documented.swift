import SluiceCore
import Testing

@testable import SluiceServer

/// Holds answers against the OpenAPI document.
enum Documented {
    /// What an answer says that the document does not; nil if it is as described.
    static func problem(with answer: APIResponse, to request: APIRequest) -> String? {
        guard case .found(let route, _) = API.match(request), let operation = OpenAPI.operation(route) else { return nil }
        let name = "\(operation.method) \(operation.path): \(answer.status)"
        if answer.status >= 400 {
            guard operation.refusals(isOpen: route.isOpen).contains(answer.status) else { return "\(name) is no status of it" }
            return problem(answer, .named("Error")).map { "\(name): \($0)" }
        }
        guard let described = operation.answers.first(where: { $0.status == answer.status }) else { return "\(name) is no status of it" }
        return described.type == "application/json" ? problem(answer, described.schema).map { "\(name): \($0)" } : nil
    }

    private static func problem(_ answer: APIResponse, _ schema: Schema) -> String? {
        guard let root = (try? JSONDocument(answer.body))?.root else { return "it is not JSON" }
        return schema.problem(with: root, isRequest: false)
    }
}
