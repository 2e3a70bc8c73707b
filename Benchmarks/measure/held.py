"""10,000 requests that a provider holds: what do they cost, and how soon is news a job?"""

import time

import common
import sluice
from provider import Hold

CONNECTIONS = 10
CHUNK = 5000
# A whole round of requests that are answered with nothing and sent anew lies in it.
SECONDS = 65
NEWS = 100


def job_after(server, topic, at, seconds=30):
    """Milliseconds from the news to the job."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if server.request("GET", f"/v1/triggers/{topic}")["jobs"] > 0:
            return (time.monotonic_ns() - at) / 1e6
        time.sleep(0.002)
    common.fail(f"news of {topic} did not become a job within {seconds} s")


def measure(arguments, work, bars):
    count = arguments.triggers or 10_000
    hold = Hold(work)
    connections = [sluice.connection(f"shop{number}", hold.url, "polls_at_once: 8") for number in range(CONNECTIONS)]
    server = sluice.Sluice(work / "sluice", sluice.manifest(connections))
    empty = server.rss_mb()
    begin = time.monotonic()
    for first in range(0, count, CHUNK):
        numbers = range(first, min(first + CHUNK, count))
        lines = [f"  t{number}: {{ connection: shop{number % CONNECTIONS}, type: held, input: {{ topic: t{number} }} }}" for number in numbers]
        server.apply("triggers:\n" + "\n".join(lines) + "\n")
    server.wait("every request is held", 600, lambda: hold.stats()["held"] >= count, every=1)
    setup = time.monotonic() - begin
    server.settle(120, share=0.3)
    cpu, at, requests = server.cpu_seconds(), time.monotonic(), hold.stats()["requests"]
    rss, held_min = 0, count
    while time.monotonic() - at < SECONDS:
        time.sleep(1)
        rss, held_min = max(rss, server.rss_mb()), min(held_min, hold.stats()["held"])
    share = 100 * (server.cpu_seconds() - cpu) / (time.monotonic() - at)
    renewed = hold.stats()["requests"] - requests
    delays = [job_after(server, f"t{number}", hold.news(f"t{number}")) for number in range(0, count, max(1, count // NEWS))]
    figures = {
        "held": count, "held_min": held_min, "rss_mb": rss, "peak_rss_mb": server.rss_mb("VmHWM"), "empty_rss_mb": empty, "core_percent": share,
        "renewed": renewed, "setup_seconds": setup, "news_p50_ms": sluice.percentile(delays, 0.5), "news_p99_ms": sluice.percentile(delays, 0.99),
    }
    common.table(
        ["held", "fewest", "RSS MB", "peak RSS MB", "RSS without", "KB each", "% of a core", "renewed", "news p50 ms", "p99 ms"], [
            [f"{count:,}", f"{held_min:,}", f"{rss:.0f}", f"{figures['peak_rss_mb']:.0f}", f"{empty:.0f}", f"{(rss - empty) * 1000 / count:.1f}",
             f"{share:.2f}", f"{renewed:,}", f"{figures['news_p50_ms']:.1f}", f"{figures['news_p99_ms']:.1f}"]])
    bars.add(f"RSS with {count:,} held requests", max(rss, figures["peak_rss_mb"]), 400, least=False, unit="MB")
    bars.add("share of them held at any moment", 100 * held_min / count, 95, unit="%")
    server.stop()
    hold.stop()
    return figures
