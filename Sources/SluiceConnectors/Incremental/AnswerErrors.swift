import SluiceCore

/// How a provider says with status 200 that it gives nothing: `{"ok":false,"error":"invalid_auth"}`.
public struct AnswerErrors: Sendable {
    /// Where the error stands; nothing there, null, false and `""` mean that all is well.
    public var path: JSONPath
    /// Errors that say that the page token is no longer valid.
    public var expired: Set<String> = []
    /// Errors that say that the credentials, or what they may do, are refused.
    public var unauthorized: Set<String> = []
    /// Errors that pass by themselves.
    public var transient: Set<String> = []
    public init(path: JSONPath) { self.path = path }

    /// Under this key the context of a failure holds the provider's word, where an answer refused what was asked.
    static let contextKey = "answer_error"

    /// Throws what an answer says is wrong. `isFurther`: a page token asked for it.
    func check(_ document: JSONDocument, isFurther: Bool) throws(PollFailure) {
        guard let view = path.find(in: document.root), !view.isNull, view.bool != false, view.string?.isEmpty != true else { return }
        let word = view.text ?? ""
        func fail(_ kind: PollFailure.Kind, _ code: SluiceError.Code, _ what: String) -> PollFailure {
            PollFailure(kind, SluiceError(code, "the provider answers with an error, \(AnswerErrors.quoted(view)): \(what)"))
        }
        if unauthorized.contains(word) {
            throw fail(.unauthorized, .providerAuth, "check the connection's credentials and what they may read")
        }
        if expired.contains(word), isFurther {
            throw fail(.pageStateExpired, .providerStatus, "it no longer knows the next page; the cycle begins again from the cursor")
        }
        if transient.contains(word) { throw fail(.transient, .providerStatus, "it is tried again") }
        var refusal = fail(.permanent, .providerAnswer, "check the connection's and the trigger's fields")
        refusal.error = refusal.error.with(Self.contextKey, String(word.prefix(60)))
        throw refusal
    }

    /// What it says, short enough for an error.
    private static func quoted(_ view: JSONView) -> String {
        let text = view.text ?? String(decoding: view.bytes.prefix(200), as: UTF8.self)
        return String(text.prefix(200)).debugDescription
    }
}

extension AnswerErrors {
    init(_ rule: RuleReader) throws(SluiceError) {
        var rule = rule
        self.init(path: try rule.path("path"))
        expired = Set(try rule.texts("expired"))
        unauthorized = Set(try rule.texts("unauthorized"))
        transient = Set(try rule.texts("transient"))
        try rule.finish()
    }
}
