/// What libFuzzer gave, read from the front. Past its end everything is zero, so that every input means something.
struct Input {
    private(set) var rest: ArraySlice<UInt8>

    init(_ bytes: [UInt8]) { rest = bytes[...] }

    var isEmpty: Bool { rest.isEmpty }

    mutating func byte() -> Int { rest.popFirst().map(Int.init) ?? 0 }

    mutating func below(_ bound: Int) -> Int { byte() % bound }

    mutating func pick<Element>(_ list: [Element]) -> Element {
        let index = list.count > 256 ? byte() << 8 | byte() : byte()
        return list[index % list.count]
    }
}
