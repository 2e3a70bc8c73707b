/// What must hold in every run. The names begin with the promise of DESIGN.md that they watch.
public enum Invariant: String, Sendable, CaseIterable {
    /// A successful cycle whose read bound lies after arrival + lag starts by max(arrival + lag, last start + 20 s), or
    /// something that is known holds the trigger back.
    case P2_pollStartsInTime
    /// A trigger's covered sequence rises only over signals that a successful cycle could see: read bound >= arrival + lag.
    case P2_coveredNeverAhead
    /// When a cycle ends, all that was visible at its read bound is a job.
    case P2_cycleSeesWhatWasVisible
    /// From the committed cursor on, a poll returns everything that is not a job yet.
    case P3_cursorNotAheadOfJobs
    /// Committing the same chunk again changes nothing.
    case P3_repeatChangesNothing
    /// A trigger's positions run from 1 without a gap.
    case P3_positionsGapFree
    /// Only the holder of the lease commits, and only for the generation that it read.
    case P3_onlyTheHolderCommits
    /// One (id, version) is one job of a trigger, for ever.
    case P4_noJobTwice
    /// At most 2 + W/20 s webhook-caused starts in any W; a crash may hide one start from the next process.
    case P5_startsPerWindow
    /// While there is something to cover and nothing holds it back, starts lie at most 25 s apart.
    case P5_startsAtMost25sApart
    /// The first signal on an idle trigger starts a poll at once.
    case P5_idleStartsAtOnce
    /// In the end the last start came after the last accepted webhook.
    case P5_lastStartAfterLastWebhook
    /// A failed poll is not repeated before its delay has passed, unless somebody asks.
    case P5_backoffIsKept
    /// Start and resume poll at once.
    case P6_pollsAtOnce
    /// A poll starts whenever the safety interval has passed.
    case P6_safetyInterval
    /// After a time in which webhooks could not be accepted, a poll makes up for it within the window.
    case P6_catchUp
    /// A trigger that was paused ends with every record.
    case P7_pauseLosesNothing
    /// A paused or stopped trigger does not begin a cycle.
    case P7_restsWhilePaused
    /// The machine does not spin: time moves on, and a run ends.
    case P10_noBusyLoop
    /// One trigger never runs two cycles at once, and a connection never more than it may.
    case P12_connectionBounds
    /// Once the faults have stopped, every visible record is a job within a bounded time.
    case final_converged
}

/// What can go wrong around Sluice, or be done to it. Counted once a run, when it took effect.
public enum Fault: String, Sendable, CaseIterable {
    case webhookDropped, webhookDoubled, webhookLate, webhookReordered, webhookForged, webhookUnreadable
    case webhookRefused, webhookLostInDowntime
    case lateVisibility, equalTimestamps, pagesShifted, clockSkew
    case serverError, rateLimited, timeout, pageTokenExpired, credentialsRefused, feedBroken
    case crash, crashBeforeSignal, crashBeforeCommit, crashBetweenChunks, crashBeforeFinish
    case leaseLost, leaseLostInCycle
    case paused, pausedInCycle, stopped, definitionChanged, polledByHand
    case lookbackChanged, dedupChanged, changeIgnored
    case partitionFound, partitionGone, partitionBackLate, partitionRefused, partitionLeftOut, partitionFailing, feedSplit
    case keysPruned, commitRepeated, storeFailed, storeFailedBetweenChunks, cycleYielded, budgetWaited
}

/// A deliberate mistake, made from outside of the shipping code, to see that the invariants would notice it.
public enum Mutant: String, Sendable, CaseIterable {
    /// When a cycle succeeds, everything signalled by then counts as covered.
    case clearDirtyAtEnd = "clear-dirty-at-end"
    /// A resumed cycle notes the sequence anew.
    case noteAnewOnResume = "note-anew-on-resume"
    /// The cursor is committed in a step of its own, before the jobs.
    case cursorBeforeJobs = "cursor-before-jobs"
    /// The store takes commits of any epoch.
    case skipEpochCheck = "skip-epoch-check"
    /// Each signal postpones the next poll.
    case debounce
    /// A poll asks from the cursor itself, without stepping back over its boundary.
    case noOverlap = "no-overlap"
    /// When a connector's `dedup` changes, nobody asks for the keys that it made before.
    case forgetFormerKeys = "forget-former-keys"
    /// A former key says for ever that its record is known.
    case keepStaleFormerKeys = "keep-stale-former-keys"
    /// A longer lookback reads again what dedup keys have forgotten.
    case reachBelowForgotten = "reach-below-forgotten"
    /// A partition that is found later begins with what is new then.
    case laterPartitionFromNow = "later-partition-from-now"
    /// A partition that fails is left out as one that is refused.
    case leaveOutFailing = "leave-out-failing"
}
