"""10,000 clients that wait for jobs, by long poll, by consumer and by stream: what do they cost while nothing happens, and what
does one job cost then?"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import common
import sluice
from provider import Stub

SECONDS = 30
KINDS = {"long polls": "poll", "consumer": "fetch", "streams": "stream"}


class Clients:
    """wait.py: the waiting clients, in a process of their own, because each end of a connection is an open file."""

    def __init__(self, work, server, kind, count):
        command = [sys.executable, "-B", Path(__file__).with_name("wait.py"), server.api_port, kind, count]
        self.log = work / f"wait-{kind}.log"
        with open(self.log, "w") as errors:
            self.process = subprocess.Popen(
                [str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
                env={"SLUICE_TOKEN": server.token, "PATH": "/usr/bin:/bin"})

    def says(self):
        line = self.process.stdout.readline()
        return json.loads(line) if line else common.fail(f"the waiting clients ended:\n{common.tail(self.log)}")

    def asks(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return self.says()

    def stop(self):
        self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def measure(arguments, work, bars):
    count = arguments.triggers or 10_000
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    # Sluice keeps a quarter of its files for other things than its API's connections.
    if files != resource.RLIM_INFINITY and files * 3 // 4 < count + 100:
        common.fail(f"{count} waiting clients need a hard limit of {(count + 100) * 4 // 3} open files, here it is {files}: fewer --triggers")
    figures, rows = {}, []
    for name, kind in KINDS.items():
        stub = Stub(work)
        text = sluice.manifest(
            [sluice.connection("shop", stub.url)], [sluice.trigger("t0", "shop", "k0", "destinations: [queue]")])
        server = sluice.Sluice(work / f"sluice-{kind}", text + "destinations:\n  queue: { kind: pull }\n")
        server.wait("the first poll", 60, lambda: stub.requests() >= 1)
        server.settle(60)
        empty = server.rss_mb()
        clients = Clients(work, server, kind, count)
        ready = clients.says()
        if ready["waiting"] < count:
            common.fail(f"{ready['waiting']} of {count} clients wait: {ready}")
        server.settle(60, share=0.3)
        cpu, at = server.cpu_seconds(), time.monotonic()
        time.sleep(SECONDS)
        share = 100 * (server.cpu_seconds() - cpu) / (time.monotonic() - at)
        state = clients.asks("state")
        rss = server.rss_mb()
        rows.append([name, f"{count:,}", f"{state['waiting']:,}", f"{empty:.0f}", f"{rss:.0f}", f"{(rss - empty) * 1000 / count:.1f}", f"{share:.2f}"])
        figures[kind] = {"clients": count, "waiting": state["waiting"], "renewed": state["renewed"], "errors": state["errors"], "empty_rss_mb": empty,
                         "rss_mb": rss, "core_percent": share}
        bars.add(f"{name}: share that waits after {SECONDS} s", 100 * state["waiting"] / count, 99, unit="%")
        # A busy loop would take a whole core; heartbeats and answers of time-outs are all there is to do.
        bars.add(f"{name}: of one core", share, 30, least=False, unit="%")
        clients.stop()
        server.stop()
        stub.stop()
    common.table(["", "clients", "waiting", "RSS without, MB", "RSS MB", "KB each", "% of a core"], rows)
    return figures
