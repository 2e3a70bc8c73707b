"""10,000 requests that a provider holds: what do they cost, and how soon is news a job?"""

import http.client
import json
import queue
import resource
import threading
import time
from urllib.parse import quote

import common
import sluice
from provider import Hold

CONNECTIONS = 10
CHUNK = 5000
# A whole round of requests that are answered with nothing and sent anew lies in it.
SECONDS = 65
NEWS = 100


class Jobs(threading.Thread):
    """Reads the jobs as they are committed, as a program would: with a request of its own that waits. The answer's moment counts,
    not how often somebody asks."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.arrived = queue.Queue()  # (name of a trigger, nanoseconds of CLOCK_MONOTONIC)
        self.port, self.token = server.api_port, server.token
        self.start()

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        after = ""
        try:
            while True:
                path = f"/v1/jobs?wait=30&records=false{after}"
                connection.request("GET", path, headers={"Authorization": f"Bearer {self.token}"})
                response = connection.getresponse()
                answer, at = response.read(), time.monotonic_ns()
                if response.status != 200:
                    raise ValueError(f"{path} answered {response.status}: {answer[:300]}")
                page = json.loads(answer)
                for job in page["jobs"]:
                    self.arrived.put((job["trigger"], at))
                if page.get("next"):
                    after = "&after=" + quote(page["next"])
        except (OSError, ValueError, http.client.HTTPException) as error:
            self.arrived.put((None, error))

    def after_news(self, topic, hold, seconds=30):
        """Milliseconds from the news to its job at the reader. One after the other, so that no job is taken for another."""
        at = hold.news(topic)
        try:
            name, arrived = self.arrived.get(timeout=seconds)
        except queue.Empty:
            common.fail(f"news of {topic} did not become a job within {seconds} s")
        if name != topic:
            common.fail(f"after news of {topic} came {'a job of ' + name if name else arrived}")
        return (arrived - at) / 1e6


def measure(arguments, work, bars):
    count = arguments.triggers or 10_000
    # Sluice holds at most half as many requests as it may have files open.
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if files != resource.RLIM_INFINITY and files < 2 * count:
        common.fail(f"{count} held requests need a hard limit of {2 * count} open files, here it is {files}: ulimit -Hn, or fewer --triggers")
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
    rss, held_min, fewest = 0, count, count
    while time.monotonic() - at < SECONDS:
        time.sleep(1)
        rss, stats = max(rss, server.rss_mb()), hold.stats()
        held_min, fewest = min(held_min, stats["held"]), min(fewest, stats["held_min"])
    share = 100 * (server.cpu_seconds() - cpu) / (time.monotonic() - at)
    renewed = stats["requests"] - requests
    peak = server.rss_mb("VmHWM")
    jobs = Jobs(server)
    # The first job makes the API read every trigger's name, once.
    jobs.after_news("t0", hold)
    delays = [jobs.after_news(f"t{number}", hold) for number in range(0, count, max(1, count // NEWS))]
    figures = {
        "held": count, "held_min": held_min, "fewest": fewest, "rss_mb": rss, "peak_rss_mb": peak, "empty_rss_mb": empty, "core_percent": share,
        "renewed": renewed, "setup_seconds": setup, "news_p50_ms": sluice.percentile(delays, 0.5), "news_p99_ms": sluice.percentile(delays, 0.99),
    }
    common.table(
        ["held", "each second", "fewest", "RSS MB", "peak RSS MB", "RSS without", "KB each", "% of a core", "renewed", "news p50 ms", "p99 ms"], [
            [f"{count:,}", f"{held_min:,}", f"{fewest:,}", f"{rss:.0f}", f"{peak:.0f}", f"{empty:.0f}", f"{(rss - empty) * 1000 / count:.1f}",
             f"{share:.2f}", f"{renewed:,}", f"{figures['news_p50_ms']:.1f}", f"{figures['news_p99_ms']:.1f}"]])
    bars.add(f"RSS with {count:,} held requests", max(rss, peak), 400, least=False, unit="MB")
    bars.add("share of them held, looked at each second", 100 * held_min / count, 95, unit="%")
    server.stop()
    hold.stop()
    return figures
