"""100,000 triggers with nothing to do: what do they cost?"""

import os
import time

import common
import sluice
from provider import Stub

CONNECTIONS = 100
CHUNK = 10_000
# Longer than a minute: what is done once a minute is in it.
SECONDS = 65


def measure(arguments, work, bars):
    count = arguments.triggers or 100_000
    stub = Stub(work)
    connections = [sluice.connection(f"shop{number}", stub.url, "polls_at_once: 8") for number in range(CONNECTIONS)]
    server = sluice.Sluice(work / "sluice", sluice.manifest(connections))
    empty = server.rss_mb()
    begin = time.monotonic()
    for first in range(0, count, CHUNK):
        # A topic of its own for each: nothing is shared.
        triggers = [sluice.trigger(f"t{number}", f"shop{number % CONNECTIONS}", f"k{number}") for number in range(first, min(first + CHUNK, count))]
        server.apply("triggers:\n" + "\n".join(triggers) + "\n")
        common.note(f"{min(first + CHUNK, count):,} triggers after {time.monotonic() - begin:.0f} s, RSS {server.rss_mb():.0f} MB")
    server.wait("every trigger has polled", 900, lambda: stub.requests() >= count, every=1)
    server.settle(120, share=0.3)
    polls, cpu, at = stub.requests(), server.cpu_seconds(), time.monotonic()
    time.sleep(SECONDS)
    share = 100 * (server.cpu_seconds() - cpu) / (time.monotonic() - at)
    figures = {
        "triggers": count, "rss_mb": server.rss_mb(), "peak_rss_mb": server.rss_mb("VmHWM"), "empty_rss_mb": empty,
        "core_percent": share, "polls_meanwhile": stub.requests() - polls, "setup_seconds": at - begin,
        "threads": len(os.listdir(f"/proc/{server.pid}/task")),
    }
    common.table(["triggers", "RSS MB", "peak RSS MB", "RSS without triggers", "% of a core", "polls meanwhile"], [
        [f"{count:,}", f"{figures['rss_mb']:.0f}", f"{figures['peak_rss_mb']:.0f}", f"{empty:.0f}", f"{share:.2f}", figures["polls_meanwhile"]]])
    bars.add(f"RSS with {count:,} idle triggers", figures["rss_mb"], 300, least=False, unit="MB")
    bars.add(f"share of a core with {count:,} idle triggers", share, 2, least=False, unit="%")
    server.stop()
    return figures
