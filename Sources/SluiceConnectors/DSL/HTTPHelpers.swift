import SluiceCore

extension HTTPRequestPlan {
    /// A GET with parameters, percent-encoded here, and basic authentication if a user is given. `url` must have no query.
    public static func get(_ url: String, query: [(String, String)] = [], user: String? = nil, password: String = "") -> HTTPRequestPlan {
        let encoded = query.map { WebURL.encode($0.0) + "=" + WebURL.encode($0.1) }.joined(separator: "&")
        var plan = HTTPRequestPlan(url: encoded.isEmpty ? url : url + "?" + encoded, headers: [HTTPField("Accept", "application/json")])
        if let user { plan.headers.append(HTTPField("Authorization", "Basic " + Base64.encode("\(user):\(password)".utf8))) }
        return plan
    }

    /// Host (with its port), path and query of an absolute URL, as they are sent.
    public static func parts(ofURL url: String) -> (host: String, path: String, query: String) { WebURL.parts(url) }

    /// A text as one segment of a URL's path, or as a name or value of its query.
    public static func percentEncoded(_ text: String) -> String { WebURL.encode(text) }
}

extension HTTPReply {
    /// The provider's clock: its Date header. Nil if it sends none that can be read.
    public var serverDate: Timestamp? { headers.first("Date").flatMap(HTTPDate.parse) }
}
