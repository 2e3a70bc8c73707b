extension PollPage {
    /// A dedup key as it is kept: where ids begin anew, it counts within the page's epoch.
    package func wholeKey(_ key: [UInt8]) -> [UInt8] { epoch.map { Array("\($0)/".utf8) + key } ?? key }
}
