import CLua
import SluiceConnectors
import SluiceCore

extension LuaContext {
    /// The function pointers through which C reaches a context.
    static func callbacks() -> clua_callbacks {
        clua_callbacks(
            member: { state, context, handle, key, length, out in
                let name = String(decoding: UnsafeRawBufferPointer(start: key, count: length), as: UTF8.self)
                LuaContext.of(context).member(handle!, name, LuaValue(state: state!, pointer: out!))
            },
            element: { state, context, handle, position, out in
                LuaContext.of(context).element(handle!, Int(position), LuaValue(state: state!, pointer: out!))
            },
            count: { state, context, handle, out in LuaContext.of(context).count(handle!, LuaValue(state: state!, pointer: out!)) },
            entry: { state, context, handle, position, wantsKey, out in
                LuaContext.of(context).entry(handle!, Int(position), wantsKey, LuaValue(state: state!, pointer: out!))
            },
            append_json: { state, context, handle, out in
                LuaContext.of(context).appendJSON(handle!, LuaValue(state: state!, pointer: out!))
            },
            append_string: { state, context, bytes, length, out in
                LuaContext.of(context).appendString(
                    UnsafeRawBufferPointer(start: bytes, count: length), LuaValue(state: state!, pointer: out!))
            },
            append_float: { state, _, number in
                var text = number.description
                text.withUTF8 { clua_append(state, $0.baseAddress, $0.count) }
            },
            helper: { state, context, which, first, firstLength, second, secondLength, out in
                LuaContext.of(context).helper(
                    clua_helper(which), UnsafeRawBufferPointer(start: first, count: firstLength),
                    UnsafeRawBufferPointer(start: second, count: secondLength), LuaValue(state: state!, pointer: out!))
            },
            prepare_request: { state, context, out in LuaContext.of(context).prepareRequest(LuaValue(state: state!, pointer: out!)) },
            emit: { state, context, what, bytes, length, handle, out in
                LuaContext.of(context).emit(
                    clua_emission(what), UnsafeRawBufferPointer(start: bytes, count: length), handle,
                    LuaValue(state: state!, pointer: out!))
            })
    }

    fileprivate static func of(_ context: UnsafeMutableRawPointer?) -> LuaContext {
        Unmanaged<LuaContext>.fromOpaque(context!).takeUnretainedValue()
    }

    private func member(_ handle: UnsafeMutablePointer<clua_handle>, _ name: String, _ out: LuaValue) {
        switch clua_handle_kind(handle.pointee.kind) {
        case CLUA_HANDLE_VIEW:
            let page = LuaContext.object(LuaPage.self, of: handle.pointee)
            let view = page.view(LuaContext.location(handle.pointee))
            guard let found = view[name] else {
                out.scanned = view.kind == .object ? handle.pointee.length : 0
                return
            }
            out.scanned = found.bytes.endIndex - view.bytes.startIndex
            out.put(found, in: page, null: CLUA_VALUE_NIL)
        case CLUA_HANDLE_REQUEST: webhookMember(LuaContext.object(LuaWebhook.self, of: handle.pointee), name, out)
        case CLUA_HANDLE_REPLY: replyMember(LuaContext.object(LuaReply.self, of: handle.pointee), name, out)
        case CLUA_HANDLE_HEADERS:
            if let value = LuaContext.object(LuaHeaders.self, of: handle.pointee).fields.first(name) { out.put(value) }
        case CLUA_HANDLE_JOB: jobMember(LuaContext.object(LuaJob.self, of: handle.pointee).job, name, out)
        default: break
        }
    }

    private func jobMember(_ job: FilteredJob, _ name: String, _ out: LuaValue) {
        switch name {
        case "id": out.put(job.id())
        case "trigger": out.put(job.trigger)
        case "position": out.put(job.position)
        case "cause": out.put(job.cause)
        case "created_at": out.put(job.createdAt.description)
        case "derived": out.put(job.isDerived)
        case "deleted": out.put(job.isDeletion)
        default: out.fail("a job has no field '\(name)'; it has id, trigger, position, cause, created_at, derived and deleted")
        }
    }

