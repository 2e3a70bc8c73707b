import Foundation
import SluiceCore
import SluiceTesting
import Synchronization

/// What came out at one end, read by nobody of Sluice.
struct Arrivals: Sendable {
    /// The first delivery of each id.
    private(set) var jobs: [String: DeliveryChecker.Job] = [:]
    /// Deliveries of ids that had come before.
    private(set) var repeated = 0
    /// Those that say something else than the first one with their id did.
    private(set) var changed: [String] = []

    /// Takes a job as it was delivered: its JSON.
    mutating func add(_ job: JSONView) throws {
        guard let id = job["id"]?.string, let trigger = job["trigger"]?.string, let position = job["position"]?.int64,
            let key = job["dedup_key"]?.string, let record = job["record"]
        else { throw SluiceError(.providerAnswer, "this is no job: \(String(decoding: job.bytes.prefix(200), as: UTF8.self))") }
        let arrived = DeliveryChecker.Job(
            id: id, trigger: trigger, position: position, dedupKey: key, createdAt: Timestamp(seconds: 0), record: Array(record.bytes))
        guard let first = jobs[id] else {
            jobs[id] = arrived
            return
        }
        repeated += 1
        if first.trigger != trigger || first.position != position || first.dedupKey != key || first.record != arrived.record {
            changed.append(id)
        }
    }

    /// Each line a job. A line that was torn by a kill is passed over: nobody said that it had arrived.
    static func lines(_ file: String, job: (JSONView) -> JSONView? = { $0 }) throws -> Arrivals {
        var arrivals = Arrivals()
        let data = FileManager.default.contents(atPath: file) ?? Data()
        for line in data.split(separator: 0x0A) {
            guard let root = try? JSONDocument(Array(line)).root, let job = job(root) else { continue }
            try arrivals.add(job)
        }
        return arrivals
    }

    /// Held against the provider's own change log. Two ids for one version of a record are `doubled` there.
    func verdict(_ changes: [ProviderChange]) -> DeliveryChecker.Verdict {
        var checker = DeliveryChecker()
        for change in changes { checker.add(change) }
        for job in jobs.values.sorted(by: { $0.position < $1.position }) { checker.add(job) }
        return checker.verdict()
    }
}

/// A receiver of pushes that is killed and started again on its port. Tests/Live/verify_push.py checks each signature.
final class KillableSink: Sendable {
    static let secret = "whsec_Y2hhb3NjaGFvc2NoYW9zY2hhb3NjaGFv"
    let port: Int
    let directory: String
    private let child = Mutex<ChildProcess?>(nil)

    var url: String { "http://127.0.0.1:\(port)/push" }
    var file: String { directory + "/pushes.jsonl" }

    init(directory: String) throws {
        self.directory = directory
        port = try LocalPort.free()
    }

    deinit { child.withLock { $0?.kill9() } }

    func start() async throws {
        let started = try ChildProcess(
            .init(
                LocalStripe.python, [LocalStripe.scriptsDirectory + "/verify_push.py", "--out", file, "--port", String(port)],
                environment: ["PUSH_SECRET": Self.secret, "PYTHONDONTWRITEBYTECODE": "1"], workingDirectory: directory,
                outputFile: directory + "/sink.log"))
        child.withLock { $0 = started }
        try await LocalPort.waitForListener(port)
    }

    func kill9() { child.withLock { $0?.kill9() } }

    /// Pushes that it took: whose signature held and that it answered with 2xx.
    func arrivals() throws -> (taken: Arrivals, forged: Int) {
        let forged = Mutex(0)
        let taken = try Arrivals.lines(file) { line in
            guard line["ok"]?.bool == true, line["status"]?.int64 == 200, let body = line["body"]?.string else {
                forged.withLock { $0 += 1 }
                return nil
            }
            return (try? JSONDocument(Array(body.utf8)).root)?["data"]
        }
        return (taken, forged.withLock { $0 })
    }
}

/// A worker of a consumer: fetches, notes what it got, acks; undeterred by a server that is gone.
final class ChaosWorker: Sendable {
    private let noted = Mutex<[[UInt8]]>([])

    func run(_ sluice: SluiceProcess, consumer: String) async {
        let path = "/v1/consumers/\(consumer)"
        while !Task.isCancelled {
            do {
                let answer = try await sluice.send("POST", path + "/fetch", body: #"{"max":50,"wait":2,"visibility":5}"#)
                let batch = try answer.json()
                guard answer.status == 200, let lease = batch["lease"]?.string else { continue }
                let jobs = (batch["jobs"]?.elements ?? []).map { Array($0.bytes) }
                noted.withLock { $0 += jobs }
                try await sluice.send("POST", path + "/ack", body: #"{"lease":"\#(lease)"}"#)
            } catch {
                try? await Task.sleep(for: .milliseconds(50))
            }
        }
    }

    func arrivals() throws -> Arrivals {
        var arrivals = Arrivals()
        for job in noted.withLock({ $0 }) { try arrivals.add(try JSONDocument(job).root) }
        return arrivals
    }
}
