import SluiceConnectors
import SluiceCore

/// A channel, a repository: a part of a resource that the provider lists by itself.
struct PartitionModel {
    /// Since when the list of partitions names it; nil while it does not.
    var listedSince: Timestamp?
    /// Until when the provider refused it last.
    var refusedUntil = Timestamp.distantPast
    /// Until when it failed last.
    var failingUntil = Timestamp.distantPast

    /// Whether a cycle that began then knows of it.
    func isListed(since start: Timestamp) -> Bool { listedSince.map { $0 <= start } ?? false }
}

extension ProviderModel {
    /// How long Sluice keeps the cursor of a partition that is no longer listed, where it could start again.
    static let keepRemoved = Span.seconds(10)
    static let partitionsMax = 5

    /// Which of them a URL names; nil: all, or none.
    static func partition(_ url: String) -> Int? {
        let path = url.utf8.split(separator: UInt8(ascii: "?"), maxSplits: 1).first ?? "".utf8[...]
        guard let last = path.split(separator: UInt8(ascii: "/")).last, last.first == UInt8(ascii: "p") else { return nil }
        return Int(String(decoding: last.dropFirst(), as: UTF8.self))
    }

    static func isPartitionList(_ url: String) -> Bool { url.contains("/partitions?") }

    /// The list of partitions, by their ids.
    func partitionList(_ url: String, resource index: Int, at now: Timestamp) -> HTTPReply {
        let query = ProviderModel.query(url)
        guard let limit = query["limit"].flatMap({ Int($0) }) else { return reply(400, "{}", at: now) }
        let after = query["offset"].flatMap { Int($0) } ?? -1
        let listed = resources[index].partitions.indices.filter { resources[index].partitions[$0].listedSince != nil && $0 > after }
        let page = listed.prefix(limit)
        let names = page.map { "{\"id\":\"p\($0)\"}" }.joined(separator: ",")
        let next = listed.count > limit ? ",\"next\":\"\(page.last ?? 0)\"" : ""
        return reply(200, "{\"list\":[\(names)]\(next)}", at: now)
    }

    /// What the provider says instead of a partition's records; nil if it shows them.
    func refusal(_ url: String, resource index: Int, at now: Timestamp) -> HTTPReply? {
        guard let number = ProviderModel.partition(url) else { return nil }
        let partition = resources[index].partitions[number]
        if partition.listedSince == nil { return reply(404, "{}", at: now) }
        if partition.refusedUntil > now { return reply(403, "{}", at: now) }
        return partition.failingUntil > now ? reply(502, "{}", at: now) : nil
    }

    /// Makes a partition that is not listed yet; nil if there are many.
    mutating func addPartition(_ index: Int) -> Int? {
        guard resources[index].partitions.count < ProviderModel.partitionsMax else { return nil }
        resources[index].partitions.append(PartitionModel())
        return resources[index].partitions.count - 1
    }

    mutating func changePartition(_ index: Int, _ number: Int, _ change: (inout PartitionModel) -> Void) {
        change(&resources[index].partitions[number])
    }

    /// Of which partition a change's record is; nil where there are none.
    func partition(of change: Change) -> PartitionModel? {
        resources[change.resource].partitions.isEmpty ? nil : resources[change.resource].partitions[change.partition]
    }
}
