import SluiceCore

/// A value that goes into a request, as text for a query or a header, as JSON for a body.
struct RequestValue {
    var text: String
    var isNumber = false

    init(_ text: String, isNumber: Bool = false) {
        self.text = text
        self.isNumber = isNumber
    }

    init(_ number: Int64) { self.init(String(number), isNumber: true) }

    var json: [UInt8] {
        if isNumber { return Array(text.utf8) }
        var bytes: [UInt8] = []
        JSONWriter.append(text, to: &bytes)
        return bytes
    }
}

extension JSONView {
    /// A text as JSON.
    init(text: String) {
        var bytes: [UInt8] = []
        JSONWriter.append(text, to: &bytes)
        self.init(checked: bytes[...])
    }

    /// This object with a member set, objects made on the way; anything that is no object is replaced by one.
    func setting(_ path: ArraySlice<String>, to json: [UInt8]) -> [UInt8] {
        guard let key = path.first else { return json }
        let rest = path.dropFirst()
        let members = members ?? []
        let inner = members.first { $0.key == key }?.value ?? JSONView(checked: Array("{}".utf8)[...])
        var writer = JSONWriter()
        writer.object { writer in
            for member in members where member.key != key {
                writer.key(member.key)
                writer.raw(member.value.bytes)
            }
            writer.key(key)
            writer.raw(inner.setting(rest, to: json))
        }
        return writer.bytes
    }
}

extension IncrementalPoll {
    /// What asks for the page that `state` stands at, and how large it may be.
    func position(_ state: PageState, _ request: PollRequest) -> [(place: Incremental.RequestPlace, value: RequestValue)] {
        var result: [(place: Incremental.RequestPlace, value: RequestValue)] = []
        // In the query the size stands before the cursor: see `nextRequest`.
        if let size = rules.pageSize, let asked = sizeAsked(request) {
            if case .query = size.parameter {} else { result.append((size.parameter, RequestValue(asked))) }
        }
        switch (state.position, rules.pagination) {
        case (.token(let token), .token(let rule)): result.append((rule.parameter, RequestValue(token, isNumber: state.isNumber)))
        case (.after(let id), .keyset(let rule)):
            result.append((rule.parameter, RequestValue(id, isNumber: state.isNumber)))
            if request.scope.upper == nil, let (name, text) = upper(state) { result.append((.query(name), RequestValue(text))) }
        case (.offset(let count), .offset(let rule)): result.append((rule.parameter, RequestValue(count)))
        case (.first, .offset(let rule)): result.append((rule.parameter, RequestValue(0)))
        case (.page(let number), .page(let rule)): result.append((rule.parameter, RequestValue(number)))
        case (.first, .page(let rule)): result.append((rule.parameter, RequestValue(rule.first)))
        default: break
        }
        return result
    }

    /// How many records are asked for; nil where the description does not say.
    func sizeAsked(_ request: PollRequest) -> Int64? { rules.pageSize.map { Int64(min($0.value, request.recordsMax)) } }

    /// The frozen upper bound of a keyset cycle's further pages.
    private func upper(_ state: PageState) -> (String, String)? {
        guard let cursor = rules.cursor, let name = cursor.upperParameter, let now = state.firstNow, let mark = cursor.mark(of: now)
        else { return nil }
        return (name, cursor.text(of: mark))
    }
}

extension HTTPRequestPlan {
    /// Sets a header or a member of the body; what belongs into the query stands in the URL already.
    mutating func place(_ value: RequestValue, at place: Incremental.RequestPlace) throws(PollFailure) {
        switch place {
        case .query: break
        case .header(let name):
            guard value.text.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7F }) else {
                throw PollFailure(
                    .permanent, SluiceError(.providerAnswer, "the header \(name) would hold a control character that the provider sent"))
            }
            headers.removeAll { ASCII.equalIgnoringCase($0.name, name) }
            headers.append(HTTPField(name, value.text))
        case .body(let path): try placeInBody(value, path)
        }
    }

    private mutating func placeInBody(_ value: RequestValue, _ path: JSONPath) throws(PollFailure) {
        let type = headers.first("Content-Type")
        if type?.hasPrefix("application/x-www-form-urlencoded") == true {
            if !body.isEmpty { body.append(UInt8(ascii: "&")) }
            body += Array((WebURL.encode(path.description) + "=" + WebURL.encode(value.text)).utf8)
            return
        }
        guard let document = try? JSONDocument(body.isEmpty ? Array("{}".utf8) : body), document.root.kind == .object else {
            throw PollFailure(
                .permanent, SluiceError(.connector, "\(path) is to be set in the request's body, which is no JSON object: make it one"))
        }
        body = document.root.setting(path.keys[...], to: value.json)
        if type == nil { headers.append(HTTPField("Content-Type", "application/json")) }
    }
}
