import SluiceCore
import SluiceDelivery

extension OpenAPI {
    static let consumers = Area(
        "Consumers", "Jobs for workers that fetch them by name and ack them: a destination of kind `pull`. Sluice keeps its place.",
        schemas: [("Consumer", .object(consumerMembers)), ("FetchedJobs", fetched), ("Settled", settled)],
        operations: [
            Operation(
                "GET", "/v1/consumers", "listConsumers", "Lists the consumers", parameters: [.limit, .after],
                answers: [Answer("By name.", .page("consumers", of: .named("Consumer")))]),
            Operation(
                "GET", "/v1/consumers/:name", "showConsumer", "Shows a consumer, its leases and its workers", parameters: [consumerName],
                answers: [
                    Answer(
                        "The consumer.",
                        .object(
                            consumerMembers + [
                                Member(
                                    "leases",
                                    .list(
                                        of: .object([
                                            Member("lease", .text), Member("worker", .text.orNull), Member("jobs", .count),
                                            Member("taken_at", .time), Member("expires_at", .time),
                                        ]))),
                                Member("workers", .list(of: .object([Member("name", .text), Member("last_fetch_at", .time)]))),
                            ]))
                ], errors: [404]),
            Operation(
                "POST", "/v1/consumers/:name/fetch", "fetchJobs", "Takes jobs in hand, or waits for some",
                "They are the caller's until `expires_at`; what is not acked by then is handed out again. `ack` settles the batch before.",
                parameters: [consumerName],
                body: .json(
                    [
                        Member("max", .whole(whole(FetchOrder.jobsMax)), "At most so many jobs.", isOptional: true),
                        Member(
                            "wait", .whole(whole(FetchOrder.waitSeconds)), "Where there is nothing yet, wait up to so many seconds.",
                            isOptional: true),
                        visibility,
                        Member("worker", .text(max: FetchOrder.workerLengthMax), "Who asks: shown to people.", isOptional: true),
                        Member("ack", .text(max: 64), "The lease of the batch before, which is done.", isOptional: true),
                    ], example: #"{"max":20,"wait":30,"visibility":60,"worker":"w1"}"#),
                answers: [Answer("A batch; without jobs `lease` is null.", .named("FetchedJobs"))], errors: [404, 409]),
            Operation(
                "POST", "/v1/consumers/:name/ack", "ackJobs", "Settles jobs that were fetched", parameters: [consumerName],
                body: .json([lease, someJobs], example: #"{"lease":"AAAA","jobs":["job_1"]}"#),
                answers: [Answer("They do not come again.", .named("Settled"))], errors: [404, 409]),
            Operation(
                "POST", "/v1/consumers/:name/nack", "nackJobs", "Gives jobs back", "After too many attempts one becomes a dead letter.",
                parameters: [consumerName],
                body: .json([
                    lease, someJobs, Member("delay", .whole(0...delaySecondsMax), "Seconds until they may come again.", isOptional: true),
                    Member("reason", .text(max: ConsumerService.reasonLengthMax), "Kept with the dead letter.", isOptional: true),
                ]),
                answers: [Answer("They come again.", .named("Settled"))], errors: [404, 409]),
            Operation(
                "POST", "/v1/consumers/:name/extend", "extendLease", "Keeps jobs in hand for longer", parameters: [consumerName],
                body: .json([lease, visibility]),
                answers: [
                    Answer("Until then.", .object([Member("expires_at", .time.orNull), Member("in_hand", .count)]))
                ], errors: [404, 409]),
            Operation(
                "PUT", "/v1/consumers/:name/position", "seekConsumer", "Reads on from elsewhere",
                """
                Where jobs behind that place were removed after their time it is refused with 410; `oldest`, or `next` of the refusal as \
                `after`, goes on with what is kept.
                """,
                parameters: [consumerName],
                body: .json(
                    [
                        Member("to", .words(["oldest", "now"]), isOptional: true),
                        Member("after", .text(max: 512), "A `seq_token` or `next`.", isOptional: true),
                        Member(
                            "time", .text(max: 64),
                            "RFC 3339, not after now, or how long ago, such as `2h`: the first job that was made from then on.",
                            isOptional: true),
                    ], example: #"{"to":"oldest"}"#),
                answers: [
                    Answer(
                        "Where it is now.",
                        .object([
                            Member("position", .opaque), Member("skipped", .count, "Jobs that it does not get now."),
                            Member("again", .count, "Jobs that it gets once more."), Member("is_counted_in_full", .flag),
                        ]))
                ], errors: [404, 410]),
        ])

    private static func whole(_ range: ClosedRange<Int>) -> ClosedRange<Int64> { Int64(range.lowerBound)...Int64(range.upperBound) }
    private static let delaySecondsMax = ConsumerMachine.delayMax.milliseconds / 1000
    private static let visibilitySeconds: ClosedRange<Int64> = {
        let range = ConsumerSettings.visibilityRange
        return range.lowerBound.milliseconds / 1000...range.upperBound.milliseconds / 1000
    }()

    private static let consumerName = Parameter.path("name", .name, "The consumer.", example: "workers")
    private static let lease = Member("lease", .text(max: 64), "As the fetch gave it.")
    private static let visibility = Member(
        "visibility", .whole(visibilitySeconds), "For how many seconds the jobs are nobody else's.", isOptional: true)
    private static let someJobs = Member(
        "jobs", .list(of: .text(max: 256)), "Ids or `seq_token`s; all of the lease unless said.", isOptional: true)

    private static let consumerMembers = [
        Member("name", .name), Member("triggers", .list(of: .text)), Member("position", .opaque),
        Member("settled_through", .opaque, "Everything up to there is settled."),
        Member("waiting", .count, "Jobs that nobody has in hand."), Member("waiting_is_more", .flag, "Whether there are more than that."),
        Member("unacked", .count), Member("in_hand", .count), Member("oldest_at", .time.orNull), Member("lag_ms", .count),
        Member("visibility_ms", .count), Member("attempts_max", .count), Member("unacked_max", .count),
    ]

    private static let fetched: Schema = {
        guard case .object(let job) = job.form else { return .any }
        return .object([
            Member("lease", .text.orNull), Member("expires_at", .time.orNull), Member("expires_at_ms", .whole.orNull),
            Member(
                "jobs",
                .list(
                    of: .object(
                        job + [
                            Member("attempt", .whole(1...Int64.max), "Which time it is handed out."),
                            Member("projected", .flag, "The record is what the attachment asks for.", isOptional: true),
                        ]))),
            Member(
                "more", .flag, "Whether there are more at this moment. Without jobs: filters left out what was looked at so far; ask again."
            ),
            Member("at_bound", .flag, "Whether so much is unacked that nothing more is handed out."),
        ])
    }()

    private static let settled = Schema.object([
        Member("settled", .count), Member("repeated", .count, "Those that were settled before."),
        Member("dead", .count, "Those that became dead letters."), Member("in_hand", .count, "What the lease still holds."),
    ])
}
