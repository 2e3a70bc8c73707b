import AsyncHTTPClient
import Foundation
import NIOCore

/// Just enough of Sluice's API for a program that handles jobs. `/openapi.json` describes all of it.
struct Sluice {
    var url = ProcessInfo.processInfo.environment["SLUICE_URL"] ?? "http://localhost:8081"
    var token = ProcessInfo.processInfo.environment["SLUICE_TOKEN"] ?? ""

    /// What Sluice says when it refuses something.
    struct Refusal: Error, CustomStringConvertible {
        var status: Int
        var description: String
        /// Not worth trying again: the token, the name or the place is wrong.
        var isFinal: Bool { [400, 401, 404, 410].contains(status) }
    }

    struct Job: Decodable {
        var id: String
        var trigger: String
        var attempt: Int?
    }

    struct Page: Decodable {
        var jobs: [Job]
        var next: String
    }

    struct Batch: Decodable {
        var lease: String?
        var jobs: [Job]
    }

    struct Callback: Decodable {
        var id: String
        var url: String?
        var state: String
        var result: JSON?
    }

    /// Any value, printed as JSON. A program that knows what it waits for decodes a type of its own instead.
    enum JSON: Decodable, CustomStringConvertible {
        case null, bool(Bool), number(Decimal), string(String), array([JSON]), object([String: JSON])

        init(from decoder: any Decoder) throws {
            let value = try decoder.singleValueContainer()
            if value.decodeNil() {
                self = .null
            } else if let bool = try? value.decode(Bool.self) {
                self = .bool(bool)
            } else if let number = try? value.decode(Decimal.self) {
                self = .number(number)
            } else if let string = try? value.decode(String.self) {
                self = .string(string)
            } else if let array = try? value.decode([JSON].self) {
                self = .array(array)
            } else {
                self = .object(try value.decode([String: JSON].self))
            }
        }

        var description: String {
            switch self {
            case .null: "null"
            case .bool(let bool): "\(bool)"
            case .number(let number): "\(number)"
            case .string(let string): JSON.quoted(string)
            case .array(let array): "[" + array.map(\.description).joined(separator: ", ") + "]"
            case .object(let members):
                "{" + members.sorted { $0.key < $1.key }.map { "\(JSON.quoted($0.key)): \($0.value)" }.joined(separator: ", ") + "}"
            }
        }

        private static func quoted(_ text: String) -> String {
            String(decoding: (try? JSONEncoder().encode(text)) ?? Data(), as: UTF8.self)
        }
    }

    func get<Answer: Decodable>(_ path: String, query: [String: String] = [:]) async throws -> Answer {
        try await decode(try await send("GET", path, query: query))
    }

    func post<Answer: Decodable>(_ path: String, _ body: [String: any Sendable]) async throws -> Answer {
        try await decode(try await send("POST", path, body: body))
    }

    /// The answer, once its status is known to be good.
    func send(
        _ method: String, _ path: String, query: [String: String] = [:], headers: [String: String] = [:],
        body: [String: any Sendable]? = nil
    ) async throws -> HTTPClientResponse {
        var address = URLComponents(string: url + path)!
        if !query.isEmpty { address.queryItems = query.map { URLQueryItem(name: $0, value: $1) } }
        var request = HTTPClientRequest(url: address.string!)
        request.method = .init(rawValue: method)
        request.headers.add(name: "Authorization", value: "Bearer \(token)")
        for (name, value) in headers { request.headers.add(name: name, value: value) }
        if let body {
            request.headers.add(name: "Content-Type", value: "application/json")
            request.body = .bytes(Array(try JSONSerialization.data(withJSONObject: body)))
        }
        let answer = try await HTTPClient.shared.execute(request, timeout: .seconds(90))
        guard (200..<300).contains(answer.status.code) else {
            let text = String(buffer: try await answer.body.collect(upTo: 1 << 20))
            throw Refusal(status: Int(answer.status.code), description: text)
        }
        return answer
    }

    private func decode<Answer: Decodable>(_ answer: HTTPClientResponse) async throws -> Answer {
        try JSONDecoder().decode(Answer.self, from: Data(buffer: try await answer.body.collect(upTo: 64 << 20)))
    }
}
