/// The names that findings have, so that an allowance of none of them can be told.
package enum LintNames {
    package static let all: Set<String> = [
        "allow-unknown", "allow-without-reason", "anchored-on-record", "clock-as-cursor", "clock-skew", "cursor-at-fails",
        "cursor-at-ignores-time", "cursor-moves-early", "dedup-fails", "exclusive-without-overlap", "future-date-believed",
        "gap-unseen", "last-record-cursor", "late-records-lost", "lookback-overridden", "new-by-updated", "no-cursor-at",
        "no-lookback", "no-record-time", "no-signature-check", "no-version", "not-modified-believed", "not-simulated",
        "one-record-breaks-page", "page-token-kept", "paging-never-ends", "paging-stops-early", "parameter-twice",
        "partitions-listed-once", "poll-fails", "precision-lost", "record-doubled", "record-time-unread", "shifting-pages",
        "since-not-stored", "strict-after-page-end", "times-compared-as-text", "token-expiry-unhandled", "unordered-as-ordered",
        "version-too-coarse", "webhook-covered-early", "zone-guessed",
    ]
}
