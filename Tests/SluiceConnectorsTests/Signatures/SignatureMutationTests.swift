import Foundation
import SluiceCore
import Testing

@testable import SluiceConnectors

/// Every vector verifies, and no request that differs from it in one byte does, unless what differs is not part of what is
/// signed: `Ignorable` lists each such part with the reason, and says what must have stayed the same.
@Suite struct SignatureMutationTests {
    @Test func theFixtureIsWhole() {
        #expect(SignatureFixture.all.count >= 80)
        #expect(Set(SignatureFixture.all.map(\.name)).count == SignatureFixture.all.count)
        // Every scheme has a vector.
        let without = SignatureScheme.all.map(\.name).filter { name in
            name != "none" && !SignatureFixture.all.contains { $0.scheme == name }
        }
        #expect(without == [])
    }

    @Test(arguments: SignatureFixture.all) func P8_vectorsVerify(_ fixture: SignatureFixture) {
        #expect(fixture.verdict() == .valid)
        // With two secrets, in either order, while the provider changes over.
        #expect(fixture.verdict(secrets: [fixture.wrongSecret] + fixture.secrets) == .valid)
        #expect(fixture.verdict(secrets: fixture.secrets + [fixture.wrongSecret]) == .valid)
        #expect(fixture.verdict(secrets: [fixture.wrongSecret]) != .valid)
        #expect(isRefused(fixture.verdict(secrets: []), .noSecret))
        #expect(isRefused(fixture.verdict(secrets: [""]), .noSecret))
        // The header names' case does not matter.
        var shouting = fixture.request
        shouting.headers = shouting.headers.map { HTTPField($0.name.uppercased(), $0.value) }
        #expect(fixture.verdict(shouting) == .valid)
    }

    @Test(arguments: SignatureFixture.all) func P8_everyOneByteChangeOfTheBodyFails(_ fixture: SignatureFixture) {
        let allowed = Ignorable.body(fixture.scheme)
        if case .unsigned = allowed { return }
        let original = fixture.request.body
        let content = fixture.signatureScheme.recipe?.content(fixture.attempt())
        var request = fixture.request
        func judge(_ what: @autoclosure () -> String) {
            guard fixture.verdict(request) == .valid else { return }
            if case .sameStates = allowed {
                let items = (try? JSONDocument(request.body))?.root["value"]?.elements ?? []
                #expect(!items.isEmpty && items.allSatisfy { $0["clientState"]?.string == fixture.secrets[0] }, "\(what())")
                return
            }
            guard case .sameContent = allowed else {
                Issue.record("\(fixture.name): valid with \(what())")
                return
            }
            // Only what is signed counts here, and it is the same.
            #expect(fixture.signatureScheme.recipe?.content(fixture.attempt(request)) == content, "\(fixture.name): \(what())")
        }
        for index in original.indices {
            request.body = original
            for byte in Mutations.replacements(of: original[index]) {
                request.body[index] = byte
                judge("byte \(index) as \(byte)")
            }
            request.body = original
            request.body.remove(at: index)
            judge("byte \(index) left out")
            request.body = original
            request.body.insert(original[index] ^ 1, at: index)
            judge("a byte put in at \(index)")
        }
        request.body = original + [0x0A]
        judge("a line feed at the end")
    }

    @Test(arguments: SignatureFixture.all) func P8_everyOneByteChangeOfAHeaderFails(_ fixture: SignatureFixture) {
        for (number, header) in fixture.request.headers.enumerated() {
            let original = Array(header.value.utf8)
            let allowed = Ignorable.header(fixture, header)
            func judge(_ value: [UInt8], _ what: @autoclosure () -> String) {
                guard fixture.verdict(fixture.with(header: number, value)) == .valid else { return }
                #expect(allowed?(value) == true, "\(fixture.name): valid with \(header.name), \(what())")
            }
            for index in original.indices {
                for byte in Mutations.replacements(of: original[index]) {
                    var changed = original
                    changed[index] = byte
                    judge(changed, "byte \(index) as \(byte)")
                }
                var shorter = original
                shorter.remove(at: index)
                judge(shorter, "byte \(index) left out")
                judge(Array(original[..<index]), "only \(index) bytes")
            }
        }
    }

    @Test(arguments: SignatureFixture.all.filter { $0.signatureScheme.signsURL || $0.scheme == "google-pubsub" })
    func P8_everyOneByteChangeOfTheURLOrMethodFails(_ fixture: SignatureFixture) {
        let original = Array((fixture.request.url ?? "").utf8)
        #expect(!original.isEmpty)
        var request = fixture.request
        for index in original.indices {
            for byte in Mutations.replacements(of: original[index]) {
                var changed = original
                changed[index] = byte
                let url = String(decoding: changed, as: UTF8.self)
                request.url = url
                guard fixture.verdict(request) == .valid else { continue }
                // HubSpot signs some characters decoded, and %3f and %3F are the same one.
                let isSame =
                    fixture.scheme == "hubspot-v3"
                    && SignedURL.candidates(url).last == SignedURL.candidates(fixture.request.url ?? "").last
                #expect(isSame, "\(fixture.name): valid with \(url)")
            }
        }
        if case .described(let content) = fixture.signatureScheme.kind, content.contains(.method) {
            request.url = fixture.request.url
            for method in ["PUT", "post", "POS", "POSTS", ""] where method != fixture.request.method {
                request.method = method
                #expect(fixture.verdict(request) != .valid)
            }
        }
        // A scheme that signs the URL refuses where it is not known.
        request = fixture.request
        request.url = nil
        #expect(isRefused(fixture.verdict(request), .noURL))
    }

