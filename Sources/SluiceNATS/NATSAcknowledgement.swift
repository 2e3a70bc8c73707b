import SluiceCore

/// What JetStream answers to a message. Source: NATS ADR-1, "JetStream JSON API Design", PubAck.
enum NATSAcknowledgement: Sendable, Equatable {
    /// Kept by this stream; `isDuplicate`: it had the message already, by its id.
    case kept(stream: String, sequence: Int64, isDuplicate: Bool)
    case refused(code: Int, number: Int, description: String)
    /// Nobody listens on the subject.
    case noStream
    case unreadable

    init(_ payload: [UInt8]) {
        guard let root = (try? JSONDocument(payload))?.root else {
            self = .unreadable
            return
        }
        if let error = root["error"] {
            self = .refused(
                code: Int(error["code"]?.int64 ?? 0), number: Int(error["err_code"]?.int64 ?? 0),
                description: String((error["description"]?.string ?? "no reason given").prefix(300)))
        } else if let stream = root["stream"]?.string, let sequence = root["seq"]?.int64 {
            self = .kept(stream: stream, sequence: sequence, isDuplicate: root["duplicate"]?.bool ?? false)
        } else {
            self = .unreadable
        }
    }

    /// Why the message is not kept, for people; nil where it is.
    func problem(subject: String, stream: String?) -> String? {
        switch self {
        case .kept: nil
        case .noStream:
            "no JetStream stream takes the subject \(subject): create one that has it among its subjects, or mend `subject`"
        case .refused(_, 10060, _):
            "the stream that takes the subject \(subject) is not \(stream ?? "the expected one"): mend `stream` or `subject`"
        case .refused(let code, let number, let description): "JetStream refused the message: \(description) (\(code), \(number))"
        case .unreadable: "something that is not JetStream answered on the subject \(subject): mend `subject`"
        }
    }
}
