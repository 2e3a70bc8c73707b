import SluiceConnectors
import SluiceCore
import Testing

@testable import SluiceLua

/// What tells one record of an unknown API from another.
@Suite struct RestConnectorTests {
    private func key(_ record: String) throws -> Result<String, SluiceError> {
        let records = [Record(bytes: Array(record.utf8)[...])]
        let keys = try Catalogue.connector("rest").dedupKeys(triggerType: "updated_record", records: records)
        return keys[0].map { String(decoding: $0, as: UTF8.self) }
    }

    @Test func anIdentityIsTextOrANumber() throws {
        #expect(try key(#"{"id":12345678901234567890,"version":1}"#).get() == "12345678901234567890@1")
        #expect(try key(#"{"id":null,"uuid":"u","updated":"2026"}"#).get() == "u@2026")
        #expect(try key(#"{"id":"{x}","version":2}"#).get() == "{x}@2")
        for (record, word) in [
            (#"{"_id":{"$oid":"65"},"version":1}"#, "_id is neither text nor a number"), (#"{"id":[1]}"#, "id is neither"),
            (#"{"name":1}"#, "no id"),
        ] {
            guard case .failure(let error) = try key(record) else {
                Issue.record("\(record) has a key")
                continue
            }
            #expect(error.message.contains(word), "\(error)")
        }
    }

    /// One of them may be a constant, such as the version of a format.
    @Test func allVersionsCount() throws {
        let first = try key(#"{"id":1,"version":2,"updated":"2026-01-05"}"#).get()
        #expect(first == "1@2@2026-01-05")
        #expect(try key(#"{"id":1,"version":2,"updated":"2026-01-06"}"#).get() != first)
        #expect(try key(#"{"id":1,"updated":"2026","updated_at":"a","version":null,"modified":{"n":1}}"#).get() == "1@a@2026")
    }

    /// Without a version, or with one that is no plain value, the content tells.
    @Test func whateverChangesMakesItNew() throws {
        let keys = try [#"{"id":1}"#, #"{"id":1,"paid":true}"#, #"{"id":1,"version":null}"#, #"{"id":1,"version":{"n":1}}"#].map {
            try key($0).get()
        }
        #expect(Set(keys).count == 4 && keys.allSatisfy { $0.hasPrefix("1@") && $0.utf8.count == 66 }, "\(keys)")
        #expect(try key(#"{"id":1}"#).get() == keys[0])
        #expect(try key(#"{"id":1,"version":0,"paid":true}"#).get() == "1@0")
    }
}
