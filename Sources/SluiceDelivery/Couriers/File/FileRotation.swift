import SluiceCore

/// When a file is put aside, and how those that were are called. Pure: sizes and times are passed in.
///
/// `orders.jsonl` becomes `orders.jsonl.00000001`, the next one `orders.jsonl.00000002`: the highest number is the youngest,
/// whatever the clock says. Periods are counted from 1970 UTC, so `24h` ends at midnight UTC; a file that nothing is written to
/// stays where it is until the next job comes.
public struct FileRotation: Sendable, Equatable {
    /// No line is added that would make a file larger. A batch of jobs that is larger by itself gets a file of its own.
    public var bytesMax: Int64?
    public var every: Span?
    /// How many rotated files are kept; nil: all.
    public var keep: Int?

    public static let bytesLeast: Int64 = 4096
    public static let everyLeast = Span.minutes(1)
    static let digits = 8

    public init(bytesMax: Int64? = nil, every: Span? = nil, keep: Int? = nil) {
        self.bytesMax = bytesMax
        self.every = every
        self.keep = keep
    }

    /// Whether a file of `size` bytes, last written to at `modifiedAt`, is put aside before `adding` bytes are written.
    public func isDue(size: Int64, adding: Int64, modifiedAt: Timestamp, now: Timestamp) -> Bool {
        guard size > 0 else { return false }
        if let bytesMax, size + adding > bytesMax { return true }
        guard let every, every > .zero else { return false }
        return period(modifiedAt, every) != period(now, every)
    }

    private func period(_ time: Timestamp, _ every: Span) -> Int64 {
        let (quotient, rest) = time.milliseconds.quotientAndRemainder(dividingBy: every.milliseconds)
        return rest < 0 ? quotient - 1 : quotient
    }

    /// The number of a rotated file, by the name of it and of the file that it was; nil for any other file.
    public static func number(of rotated: String, in name: String) -> Int? {
        guard rotated.hasPrefix(name + ".") else { return nil }
        let tail = rotated.utf8.dropFirst(name.utf8.count + 1)
        guard tail.count == digits, tail.allSatisfy({ (0x30...0x39).contains($0) }) else { return nil }
        return tail.reduce(0) { $0 * 10 + Int($1 - 0x30) }
    }

    public static func rotated(_ name: String, number: Int) -> String {
        let text = String(number)
        return name + "." + String(repeating: "0", count: max(0, digits - text.utf8.count)) + text
    }

    /// Of the numbers that are there, those beyond what is kept, oldest first.
    public func surplus(_ numbers: [Int]) -> [Int] {
        guard let keep, numbers.count > keep else { return [] }
        return Array(numbers.sorted().prefix(numbers.count - keep))
    }

    func validate() throws(SluiceError) {
        if let bytesMax, bytesMax < FileRotation.bytesLeast {
            throw SluiceError(.invalid, "`rotate_size` is at least 4kb: for example 64mb")
        }
        if let every, every < FileRotation.everyLeast {
            throw SluiceError(.invalid, "`rotate_every` is at least 1m: for example 1h or 24h")
        }
        if let keep, !(1...100_000).contains(keep) {
            throw SluiceError(.invalid, "`keep` is a number of rotated files from 1 to 100000")
        }
        if keep != nil, bytesMax == nil, every == nil {
            throw SluiceError(.invalid, "`keep` needs `rotate_size` or `rotate_every`: without one no file is ever rotated")
        }
    }
}
