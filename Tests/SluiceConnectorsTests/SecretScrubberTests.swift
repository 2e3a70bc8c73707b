import SluiceConnectors
import SluiceCore
import Testing

/// What a provider repeats of the credentials that it was shown, in every form that a program gives to a text.
@Suite struct SecretScrubberTests {
    static let secret = "k3y/Zq+9\"w&x=Tail42"

    static let forms: [(String, String)] = [
        ("as it is", secret),
        ("in other capitals", secret.uppercased()),
        ("percent-encoded", "k3y%2FZq%2B9%22w%26x%3DTail42"),
        ("percent-encoded in small letters", "k3y%2fZq%2b9%22w%26x%3dTail42"),
        ("partly percent-encoded", "k3y/Zq%2B9%22w%26x=Tail42"),
        ("in JSON", #"k3y\/Zq+9\"w&x=Tail42"#),
        ("in JSON of others", #"k3y/Zq\u002B9\u0022w\u0026x=Tail42"#),
        ("in JSON, quoted once more", #"k3y\\/Zq+9\\\"w&x=Tail42"#),
        ("in HTML", "k3y/Zq+9&quot;w&amp;x=Tail42"),
        ("in HTML by numbers", "k3y&#x2F;Zq&#43;9&#34;w&#x26;x=Tail42"),
        // Each as `printf '%s' … | base64` gives it.
        ("in base64", "azN5L1pxKzkidyZ4PVRhaWw0Mg=="),
        ("in base64 behind one byte", "OmszeS9acSs5IncmeD1UYWlsNDI="),
        ("in base64 behind two bytes", "dTprM3kvWnErOSJ3Jng9VGFpbDQy"),
        ("in base64 before a colon", "azN5L1pxKzkidyZ4PVRhaWw0Mjo="),
        ("form-encoded in base64", "Y2xpZW50OmszeSUyRlpxJTJCOSUyMnclMjZ4JTNEVGFpbDQy"),
    ]

    @Test(arguments: forms)
    func itIsTakenOut(name: String, form: String) {
        let scrubber = SecretScrubber([Self.secret])
        #expect(scrubber.scrubbed("before \(form) after") == "before [secret] after", "\(name)")
        #expect(scrubber.scrubbed("<\(form)><\(form)>") == "<[secret]><[secret]>", "\(name), twice")
        #expect(scrubber.scrubbed(Array(form.utf8)) == Array("[secret]".utf8), "\(name), alone")
    }

    /// A quotation that ends in the middle of a secret tells none of it.
    @Test(arguments: 6...19)
    func whatTheEndCutsOffIsTakenOut(count: Int) {
        let scrubber = SecretScrubber([Self.secret])
        let cut = String(Self.secret.prefix(count))
        for end in ["", "…", "\"", "\".", "\u{FFFD}\""] {
            #expect(scrubber.scrubbed("key: \(cut)\(end)").hasPrefix("key: [secret]"), "\(cut)\(end)")
        }
    }

    @Test func base64ForURLsIsKnown() {
        #expect(SecretScrubber(["a>b?c>d?e>f?"]).scrubbed("YT5iP2M+ZD9lPmY/ YT5iP2M-ZD9lPmY_") == "[secret] [secret]")
    }

    @Test func whatIsNoSecretStays() {
        let text = "k3y is the beginning, Tail42 the end; azN5 means nothing; \\ % & &amp; %zz \\u00 &#; ü"
        #expect(SecretScrubber([Self.secret]).scrubbed(text) == text)
        #expect(SecretScrubber(["abc", ""]).scrubbed("abc") == "abc", "too short to be taken out")
        #expect(SecretScrubber([]).scrubbed(text) == text)
    }

    @Test func theLongerSecretIsTakenOutWhole() {
        #expect(SecretScrubber(["canary", "canary-and-more"]).scrubbed("canary-and-more, canary") == "[secret], [secret]")
    }

    @Test func anErrorsContextIsScrubbedToo() {
        let error = SluiceError(.providerStatus, "no \(Self.secret)").with("answer", "\"bad key k3y/Zq\"")
        let clean = error.scrubbed(by: SecretScrubber([Self.secret]))
        #expect(clean.description == "provider_status: no [secret] (answer=\"bad key [secret]\")")
    }
}
