import NIOCore
import Synchronization

/// Brings answers back to an event loop. Those that come together, such as the webhooks of one commit, cost one wake-up.
final class LoopMailbox: Sendable {
    private struct Waiting {
        var letters: [@Sendable () -> Void] = []
        var isAnnounced = false
    }

    private let eventLoop: any EventLoop
    private let waiting = Mutex(Waiting())

    init(_ eventLoop: any EventLoop) { self.eventLoop = eventLoop }

    /// `letter` is run on the loop, behind those that came before it.
    func post(_ letter: @escaping @Sendable () -> Void) {
        let isFirst = waiting.withLock { waiting in
            waiting.letters.append(letter)
            defer { waiting.isAnnounced = true }
            return !waiting.isAnnounced
        }
        if isFirst { eventLoop.execute { self.deliver() } }
    }

    /// What comes meanwhile waits for its own turn, behind what the loop has to read.
    private func deliver() {
        var letters: [@Sendable () -> Void] = []
        waiting.withLock { waiting in
            swap(&letters, &waiting.letters)
            waiting.isAnnounced = false
        }
        for letter in letters { letter() }
    }
}

/// The mailboxes of a group, by loop.
struct LoopMailboxes: Sendable {
    private let byLoop: [ObjectIdentifier: LoopMailbox]

    init(_ group: any EventLoopGroup) {
        byLoop = Dictionary(
            group.makeIterator().map { (ObjectIdentifier($0), LoopMailbox($0)) }, uniquingKeysWith: { first, _ in first })
    }

    subscript(loop: any EventLoop) -> LoopMailbox { byLoop[ObjectIdentifier(loop)] ?? LoopMailbox(loop) }
}
