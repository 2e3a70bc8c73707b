import SluiceCore

extension SignatureScheme {
    /// RFC 6750, 2.3: the parameter of a bearer token, whatever scheme reads it.
    private static let bearerParameter = Array("access_token".utf8)

    /// Parameters of the query that show the secret.
    private var credentialParameters: [String] {
        (recipe as? DescribedSignature)?.alternatives.compactMap(\.queryParameter) ?? []
    }

    /// A query as it may be kept and printed: `[redacted]` in place of what shows a secret, all else as it came.
    public func visibleQuery(_ query: String) -> String {
        if query.isEmpty { return query }
        let own = credentialParameters.map { Array($0.utf8) }
        let parts = query.split(separator: "&", omittingEmptySubsequences: false).map { part -> Substring in
            guard let equals = part.firstIndex(of: "="), let name = FormData.pairs(part[..<equals].utf8)?.first?.name,
                name == SignatureScheme.bearerParameter || own.contains(name)
            else { return part }
            return part[...equals] + "[redacted]"
        }
        return parts.joined(separator: "&")
    }
}