    private func webhookMember(_ webhook: LuaWebhook, _ name: String, _ out: LuaValue) {
        switch name {
        case "method": out.put(webhook.request.method)
        case "path": out.put(webhook.request.path)
        case "query": out.put(webhook.request.query)
        case "body": webhook.request.body.withUnsafeBufferPointer { out.put(bytes: $0) }
        case "headers": putHeaders(&webhook.headers, webhook.request.headers, out)
        case "json":
            do throws(JSONError) {
                if webhook.page == nil { webhook.page = try parse(webhook.request, out) }
                if let page = webhook.page { putRoot(page, out) }
            } catch {
                out.fail("request.json: the body is not JSON: it \(error)")
            }
        default: out.fail("a request has no field '\(name)'; it has method, path, query, headers, body and json")
        }
    }

    private func replyMember(_ reply: LuaReply, _ name: String, _ out: LuaValue) {
        switch name {
        case "status": out.put(Int64(reply.reply.status))
        case "body": reply.reply.body.withUnsafeBufferPointer { out.put(bytes: $0) }
        case "headers": putHeaders(&reply.headers, reply.reply.headers, out)
        case "json":
            do throws(PollFailure) {
                if reply.page == nil { reply.page = page(try reply.reply.json().root.bytes, out) }
                if let page = reply.page { putRoot(page, out) }
            } catch {
                failure = error
                out.put(CLUA_VALUE_STOP)
            }
        default: out.fail("an answer has no field '\(name)'; it has status, headers, body and json")
        }
    }

    private func putHeaders(_ cache: inout LuaHeaders?, _ fields: [HTTPField], _ out: LuaValue) {
        let headers = cache ?? LuaHeaders(fields)
        if cache == nil {
            guard keep(headers, bytes: 0) != nil else { return out.fail(LuaContext.tooMuch) }
            cache = headers
        }
        out.put(CLUA_HANDLE_HEADERS, Unmanaged.passUnretained(headers).toOpaque())
    }

    /// Checks bytes and takes them over; nil (with an error in `out`) if the call holds too much.
    func parse(_ bytes: ArraySlice<UInt8>, _ out: LuaValue) throws(JSONError) -> LuaPage? {
        out.scanned += bytes.count
        return page(try JSONDocument(bytes).root.bytes, out)
    }

    private func parse(_ request: WebhookRequest, _ out: LuaValue) throws(JSONError) -> LuaPage? {
        guard let checked = request.checkedBody else { return try parse(request.body[...], out) }
        return page(checked.root.bytes, out)
    }

    private func page(_ bytes: ArraySlice<UInt8>, _ out: LuaValue) -> LuaPage? {
        let page = LuaPage(bytes)
        if keep(page, bytes: bytes.count) == nil {
            out.fail(LuaContext.tooMuch)
            return nil
        }
        return page
    }

    func putRoot(_ page: LuaPage, _ out: LuaValue) { out.put(JSONView(checked: page.bytes), in: page, null: CLUA_VALUE_NIL) }

    private func element(_ handle: UnsafeMutablePointer<clua_handle>, _ position: Int, _ out: LuaValue) {
        guard position > 0, handle.pointee.kind == CLUA_HANDLE_VIEW.rawValue, LuaContext.view(handle.pointee).kind == .array else {
            return
        }
        entry(handle, position, false, out)
    }

    private func count(_ handle: UnsafeMutablePointer<clua_handle>, _ out: LuaValue) {
        switch clua_handle_kind(handle.pointee.kind) {
        case CLUA_HANDLE_HEADERS: out.put(Int64(LuaContext.object(LuaHeaders.self, of: handle.pointee).fields.count))
        case CLUA_HANDLE_VIEW:
            // As for Lua's tables, an object has no length.
            if let index = index(handle, out) { out.put(index.keys == nil ? Int64(index.values.count) : 0) }
        default: out.fail("this value has no length")
        }
    }

