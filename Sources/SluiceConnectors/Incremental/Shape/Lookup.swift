import SluiceCore

/// A request whose answer feeds the poll's own: `{lookup.NAME}` in its path, query, headers or body. It is made before a
/// cycle's first page and kept until the cycle ends.
///
/// ```
/// lookup = { as = "account", path = "/v1/me", at = "account.id" }
/// lookup = { as = "project", path = "/v1/projects", records = "values", where = { field = "key", equals = "{input.project}" }, at = "id" }
/// ```
public struct Lookup: Sendable {
    /// What it is called in templates.
    public var name: String
    public var path: Template
    public var query: [Incremental.NamedTemplate] = []
    /// Where a list stands in the answer, of which the first that `condition` holds for is taken. Nil: the answer itself.
    public var records: JSONPath?
    public var condition: FilterCondition?
    /// Where the value stands.
    public var at: JSONPath

    public init(_ name: String, path: Template, at: JSONPath) {
        self.name = name
        self.path = path
        self.at = at
    }

    static let countMax = 4
    static let valueBytesMax = 1024

    /// The value that an answer holds. Throws a permanent failure that says where it looked.
    func value(of reply: HTTPReply, _ request: PollRequest) throws(PollFailure) -> JSONView {
        guard (200..<300).contains(reply.status) else {
            let kind: PollFailure.Kind = reply.status >= 500 ? .transient : .permanent
            throw PollFailure(
                kind, SluiceError(.providerStatus, "the lookup \(name) was refused").with("status", String(reply.status)))
        }
        var view = try reply.json().root
        if let records {
            guard let elements = records.find(in: view)?.elements else {
                throw fault("the answer has no list at \"\(records)\"")
            }
            let condition = try condition?.resolved(request)
            guard let found = elements.first(where: { condition?.holds($0) ?? true }) else {
                throw fault("none of \(elements.count) records is the one that is looked for: check the trigger's fields")
            }
            view = found
        }
        guard let value = at.find(in: view), let text = value.text, !text.isEmpty, text.utf8.count <= Lookup.valueBytesMax else {
            throw fault("the answer has no text or number at \"\(at)\"")
        }
        return value
    }

    private func fault(_ what: String) -> PollFailure {
        PollFailure(.permanent, SluiceError(.providerAnswer, "the lookup \(name) found nothing: \(what)"))
    }
}
