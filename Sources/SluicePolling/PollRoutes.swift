import AsyncHTTPClient
import SluiceOutgoing

extension HostResolver {
    /// By the resolver of polls: dead name servers of providers hold up no push.
    public static let lookUpForPolls = HostResolver(threadCount: 8).lookUp
}

extension OutgoingRoutes {
    /// How polls reach their hosts. Each page of a long read asks anew: for 10 s the answer of the name service holds.
    public static func polls(_ configuration: HTTPClient.Configuration, lookUp: @escaping HostLookUp = HostResolver.lookUpForPolls)
        -> OutgoingRoutes
    {
        OutgoingRoutes(lookUp: lookUp, freshFor: .seconds(10), configuration: configuration)
    }
}
