import SluiceConnectors
import SluiceCore

@testable import SluiceLua

/// One input. Its first byte says what the rest is, its second which limits hold.
let testOneInput: @convention(c) (UnsafePointer<UInt8>?, Int) -> Int32 = { bytes, count in
    var input = Input(Array(UnsafeBufferPointer(start: bytes, count: count)))
    let (kind, limits) = (input.below(4), LuaLimits.small(input.byte()))
    switch kind {
    case 0: wholeFile(Array(input.rest), limits)
    case 1: snippet(&input, limits)
    case 2: answer(Array(input.rest), limits)
    default: program(&input, limits)
    }
    return 0
}

/// The rest is a connector's file.
private func wholeFile(_ source: [UInt8], _ limits: LuaLimits) {
    // The reader of keys and lines looks at whatever stands in a file.
    let lines = LuaKeyLines(source: source)
    check(lines.tokens.allSatisfy { $0.line >= 1 }, "a token on no line")
    _ = lines.line("triggers.a.poll")
    do {
        let connector = try LuaConnector.load(source: source, name: "", path: "f", limits: limits)
        Exercise(connector: connector, provider: Provider([Provider.awkward]), body: Provider.awkward).run()
    } catch {
        checkFailure(error)
    }
}

/// The rest is the body of one of a connector's functions.
private func snippet(_ input: inout Input, _ limits: LuaLimits) {
    let (place, failure) = (input.below(6), input.byte())
    let code = String(decoding: input.rest, as: UTF8.self)
    Host(place: place, code: code, limits: limits)?.run(failure)
}

/// The rest is drawn into a program that is right in its grammar.
private func program(_ input: inout Input, _ limits: LuaLimits) {
    let (place, failure) = (input.below(6), input.byte())
    var writer = ProgramWriter(input)
    Host(place: place, code: writer.block(), limits: limits)?.run(failure)
}

/// The rest is a provider's answer, read by code that we know.
private func answer(_ body: [UInt8], _ limits: LuaLimits) {
    guard let connector = Walker.connector(limits) else { return }
    Walker(connector: connector, body: body).run()
}
