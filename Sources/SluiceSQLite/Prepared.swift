import GRDB
import GRDBSQLite
import SluiceCore

/// One cached statement of a connection, bound and stepped by position without GRDB's values in between: a page commit
/// binds some ten thousand of them a second. Belongs to the connection's thread; reset after each use.
struct Prepared {
    let raw: OpaquePointer
    let connection: OpaquePointer

    init(_ db: Database, _ sql: String) throws(SluiceError) {
        do {
            raw = try db.cachedStatement(sql: sql).sqliteStatement
        } catch {
            throw SluiceError.storage(error)
        }
        connection = sqlite3_db_handle(raw)
    }

    // MARK: Binding

    @inline(__always) func bind(_ index: Int32, _ value: Int64) { sqlite3_bind_int64(raw, index, value) }
    @inline(__always) func bind(_ index: Int32, _ value: Int) { sqlite3_bind_int64(raw, index, Int64(value)) }
    @inline(__always) func bind(_ index: Int32, _ value: Timestamp) { sqlite3_bind_int64(raw, index, value.milliseconds) }
    @inline(__always) func bind(_ index: Int32, _ value: some Identifier) { sqlite3_bind_int64(raw, index, value.rawValue) }
    @inline(__always) func bindNull(_ index: Int32) { sqlite3_bind_null(raw, index) }

    func bind(_ index: Int32, _ value: Int64?) { if let value { bind(index, value) } else { bindNull(index) } }
    func bind(_ index: Int32, _ value: Timestamp?) { if let value { bind(index, value) } else { bindNull(index) } }

    /// SQLite keeps a copy.
    func bind(_ index: Int32, _ text: String?) {
        guard var text else { return bindNull(index) }
        _ = text.withUTF8 { utf8 in
            utf8.withMemoryRebound(to: CChar.self) { sqlite3_bind_text(raw, index, $0.baseAddress, Int32($0.count), Prepared.transient) }
        }
    }

    /// SQLite keeps a copy.
    func bind(_ index: Int32, _ blob: [UInt8]?) {
        guard let blob else { return bindNull(index) }
        _ = blob.withUnsafeBytes { bytes in
            if bytes.count == 0 {
                sqlite3_bind_zeroblob(raw, index, 0)
            } else {
                sqlite3_bind_blob64(raw, index, bytes.baseAddress, UInt64(bytes.count), Prepared.transient)
            }
        }
    }

    /// SQLite reads from `bytes` itself, which must stay in place until the statement is reset.
    @inline(__always) func bindInPlace(_ index: Int32, _ bytes: UnsafeRawBufferPointer) {
        if bytes.count == 0 {
            sqlite3_bind_zeroblob(raw, index, 0)
        } else {
            sqlite3_bind_blob64(raw, index, bytes.baseAddress, UInt64(bytes.count), nil)
        }
    }

    private static let transient = unsafeBitCast(-1, to: sqlite3_destructor_type.self)

    // MARK: Stepping

    /// True: a row is there to be read. After the last row or an error the statement is reset.
    @inline(__always) func step() throws(SluiceError) -> Bool {
        let code = sqlite3_step(raw)
        if code == SQLITE_ROW { return true }
        if code == SQLITE_DONE {
            sqlite3_reset(raw)
            return false
        }
        throw fault(code)
    }

    /// Runs a statement whose rows nobody wants.
    @inline(__always) func run() throws(SluiceError) {
        while try step() {}
    }

    /// Runs an INSERT. False: a constraint refuses one of its rows, so that none was written.
    func runUnlessRefused() throws(SluiceError) -> Bool {
        let code = sqlite3_step(raw)
        guard code & 0xFF == SQLITE_CONSTRAINT || code == SQLITE_DONE else { throw fault(code) }
        sqlite3_reset(raw)
        return code == SQLITE_DONE
    }

    /// The first row, or nil. `read` must copy what it keeps.
    func first<T>(_ read: (Prepared) throws -> T) throws -> T? {
        guard try step() else { return nil }
        defer { sqlite3_reset(raw) }
        return try read(self)
    }

    /// Every row.
    func all<T>(_ read: (Prepared) throws -> T) throws -> [T] {
        var result: [T] = []
        defer { sqlite3_reset(raw) }
        while try step() { result.append(try read(self)) }
        return result
    }

    func reset() { sqlite3_reset(raw) }

    /// Rows that the last statement of this connection changed.
    @inline(__always) var changes: Int { Int(sqlite3_changes(connection)) }
    var lastInsertedRow: Int64 { sqlite3_last_insert_rowid(connection) }

    private func fault(_ code: Int32) -> SluiceError {
        let error = SluiceError.storage(connection: connection, code: code)
        sqlite3_reset(raw)
        return error
    }

    // MARK: Columns

    @inline(__always) func int(_ column: Int32) -> Int64 { sqlite3_column_int64(raw, column) }
    @inline(__always) func isNull(_ column: Int32) -> Bool { sqlite3_column_type(raw, column) == SQLITE_NULL }
    func optionalInt(_ column: Int32) -> Int64? { isNull(column) ? nil : int(column) }
    func time(_ column: Int32) -> Timestamp { Timestamp(milliseconds: int(column)) }
    func optionalTime(_ column: Int32) -> Timestamp? { isNull(column) ? nil : time(column) }
    func id<ID: Identifier>(_ column: Int32) -> ID { ID(rawValue: int(column)) }

    func bytes(_ column: Int32) -> [UInt8] {
        guard let start = sqlite3_column_blob(raw, column) else { return [] }
        return [UInt8](UnsafeRawBufferPointer(start: start, count: Int(sqlite3_column_bytes(raw, column))))
    }
    func optionalBytes(_ column: Int32) -> [UInt8]? { isNull(column) ? nil : bytes(column) }
    func text(_ column: Int32) -> String { String(decoding: bytes(column), as: UTF8.self) }
    func optionalText(_ column: Int32) -> String? { isNull(column) ? nil : text(column) }
}
