import SluiceCore
import Testing

/// What a 403 is about: one trigger, or the credentials of all.
@Suite struct CredentialDoubtTests {
    private let one = TriggerID(1)
    private let two = TriggerID(2)
    private let three = TriggerID(3)

    @Test func theOnlyTriggerSpeaksForTheConnection() {
        var doubt = CredentialDoubt()
        #expect(doubt.isConnectionRefused(by: one, worked: false, isOnly: true) == true)
        doubt.succeeded()
        #expect(doubt.isConnectionRefused(by: one, worked: true, isOnly: true) == true)
    }

    @Test func P12_whoNeverCouldReadSaysNothingAboutOthersThatCan() {
        var doubt = CredentialDoubt()
        doubt.succeeded()
        for _ in 0..<10 {
            for trigger in [one, two, three] { #expect(doubt.isConnectionRefused(by: trigger, worked: false, isOnly: false) == false) }
        }
    }

    @Test func twoThatWorkedAreEnough() {
        var doubt = CredentialDoubt()
        #expect(doubt.isConnectionRefused(by: one, worked: true, isOnly: false) == false)
        #expect(doubt.isConnectionRefused(by: one, worked: true, isOnly: false) == false, "one alone may have lost what it reads")
        #expect(doubt.isConnectionRefused(by: three, worked: false, isOnly: false) == false)
        #expect(doubt.isConnectionRefused(by: two, worked: true, isOnly: false) == true)
    }

    @Test func aSuccessOrOtherCredentialsBeginAnew() {
        var doubt = CredentialDoubt()
        #expect(doubt.isConnectionRefused(by: one, worked: true, isOnly: false) == false)
        doubt.succeeded()
        #expect(doubt.isConnectionRefused(by: two, worked: true, isOnly: false) == false)
        doubt.changed()
        #expect(doubt.isConnectionRefused(by: one, worked: true, isOnly: false) == false)
        #expect(doubt.isConnectionRefused(by: two, worked: true, isOnly: false) == true)
    }

    @Test func whereNoneEverWorkedTwoAreEnough() {
        var doubt = CredentialDoubt()
        #expect(doubt.isConnectionRefused(by: one, worked: false, isOnly: false) == false)
        #expect(doubt.isConnectionRefused(by: two, worked: false, isOnly: false) == true)
    }
}
