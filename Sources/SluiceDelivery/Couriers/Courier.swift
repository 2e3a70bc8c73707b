import SluiceCore
import SluiceStore

/// A job on its way to one destination.
public struct Parcel: Sendable {
    public var delivery: Int64
    /// The job's id: the same on every attempt, so that a receiver recognises what it had already.
    public var id: String
    public var job: StoredJob
    public var trigger: JobJSON.TriggerNames
    /// 1 for the first.
    public var attempt: Int
    /// The record holds the fields only that the destination asked for.
    public var isProjected: Bool
    public init(
        delivery: Int64, id: String, job: StoredJob, trigger: JobJSON.TriggerNames, attempt: Int, isProjected: Bool = false
    ) {
        self.delivery = delivery
        self.id = id
        self.job = job
        self.trigger = trigger
        self.attempt = attempt
        self.isProjected = isProjected
    }
}

/// What one attempt of one delivery came to. What follows from it is decided by `DeliveryMachine`.
public struct CourierAnswer: Sendable, Equatable {
    public typealias Result = DeliveryMachine.Result
    public var result: Result
    /// An HTTP status, or the exit code of a command; nil if there was none.
    public var status: Int?
    /// How long the receiver asks to be left alone; nothing else is carried there until then.
    public var retryAfter: Span?
    /// Why it is not delivered, for people and without secrets; nil if it is.
    public var error: String?
    /// How the answer begins: at most 4 KiB.
    public var response: [UInt8]
    /// Nothing could be reached: the failure says nothing about the job.
    public var isConnectFailure: Bool
    public init(
        _ result: Result, status: Int? = nil, retryAfter: Span? = nil, error: String? = nil, response: [UInt8] = [],
        isConnectFailure: Bool = false
    ) {
        self.result = result
        self.status = status
        self.retryAfter = retryAfter
        self.error = error
        self.response = response
        self.isConnectFailure = isConnectFailure
    }
}

/// Carries jobs to one destination: by HTTP, to a program, into a file, to a broker.
public protocol Courier: Sendable {
    /// How many jobs one call may carry; 1 for those that take them one by one.
    var batchMax: Int { get }
    /// One attempt of each, oldest first; as many answers as parcels, in their order. Bounded in time by the courier itself.
    /// Never throws. Once its task is cancelled it returns soon, with `failed` for whatever it does not know of: that is no
    /// attempt then, and is carried again after the next start.
    func carry(_ parcels: [Parcel]) async -> [CourierAnswer]
    /// Ends connections and programs. Nothing is carried after.
    func close() async
}
