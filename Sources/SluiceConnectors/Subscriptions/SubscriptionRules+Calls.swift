import SluiceCore

extension SubscriptionRules {
    public func subscribe(_ request: SubscriptionRequest, http: any HTTPSending) async throws -> SubscriptionAnswer {
        let scope = try scope(request)
        let reply = try await send(create, scope, request, http)
        let answer = try document(reply, request).root
        guard let id = id.find(in: answer), id.text != nil else {
            throw PollFailure(.permanent, SluiceError(.providerAnswer, "the provider's answer has no subscription id at \(self.id)"))
        }
        var writer = JSONWriter()
        writer.object { writer in
            writer.key("id")
            writer.raw(id.bytes)
            for (name, path) in kept where name != "id" {
                guard let value = path.find(in: answer) else { continue }
                writer.key(name)
                writer.raw(value.bytes)
            }
        }
        return SubscriptionAnswer(
            output: writer.bytes, expiresAt: try expiry(answer, request), secret: secret.flatMap { $0.find(in: answer)?.text })
    }

    public func refreshSubscription(_ request: SubscriptionRequest, http: any HTTPSending) async throws -> SubscriptionAnswer {
        guard let refresh else { throw SluiceError(.connector, "subscription.refresh is missing: add it") }
        let reply = try await send(refresh, try scope(request), request, http, passing: [404, 410])
        if reply.status == 404 || reply.status == 410 { return SubscriptionAnswer(.missing) }
        let answer = try? JSONDocument(reply.body).root
        return SubscriptionAnswer(expiresAt: try expiry(answer, request))
    }

    public func unsubscribe(_ request: SubscriptionRequest, http: any HTTPSending) async throws {
        _ = try await send(delete, try scope(request), request, http, passing: [404, 410])
    }

    public func checkSubscription(_ request: SubscriptionRequest, http: any HTTPSending) async throws -> SubscriptionAnswer {
        guard let list else { throw SluiceError(.connector, "subscription.list is missing: add it") }
        let scope = try scope(request)
        let wanted = request.output.flatMap { try? JSONDocument($0) }?.root["id"]?.text
        var own: JSONView?
        var others: [SubscriptionAnswer.Other] = []
        for item in try await items(list, scope, request, http) {
            guard let idView = list.id.find(in: item), let id = idView.text else { continue }
            let url = list.url.find(in: item)?.string ?? ""
            if own == nil, wanted.map({ $0 == id }) ?? (url == request.webhookURL) {
                own = item
            } else if url.hasPrefix(request.webhookBaseURL), others.count < SubscriptionAnswer.othersMax {
                others.append(.init(id: id, url: url, output: SubscriptionRules.output(id: idView)))
            }
        }
        guard let own, let id = list.id.find(in: own) else { return SubscriptionAnswer(.missing, others: others) }
        let expiry = list.expiresAt.flatMap { $0.find(in: own) }.flatMap(SubscriptionTime.read)
        return SubscriptionAnswer(
            try status(own, list, scope.root, request), output: request.output == nil ? SubscriptionRules.output(id: id) : nil,
            expiresAt: expiry, others: others)
    }

    private func status(
        _ item: JSONView, _ list: Listing, _ scope: JSONView, _ request: SubscriptionRequest
    ) throws -> SubscriptionAnswer.Status {
        if let active = list.active {
            let found = active.path.find(in: item).flatMap { $0.isNull ? nil : $0 }
            if list.needsActive || found != nil, SubscriptionRules.plain(found) != active.value { return .disabled }
        }
        if list.url.find(in: item)?.string != request.webhookURL { return .drifted }
        for (path, template) in list.expected {
            let single = template.value(scope)
            let wanted = single.isSingle ? SubscriptionRules.plain(single.view) : try template.text(scope)
            if SubscriptionRules.plain(path.find(in: item)) != wanted { return .drifted }
        }
        return .active
    }

    /// A value as comparable text: a list's elements in order of their text.
    private static func plain(_ view: JSONView?) -> String {
        guard let view else { return "" }
        if let elements = view.elements { return elements.map { plain($0) }.sorted().joined(separator: ",") }
        return view.text ?? String(decoding: view.bytes, as: UTF8.self)
    }

    private static func output(id: JSONView) -> [UInt8] {
        var writer = JSONWriter()
        writer.object { writer in
            writer.key("id")
            writer.raw(id.bytes)
        }
        return writer.bytes
    }

    private func items(
        _ list: Listing, _ scope: JSONDocument, _ request: SubscriptionRequest, _ http: any HTTPSending
    ) async throws -> [JSONView] {
        var result: [JSONView] = []
        var url: String?
        for _ in 0..<SubscriptionRules.pagesMax {
            let reply = try await send(list.call, scope, request, http, url: url)
            let answer = try document(reply, request).root
            guard let page = list.items.find(in: answer)?.elements else {
                throw PollFailure(
                    .permanent, SluiceError(.providerAnswer, "the provider's list of subscriptions has no array at \(list.items)"))
            }
            result += page
            let next = list.next.flatMap { $0.find(in: answer)?.string } ?? LinkHeader.next(in: reply.headers)
            guard let next, !next.isEmpty else { return result }
            let asked = try url ?? address(list.call, scope.root)
            url = try WebURL(asked).sameOrigin(next)
        }
        throw PollFailure(
            .permanent, SluiceError(.providerAnswer, "the provider lists subscriptions on more than \(SubscriptionRules.pagesMax) pages"))
    }

    // MARK: Requests

