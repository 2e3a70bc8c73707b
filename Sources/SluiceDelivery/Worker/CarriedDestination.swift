import Logging
import SluiceCore
import SluiceOutgoing

/// Where jobs are carried to, with its secrets opened. Lives in memory only.
public struct CarriedDestination: Sendable {
    public var id: DestinationID
    public var name: String
    /// How its courier is made; one for each kind of destination.
    public var plan: any CourierPlan
    /// Nothing is carried; deliveries stay pending.
    public var isDisabled: Bool
    /// Calls of the courier at the same time.
    public var callsAtOnceMax: Int
    public var retrySchedule: RetrySchedule
    /// Nil: as many as it takes.
    public var rate: DeliveryRate?

    public static let callsAtOnceDefault = 8

    public init(
        id: DestinationID, name: String, plan: any CourierPlan, isDisabled: Bool = false, callsAtOnceMax: Int = callsAtOnceDefault,
        retrySchedule: RetrySchedule = .standard, rate: DeliveryRate? = nil
    ) {
        self.rate = rate
        self.id = id
        self.name = name
        self.plan = plan
        self.isDisabled = isDisabled
        self.callsAtOnceMax = callsAtOnceMax
        self.retrySchedule = retrySchedule
    }

    /// Throws `.invalid` or `.forbiddenAddress` naming what to mend; `apply` calls this before it stores a destination.
    public func validate() throws(SluiceError) {
        guard (1...256).contains(callsAtOnceMax) else {
            throw SluiceError(.invalid, "Destination \(name) takes from 1 to 256 calls at once, not \(callsAtOnceMax).")
        }
        guard (1...600).contains(plan.timeoutSeconds) else {
            throw SluiceError(.invalid, "The time-out of destination \(name) is from 1 to 600 seconds, not \(plan.timeoutSeconds).")
        }
        try plan.validate()
    }
}

/// What a courier is made from: the settings of one kind of destination. A struct whose equal values make couriers that do
/// the same, so that a courier in use is kept until its plan changes.
public protocol CourierPlan: Sendable, Equatable {
    /// Where it leads. May hold a secret, so it is never logged. A destination that was stopped because of its answer is tried
    /// again once this changes.
    var target: String { get }
    /// The longest that one call of the courier takes.
    var timeoutSeconds: Int { get }
    /// Checks what can be checked without asking anybody. Throws `.invalid` or `.forbiddenAddress` naming what to mend.
    func validate() throws(SluiceError)
    func makeCourier(_ tools: CourierTools) -> any Courier
}

extension CourierPlan {
    func isSame(as other: any CourierPlan) -> Bool { (other as? Self) == self }
}

extension HostResolver {
    /// By the resolver of pushes.
    public static let lookUpForPushes = HostResolver(threadCount: 16).lookUp
}

/// What couriers share.
public struct CourierTools: Sendable {
    /// For timestamps that others read, such as signed ones.
    public var wallTime: any TimeSource
    public var options: DeliveryOptions
    public var logger: Logger
    /// Looks a host name up. What it answers is checked before anything connects there.
    public var lookUp: HostLookUp
    public init(
        wallTime: any TimeSource, options: DeliveryOptions = DeliveryOptions(), logger: Logger,
        lookUp: @escaping HostLookUp = HostResolver.lookUpForPushes
    ) {
        self.lookUp = lookUp
        self.wallTime = wallTime
        self.options = options
        self.logger = logger
    }
}

/// Settings of the delivery service as a whole.
public struct DeliveryOptions: Sendable {
    /// Calls in flight over all destinations, beyond the first of each.
    public var callsAtOnceMax = 64
    public var userAgent = "Sluice"
    /// How much of an answer is kept with the attempt.
    public var responseBytesKept = 4 * 1024
    /// How much of an answer is read before the connection is closed.
    public var responseBytesMax = 64 * 1024
    /// How long an answer of the name service is used.
    public var addressSecondsMax = 60
    /// How long to wait for news at most before asking the store.
    public var idleSecondsMax = 30
    /// Attempts of one destination that are made and not recorded yet: at so many it waits for the store.
    public var unrecordedMax = 2000
    public init() {}
}
