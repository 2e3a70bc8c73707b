import FoundationEssentials
import SluiceCore

/// Writes a program that can be run at once: a file of `text`, executable, in a directory that need not exist.
///
/// It is installed by a process of its own. A file that this process held open for writing could be handed, for a moment, to
/// whatever another test starts just then, and the kernel runs no program that somebody may write to ("text file busy").
public func writeProgram(_ text: String, at path: String) async throws {
    let source = path + ".source"
    try await offPool {
        try FileManager.default.createDirectory(
            atPath: String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)]), withIntermediateDirectories: true)
        try Data(text.utf8).write(to: URL(filePath: source))
    }
    let log = path + ".log"
    let installer = try ChildProcess(.init("install", ["-m", "755", source, path], outputFile: log))
    guard try await installer.waitForExit() == .code(0) else {
        throw SluiceError(.internalError, "\(path) was not installed: \(try await installer.output())")
    }
    try await offPool { for file in [source, log] { try FileManager.default.removeItem(atPath: file) } }
}