    @Test(arguments: SignatureFixture.all) func P8_toleranceHoldsInBothDirectionsForEveryScheme(_ fixture: SignatureFixture) {
        let scheme = fixture.signatureScheme
        guard let moment = scheme.recipe?.moment(fixture.attempt()) else {
            #expect(scheme.summary.toleranceSeconds == nil)
            return
        }
        var options = fixture.options
        // What a scheme states holds by itself; where it states nothing, what the connection sets.
        var seconds = scheme.summary.toleranceSeconds
        if seconds == nil {
            (seconds, options.tolerance) = (120, .seconds(120))
        }
        let tolerance = Span.seconds(seconds ?? 0)
        #expect(fixture.verdict(now: moment + tolerance, options: options) == .valid)
        #expect(fixture.verdict(now: moment - tolerance, options: options) == .valid)
        #expect(isRefused(fixture.verdict(now: moment + tolerance + .milliseconds(1), options: options), .stale))
        #expect(isRefused(fixture.verdict(now: moment - tolerance - .milliseconds(1), options: options), .fromTheFuture))
        // A connection may widen it.
        options.tolerance = .seconds(tolerance.milliseconds / 1000 + 10)
        #expect(fixture.verdict(now: moment + tolerance + .seconds(9), options: options) == .valid)
    }

    /// The specialised form of a check says the same as the row of the table.
    @Test(arguments: SignatureFixture.all.filter { ["stripe", "standard-webhooks", "svix"].contains($0.scheme) })
    func theFastFormsAgreeWithTheTable(_ fixture: SignatureFixture) throws {
        let recipe = try #require(fixture.signatureScheme.recipe)
        var random = SeededRandom(state: 7)
        for _ in 0..<5_000 {
            var request = fixture.request
            for _ in 0..<Int.random(in: 0...2, using: &random) { Mutations.disturb(&request, &random) }
            let now = fixture.now + .seconds(Int64.random(in: -400...400, using: &random))
            let general = SignedRequest.verdict { () throws(RefusalError) in
                try recipe.check(SignatureAttempt(request: request, secrets: fixture.secrets, now: now, options: fixture.options))
            }
            let fast = fixture.verdict(request, now: now)
            // Only the table's form takes spaces round the commas of a list.
            if general == .valid, fixture.scheme == "stripe", request.headers.contains(where: { $0.value.contains(where: \.isWhitespace) })
            {
                continue
            }
            #expect((general == .valid) == (fast == .valid), "\(request.headers) at \(now): \(general) and \(fast)")
        }
    }
}

/// Verifying these takes milliseconds.
enum SlowSchemes {
    static let names: Set<String> = [
        "aws-sns", "paypal", "sendgrid", "discord", "standard-webhooks-ed25519", "plaid", "fusionauth", "google-pubsub", "adyen",
    ]
}

enum Mutations {
    /// SLUICE_EVERY_BYTE=1: each byte is replaced by all 255 others, which takes long. Otherwise by every one that differs in one bit, and
    /// by those that mean something to a parser.
    static let isExhaustive = ProcessInfo.processInfo.environment["SLUICE_EVERY_BYTE"] == "1"

    static func replacements(of byte: UInt8) -> [UInt8] {
        if isExhaustive { return (UInt8.min...UInt8.max).filter { $0 != byte } }
        let bits = (0..<8).map { byte ^ 1 << UInt8($0) }
        let special = Array("\"\\ ,=0aA".utf8) + [0, 255]
        return (bits + special).filter { $0 != byte }
    }

    /// Changes a header in a way that parsers trip over.
    static func disturb(_ request: inout WebhookRequest, _ random: inout SeededRandom) {
        guard !request.headers.isEmpty else { return }
        let index = Int.random(in: request.headers.indices, using: &random)
        var value = Array(request.headers[index].value.utf8)
        let place = Int.random(in: 0...value.count, using: &random)
        switch Int.random(in: 0..<12, using: &random) {
        case 0: value.insert(UInt8.random(in: 0...255, using: &random), at: place)
        case 1: value = Array(value[..<place])
        case 2: value = Array(value[place...])
        case 3: value += value
        case 4: value = Array(repeating: UInt8.random(in: 0...255, using: &random), count: Int.random(in: 0...9000, using: &random))
        case 5: value = (0..<Int.random(in: 0...80, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }
        case 6:
            value.insert(
                contentsOf: Array([",", ";", " ", "=", ".", "t=", "v1=", "v1,", "é", "%"].randomElement(using: &random)!.utf8), at: place)
        case 7:
            value = Array(
                ["-1", "99999999999999999999", "1e9", "0x10", "9223372036854775807", "NaN", ""].randomElement(using: &random)!.utf8)
        case 8: request.headers.append(request.headers[index])
        case 9:
            request.headers.remove(at: index)
            return
        case 10: value.reverse()
        default: if place < value.count { value[place] = UInt8.random(in: 0...255, using: &random) }
        }
        request.headers[index].value = String(decoding: value, as: UTF8.self)
    }
}

extension SignatureScheme {
    enum Kind {
        case described(ContentTemplate)
        case structured
    }
    var kind: Kind {
        (recipe as? DescribedSignature).map { .described($0.alternatives[0].content) } ?? .structured
    }
}
