import AsyncHTTPClient
import Foundation

/// The ways to get jobs, one function each.
struct Clients {
    let sluice = Sluice()

    /// Whatever is to be done with a job. One that was handled just before a crash comes again, with the same id.
    func handle(_ job: Sluice.Job) { say(job.id) }

    /// Reads jobs in order and waits for the next one. The place is kept in `after.txt`, once the jobs before it are handled.
    func pull() async throws {
        let place = URL(filePath: "after.txt")
        var after = (try? String(contentsOf: place, encoding: .utf8)) ?? ""
        try await forever {
            let page: Sluice.Page = try await sluice.get("/v1/jobs", query: ["after": after, "wait": "30"])
            page.jobs.forEach(handle)
            after = page.next
            try Data(after.utf8).write(to: place, options: .atomic)
        }
    }

    /// One worker of a consumer, a destination of kind `pull`. Start several: they share its jobs.
    func consume(_ consumer: String) async throws {
        let path = "/v1/consumers/\(consumer)"
        try await forever {
            let batch: Sluice.Batch = try await sluice.post(path + "/fetch", ["max": 20, "wait": 30, "visibility": 30])
            guard let lease = batch.lease else { return }
            batch.jobs.forEach(handle)
            _ = try await sluice.send("POST", path + "/ack", body: ["lease": lease])
        }
    }

    /// Follows jobs as Server-Sent Events, and resumes behind the last one whenever the connection ends.
    func stream() async throws {
        var last: String?
        try await forever {
            var request = HTTPClientRequest(url: sluice.url + "/v1/jobs/stream")
            request.headers.add(name: "Authorization", value: "Bearer \(sluice.token)")
            if let last { request.headers.add(name: "Last-Event-ID", value: last) }
            // A comment comes every 15 s, so the stream itself has no end and no deadline.
            let answer = try await HTTPClient.shared.execute(request, deadline: .distantFuture)
            guard answer.status == .ok else {
                throw Sluice.Refusal(
                    status: Int(answer.status.code), description: String(buffer: try await answer.body.collect(upTo: 1 << 20)))
            }
            var events = EventReader()
            for try await part in answer.body {
                for event in events.read(part.readableBytesView) {
                    handle(try JSONDecoder().decode(Sluice.Job.self, from: Data(event.data.utf8)))
                    last = event.id
                }
            }
        }
    }

    /// Starts an operation at a provider and waits for its result: the URL goes to the provider, the result comes here.
    func callback(connection: String, input: String) async throws {
        let input = try JSONSerialization.jsonObject(with: Data(input.utf8)) as? [String: any Sendable] ?? [:]
        var callback: Sluice.Callback = try await sluice.post("/v1/callbacks", ["connection": connection, "input": input])
        say("give this URL to the provider: \(callback.url ?? "-")")
        while callback.state == "pending" {
            // Keep the id: whoever knows it can go on waiting after a restart.
            callback = try await sluice.get("/v1/callbacks/\(callback.id)", query: ["wait": "60"])
        }
        say("\(callback.id) \(callback.state) \(callback.result.map { "\($0)" } ?? "null")")
    }

    /// Does it again and again; after trouble that may pass, a second later.
    private func forever(_ body: () async throws -> Void) async throws {
        while true {
            do {
                try await body()
            } catch let refusal as Sluice.Refusal where refusal.isFinal {
                throw refusal
            } catch {
                FileHandle.standardError.write(Data("\(error)\n".utf8))
                try await Task.sleep(for: .seconds(1))
            }
        }
    }
}

/// Server-Sent Events (WHATWG HTML, 9.2) out of the pieces in which they come.
struct EventReader {
    struct Event {
        var id: String?
        var data: String
    }

    private var line: [UInt8] = []
    private var id: String?
    private var data: [String] = []

    mutating func read(_ bytes: some Sequence<UInt8>) -> [Event] {
        var events: [Event] = []
        for byte in bytes {
            guard byte == UInt8(ascii: "\n") else {
                line.append(byte)
                continue
            }
            let text = String(decoding: line, as: UTF8.self)
            line = []
            if text.isEmpty {
                if !data.isEmpty { events.append(Event(id: id, data: data.joined(separator: "\n"))) }
                data = []
            } else if text.hasPrefix("id: ") {
                id = String(text.dropFirst(4))
            } else if text.hasPrefix("data: ") {
                data.append(String(text.dropFirst(6)))
            }
        }
        return events
    }
}
