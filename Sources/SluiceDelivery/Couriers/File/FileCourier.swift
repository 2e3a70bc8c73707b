import SluiceCore
import Synchronization

/// Appends jobs to a file, a line of JSON each. A job is delivered once its line, and the directory entry of its file, are
/// synced to disk; one sync for a whole batch.
///
/// Where writing fails, nothing of the batch stays in the file and all of it is tried again. What a kill -9 leaves behind is
/// either whole lines, whose jobs come again with the same ids, or a torn last one, which is cut off before more is written.
public final class FileCourier: Courier {
    private let destination: FileDestination
    private let wallTime: any TimeSource
    private let thread = CourierThread()
    private let file: Mutex<JobFile>

    public var batchMax: Int { destination.jobsMax }

    /// `wallTime`: what periods of `rotate_every` are counted by.
    public convenience init(_ destination: FileDestination, wallTime: any TimeSource) {
        self.init(destination, wallTime: wallTime, calls: .system)
    }

    init(_ destination: FileDestination, wallTime: any TimeSource, calls: JobFile.Calls) {
        self.destination = destination
        self.wallTime = wallTime
        file = Mutex(JobFile(path: destination.path, root: destination.root, rotation: destination.rotation, calls: calls))
    }

    deinit { file.withLock { $0.close() } }

    public func carry(_ parcels: [Parcel]) async -> [CourierAnswer] {
        guard !parcels.isEmpty else { return [] }
        let now = wallTime.now()
        let result = await thread.run(within: destination.timeoutSeconds) { [self] in
            let lines = parcels.map(\.line)
            return file.withLock { file in
                Result { () throws(SluiceError) in try file.append(lines, at: now) }
            }
        }
        let answer: CourierAnswer =
            switch result {
            case .success: CourierAnswer(.delivered)
            case .failure(let error): CourierAnswer(.failed, error: error.message, isConnectFailure: true)
            case nil:
                CourierAnswer(
                    .failed, error: "the disk has not answered within \(destination.timeoutSeconds) s", isConnectFailure: true)
            }
        return parcels.map { _ in answer }
    }

    public func close() async {
        thread.close { [self] in file.withLock { $0.close() } }
    }
}
