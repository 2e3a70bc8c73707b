import SluiceCore
import SluiceDelivery

extension OpenAPI {
    static let jobs = Area(
        "Jobs", "What polls returned, each record once. Read them in the order of their commits: no reader misses one.",
        schemas: [("Job", job)],
        operations: [
            Operation(
                "GET", "/v1/jobs", "listJobs", "Reads jobs, or waits for the next",
                """
                Keep `next` and hand it back as `after`: durably, once the jobs before it are handled. With `wait` an answer without \
                jobs means that the time is up: ask again with its `next`.
                """,
                parameters: [
                    .query("after", .opaque, "The `next` or a `seq_token` of an answer before; empty or absent: from the oldest job."),
                    .limit(standard: JobFeedRequest.limitDefault, max: Int64(JobFeedRequest.limitMax)),
                    .query(
                        "wait", .whole(0...Int64(JobFeed.waitSecondsMax)), "Where there is nothing yet, wait up to so many seconds.",
                        example: "30"),
                    .query("trigger", .text(max: 64), "Only jobs of this trigger."),
                    .query("newest", .flag, "Backwards from the newest; does not wait."),
                    .query("records", .flag, "False: without the records."),
                ],
                answers: [
                    Answer(
                        "A page of jobs.",
                        .object([
                            Member("jobs", .list(of: .named("Job"))), Member("next", .opaque, "Give it as `after`."),
                            Member("more", .flag, "Whether there are more at this moment."),
                        ]))
                ], errors: [404, 410]),
            Operation(
                "GET", "/v1/jobs/stream", "streamJobs", "Follows jobs as Server-Sent Events",
                """
                One event `job` a job, its data as in `/v1/jobs`, its id the token to resume from; a comment every 15 s where nothing is new. \
                An event `error` ends the stream where this place is older than what is kept.
                """,
                parameters: [
                    .header("Last-Event-ID", .opaque, "The id of the last event that was handled: counts for more than `after`."),
                    .query("after", .opaque, "A token, or `now`; absent: from the oldest job."),
                    .query("trigger", .text(max: 64), "Only jobs of this trigger."),
                    .query("records", .flag, "False: without the records."),
                ],
                answers: [Answer("Events, until either side ends.", .text, type: "text/event-stream")], errors: [404, 410]),
            Operation(
                "GET", "/v1/jobs/:id", "showJob", "Shows a job",
                parameters: [.path("id", .text, "Its id, or `TRIGGER:POSITION`, which is found at once.", example: "orders:1")],
                answers: [Answer("The job.", .named("Job"))], errors: [404]),
        ])

    static let job = Schema.object([
        Member("id", .text, "Stable: the same record has the same id after a replay, a restore, a backfill."),
        Member("trigger", .text), Member("position", .whole(1...Int64.max), "Gap-free within its trigger."),
        Member("seq_token", .opaque, "Give it as `after` to read on behind this job."), Member("created_at", .time),
        Member("created_at_ms", .whole), Member("dedup_key", .text, "What makes the record and its version."),
        Member("deleted", .flag, "True where the record says that its item is gone.", isOptional: true),
        Member("derived", .flag, "Whether the connector changed the record."),
        Member("cause", .words(PollCause.self), "Why it was polled."),
        Member("record", .any, "The record as the provider sent it, byte for byte.", isOptional: true),
    ])
}
