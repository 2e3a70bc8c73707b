import SluiceCore
import SluiceStore

extension OpenAPI {
    static let backfills = Area(
        "Backfills", "A window of a trigger's provider read again, with a cursor of its own.",
        schemas: [("Backfill", backfill)],
        operations: [
            Operation(
                "POST", "/v1/backfills", "startBackfill", "Reads a window again, or audits it",
                body: .json(
                    [
                        Member("trigger", .text), Member("from", .text, "RFC 3339: where the window begins."),
                        Member("to", .text, "Where it ends; now unless said.", isOptional: true),
                        Member("mode", .words(BackfillMode.self), "`missing-only` unless said.", isOptional: true),
                        Member("audit", .flag, "Compare and say what is missing.", isOptional: true),
                        Member("repair", .flag, "With `audit`: make what is missing.", isOptional: true),
                        Member("beyond_retention", .flag, "Even where records that were jobs may become jobs again.", isOptional: true),
                        Member("cursor", .any, "Where to begin, by hand: for lists that cannot be read by time.", isOptional: true),
                    ], example: #"{"trigger":"orders","from":"2026-01-01T00:00:00Z","mode":"dry-run"}"#),
                answers: [Answer(201, "It runs.", .named("Backfill"))], errors: [404, 409, 422]),
            Operation(
                "GET", "/v1/backfills", "listBackfills", "Lists backfills, the newest first",
                parameters: [
                    .limit, .afterNumber, .query("trigger", .text, "Only of this one."),
                    .query("unfinished", .flag, "Only those under way."),
                ],
                answers: [Answer("Backfills.", .page("backfills", of: .named("Backfill")))], errors: [404]),
            Operation(
                "GET", "/v1/backfills/:id", "showBackfill", "Shows a backfill", parameters: [backfillNumber],
                answers: [Answer("The backfill.", .named("Backfill"))], errors: [404]),
            Operation(
                "GET", "/v1/backfills/:id/differences", "listBackfillDifferences", "Lists what differs between the provider and Sluice",
                parameters: [
                    backfillNumber, .limit(standard: 100), .query("after", .text(max: 8192), "The `next` of the page before."),
                    .query("kind", .words(BackfillDifference.Kind.self), "`missing` unless said."),
                ],
                answers: [
                    Answer(
                        "By dedup key.",
                        .page(
                            "differences",
                            of: .object([
                                Member("dedup_key", .text), Member("job_id", .text.orNull), Member("position", .whole.orNull),
                            ]), [Member("backfill", .whole), Member("kind", .words(BackfillDifference.Kind.self))]))
                ], errors: [404]),
            Operation(
                "POST", "/v1/backfills/:id/:command", "commandBackfill", "Pauses, resumes or cancels a backfill",
                parameters: [backfillNumber, .path("command", .words(BackfillCommand.self), "What it is to do.", example: "pause")],
                answers: [Answer("The backfill.", .named("Backfill"))], errors: [404, 409]),
        ])

    private static let backfillNumber = Parameter.path("id", .whole(1...Int64.max), "Its number.", example: "1")

    private static let backfill = Schema.object([
        Member("id", .whole), Member("trigger", .text), Member("mode", .words(BackfillMode.self)), Member("audit", .flag),
        Member("from", .any), Member("to", .any), Member("state", .words(BackfillState.self)), Member("phase", .text.orNull),
        Member("waits_for", .text.orNull), Member("waits_until", .time.orNull), Member("counts", .map(of: .count)),
        Member("statement", .text.orNull, "What was found, as sentences, once it is done."), Member("notes", .list(of: .text)),
        Member("failures", .count), Member("last_error", .text.orNull), Member("created_at", .time), Member("progress_at", .time.orNull),
        Member("ended_at", .time.orNull),
    ])
}