    private func entry(_ handle: UnsafeMutablePointer<clua_handle>, _ position: Int, _ wantsKey: Bool, _ out: LuaValue) {
        if handle.pointee.kind == CLUA_HANDLE_HEADERS.rawValue {
            let fields = LuaContext.object(LuaHeaders.self, of: handle.pointee).fields
            guard position > 0, position <= fields.count else { return }
            out.put(wantsKey ? fields[position - 1].name : fields[position - 1].value)
            return
        }
        guard handle.pointee.kind == CLUA_HANDLE_VIEW.rawValue else { return out.fail("this value cannot be walked") }
        guard let index = index(handle, out) else { return }
        // Position 0 asks whether it is an array.
        if position == 0 { return out.put(index.keys == nil) }
        guard position > 0, position <= index.values.count else { return }
        if wantsKey, index.keys == nil { return out.put(Int64(position)) }
        let page = LuaContext.object(LuaPage.self, of: handle.pointee)
        let start = page.bytes.startIndex + handle.pointee.offset
        let range = wantsKey ? index.keys![position - 1] : index.values[position - 1]
        out.put(
            JSONView(checked: page.bytes[start + range.lowerBound..<start + range.upperBound]), in: page, null: CLUA_VALUE_NULL)
    }

    private func appendJSON(_ handle: UnsafeMutablePointer<clua_handle>, _ out: LuaValue) {
        let kind = clua_handle_kind(handle.pointee.kind)
        guard kind == CLUA_HANDLE_VIEW || kind == CLUA_HANDLE_NUMBER else {
            return out.fail("a request, an answer, its headers or a job cannot be written as JSON")
        }
        LuaContext.view(handle.pointee).bytes.withUnsafeBytes {
            clua_append(out.state, $0.baseAddress?.assumingMemoryBound(to: CChar.self), $0.count)
        }
    }

    private func appendString(_ bytes: UnsafeRawBufferPointer, _ out: LuaValue) {
        guard let text = String(validating: bytes, as: UTF8.self) else { return out.put(CLUA_VALUE_ERROR) }
        var literal: [UInt8] = []
        literal.reserveCapacity(bytes.count + 2)
        JSONWriter.append(text, to: &literal)
        literal.withUnsafeBytes { clua_append(out.state, $0.baseAddress?.assumingMemoryBound(to: CChar.self), $0.count) }
    }

    private func prepareRequest(_ out: LuaValue) {
        guard isPolling else {
            return out.fail("requests can be sent in poll, in status, and in the webhook_ functions of a subscription, only")
        }
        var length = 0
        let bytes = clua_output(out.state, &length)
        do {
            plan = try LuaRequestPlan.plan(Array(UnsafeRawBufferPointer(start: bytes, count: length)))
        } catch {
            out.fail(error.message)
        }
    }

    private func emit(
        _ what: clua_emission, _ bytes: UnsafeRawBufferPointer, _ handle: UnsafeMutablePointer<clua_handle>?, _ out: LuaValue
    ) {
        switch what {
        case CLUA_EMIT_RECORDS: emitAll(handle!, out)
        case CLUA_EMIT_RECORD: result.records.append(Record(bytes: LuaContext.view(handle!.pointee).bytes))
        case CLUA_EMIT_DERIVED:
            guard bytesHeld(adding: bytes.count) else { return out.fail(LuaContext.tooMuch) }
            result.records.append(Record(bytes: Array(bytes)[...], isDerived: true))
        case CLUA_EMIT_NEXT: result.next = Array(bytes)
        case CLUA_EMIT_MORE: result.more = true
        case CLUA_EMIT_EPOCH:
            result.epoch = String(validating: bytes, as: UTF8.self)
            if result.epoch == nil { out.fail("returned an epoch that is not UTF-8") }
        default: result.warnings.append(String(decoding: bytes, as: UTF8.self))
        }
    }

    private func emitAll(_ handle: UnsafeMutablePointer<clua_handle>, _ out: LuaValue) {
        let view = LuaContext.view(handle.pointee)
        guard view.kind == .array else { return out.fail("returned events as an object of the answer, expected an array") }
        guard let index = index(handle, out) else { return }
        guard index.values.count <= recordsMax else {
            return out.fail("returned \(index.values.count) events, more than \(recordsMax) a page")
        }
        let start = view.bytes.startIndex
        result.records = index.values.map { Record(bytes: view.bytes[start + $0.lowerBound..<start + $0.upperBound]) }
    }
}
