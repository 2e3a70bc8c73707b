import FoundationEssentials
import SluiceCore

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// A command, a file and a JetStream that jobs are carried to, and what arrived in each. Everything lies below one directory.
public struct CarriedSinks: Sendable {
    public let directory: String
    public let nats: NATSServer

    /// A job that arrived somewhere, as often as it did.
    public struct Arrival: Sendable, Hashable {
        public var id: String
        /// The whole object, as it arrived.
        public var object: [UInt8]
    }

    public static let stream = "JOBS"
    /// Names of the destinations.
    public static let names = ["program", "archive", "bus"]

    /// Makes the directories and the program; `nats` is to be started with a store below `directory`.
    public init(directory: String, nats: NATSServer) async throws {
        self.directory = directory
        self.nats = nats
        try await offPool {
            for name in ["done", "files"] {
                try FileManager.default.createDirectory(atPath: "\(directory)/\(name)", withIntermediateDirectories: true)
            }
        }
        // It takes its time, so that it can be killed while it works, and keeps a job whole or not at all.
        let script = """
            #!/bin/sh
            set -eu
            cat >"$1/part.$$"
            sleep 0.05
            mv "$1/part.$$" "$1/done/$SLUICE_JOB_ID.$$"
            """
        try await writeProgram(script, at: directory + "/commands/keep")
    }

    /// What `sluice serve` needs beside its usual arguments.
    public var arguments: [String] { ["--commands-from", directory + "/commands", "--files-in", directory + "/files"] }

    /// The section `destinations:` of a sluice.yaml; `more` is added to each of them.
    public func configuration(more: String = "") -> String {
        """
        destinations:
          program: { kind: command, run: [keep, "\(directory)"], timeout: 2s\(more) }
          archive: { kind: file, path: orders.jsonl, rotate_size: 64kb, timeout: 5s\(more) }
          bus:
            { kind: nats, url: "\(nats.url)", subject: "jobs.{trigger}", stream: \(Self.stream), allow_private: true, timeout: 1s\(more) }
        """
    }

    /// Kills one of the programs that run now, by SIGKILL; false where none does.
    public func killProgram() async -> Bool {
        let mark = directory + "/commands/keep"
        let found = try? await offPool {
            try FileManager.default.contentsOfDirectory(atPath: "/proc").compactMap { Int32($0) }.first { pid in
                (try? String(contentsOfFile: "/proc/\(pid)/cmdline", encoding: .utf8))?.contains(mark) == true && pid != getpid()
                    && (try? String(contentsOfFile: "/proc/\(pid)/comm", encoding: .utf8))?.hasPrefix("keep") == true
            }
        }
        guard let pid = found ?? nil else { return false }
        return kill(pid, SIGKILL) == 0
    }

    /// What arrived at one of `names`.
    public func arrivals(_ name: String) async throws -> [Arrival] {
        switch name {
        case "program":
            return try await offPool {
                let done = directory + "/done"
                return try FileManager.default.contentsOfDirectory(atPath: done).map { file in
                    let bytes = Array(try Data(contentsOf: URL(filePath: "\(done)/\(file)")))
                    // A program gets its job whole, also where Sluice is killed just then.
                    guard bytes.last == 0x0A else {
                        throw SluiceError(.internalError, "a program got \(bytes.count) bytes of its job, without the end of it")
                    }
                    return Arrival(id: String(file[..<(file.lastIndex(of: ".") ?? file.endIndex)]), object: Array(bytes.dropLast()))
                }
            }
        case "archive":
            return try await offPool {
                let files = directory + "/files"
                let parts = try FileManager.default.contentsOfDirectory(atPath: files).sorted().map { file in
                    Array(try Data(contentsOf: URL(filePath: "\(files)/\(file)")))
                }
                return try parts.flatMap { part in
                    // What has no end is not acknowledged, and may be gone with the next opening.
                    try part.split(separator: 0x0A, omittingEmptySubsequences: false).dropLast().map { line in
                        guard let id = try JSONDocument(Array(line)).root["id"]?.string else {
                            throw SluiceError(.internalError, "a line of the file is no job: \(String(decoding: line, as: UTF8.self))")
                        }
                        return Arrival(id: id, object: Array(line))
                    }
                }
            }
        default:
            let client = try await nats.client()
            return try await client.messages(Self.stream).map { Arrival(id: $0.id ?? "", object: $0.payload) }
        }
    }
}