    private func scope(_ request: SubscriptionRequest) throws -> JSONDocument {
        var writer = JSONWriter()
        writer.object { writer in
            writer.key("connection")
            writer.raw(request.connection.root.bytes)
            writer.key("input")
            writer.raw(request.input.root.bytes)
            writer.key("webhook")
            writer.object { writer in
                writer.member("url", request.webhookURL)
                writer.member("secret", request.secret)
                if let lifetime {
                    writer.member("expires_at", (request.now + lifetime).description)
                    writer.member("expires_at_unix", (request.now + lifetime).seconds)
                }
            }
            if let output = request.output {
                writer.key("output")
                writer.raw(output)
            }
        }
        return try JSONDocument(writer.bytes)
    }

    private func send(
        _ call: Call, _ scope: JSONDocument, _ request: SubscriptionRequest, _ http: any HTTPSending, url: String? = nil,
        passing: Set<Int> = []
    ) async throws -> HTTPReply {
        let root = scope.root
        var plan = HTTPRequestPlan(method: call.method, url: "")
        plan.headers.append(HTTPField("Accept", "application/json"))
        switch authentication {
        case .none: break
        case .basic(let user, let password):
            let pair = try user.text(root) + ":" + password.text(root)
            plan.headers.append(HTTPField("Authorization", "Basic " + Base64.encode(pair.utf8)))
        case .bearer(let token): plan.headers.append(HTTPField("Authorization", "Bearer " + (try token.text(root))))
        }
        for header in headers {
            plan.headers.removeAll { ASCII.equalIgnoringCase($0.name, header.name) }
            plan.headers.append(HTTPField(header.name, try header.value.text(root)))
        }
        try HeaderText.check(plan.headers)
        plan.url = try url ?? address(call, root)
        if let body = call.body.map({ JSONView(checked: $0[...]) }) {
            plan.headers.append(HTTPField("Content-Type", call.isForm ? "application/x-www-form-urlencoded" : "application/json"))
            plan.body = call.isForm ? Array(try form(body, root).utf8) : try json(body, root)
        }
        let reply = try await http.send(plan)
        guard (200..<300).contains(reply.status) || passing.contains(reply.status) else {
            throw PollFailure(
                .permanent,
                SluiceError(.providerStatus, "the provider refuses it with status \(reply.status): \(excerpt(reply.body, request))")
                    .with("status", String(reply.status)))
        }
        return reply
    }

    private func address(_ call: Call, _ scope: JSONView) throws -> String {
        let base = try baseURL.text(scope)
        guard WebURL.isBase(base) else {
            throw PollFailure(.permanent, SluiceError(.invalid, "the base URL of the subscription's API is not a full http or https URL"))
        }
        var url = (base.hasSuffix("/") ? String(base.dropLast()) : base) + (try call.path.text(scope, encode: WebURL.encode))
        let pairs = try call.query.compactMap { name, template -> String? in
            let single = template.value(scope)
            if single.isSingle, single.view == nil { return nil }
            return WebURL.encode(name) + "=" + WebURL.encode(try template.text(scope))
        }
        if !pairs.isEmpty { url += (url.contains("?") ? "&" : "?") + pairs.joined(separator: "&") }
        return url
    }

    private func json(_ body: JSONView, _ scope: JSONView) throws -> [UInt8] {
        var writer = JSONWriter()
        try SubscriptionBody.write(body, scope, to: &writer)
        return writer.bytes
    }

    /// A list repeats its name.
    private func form(_ body: JSONView, _ scope: JSONView) throws -> String {
        let filled = try JSONDocument(json(body, scope)).root
        var pairs: [String] = []
        for (name, value) in filled.members ?? [] {
            for element in value.elements ?? [value] {
                let text = element.text ?? element.bool.map { $0 ? "true" : "false" } ?? ""
                pairs.append(WebURL.encode(name) + "=" + WebURL.encode(text))
            }
        }
        return pairs.joined(separator: "&")
    }

    private func document(_ reply: HTTPReply, _ request: SubscriptionRequest) throws -> JSONDocument {
        do {
            return try JSONDocument(reply.body)
        } catch {
            // Nothing of it is quoted but what `excerpt` lets through: it may hold the secret.
            throw PollFailure(
                .transient,
                SluiceError(.providerAnswer, "the provider's answer is not JSON: it \(error): \(excerpt(reply.body, request))"))
        }
    }

    private func expiry(_ answer: JSONView?, _ request: SubscriptionRequest) throws -> Timestamp? {
        if let path = expiresAt, let view = answer.flatMap({ path.find(in: $0) }), !view.isNull {
            guard let time = SubscriptionTime.read(view) else {
                throw PollFailure(
                    .permanent, SluiceError(.providerAnswer, "the end of the subscription at \(path) is neither seconds nor RFC 3339"))
            }
            return time
        }
        if let path = expiresIn,
            let seconds = answer.flatMap({ path.find(in: $0) }).flatMap({ $0.double ?? $0.string.flatMap(Double.init) }),
            seconds > 0, seconds < 1e10
        {
            return request.now + .milliseconds(Int64(seconds * 1000))
        }
        return lifetime.map { request.now + $0 }
    }

    /// How a body begins, without our secret and our URL.
    private func excerpt(_ body: [UInt8], _ request: SubscriptionRequest) -> String {
        var text = String(decoding: body.prefix(4096), as: UTF8.self)
        for hidden in [request.secret, request.webhookURL] where !hidden.isEmpty {
            text = text.split(separator: hidden, omittingEmptySubsequences: false).joined(separator: "…")
        }
        return String(text.prefix(200)).debugDescription
    }
}
