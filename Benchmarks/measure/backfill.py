"""From a change at the provider, whose webhook is sent at once, to its job in the hands of a reader that waits (long poll): without
and with a backfill of the same connection beside it. An audit then says whether the numbers are right, also where jobs and their
dedup keys were deleted on purpose."""

import http.client
import json
import random
import sqlite3
import threading
import time
from datetime import datetime, timezone

import common
import sluice
from latency import send, wait_until_idle
from provider import History


def measure(arguments, work, bars):
    records, each = arguments.records, (arguments.triggers or 400) // 2
    provider = History(work, records)
    triggers = [sluice.trigger("past", "shop", "past")] + [sluice.trigger(f"t{n}", "shop", f"k{n}", page=100) for n in range(2 * each)]
    text = sluice.manifest([sluice.connection("shop", provider.url)], triggers)
    server = sluice.Sluice(work / "sluice", text)
    server.wait("the past is jobs", 600, lambda: server.trigger("past")["jobs"] >= records, every=0.5)
    server.stop()
    lost = lose(server.data / "sluice.db", records)
    server = again(server)
    wait_until_idle(provider)  # polls that make up for the time without a server lie behind the throttle
    reader = Reader(server)
    without = latencies(server, provider, reader, range(each))
    window = provider.stats()
    begun = time.monotonic()
    body = {"trigger": "past", "from": moment(window["from"]), "to": moment(window["to"]), "audit": True, "repair": True}
    number = server.request("POST", "/v1/backfills", body)["id"]
    beside = latencies(server, provider, reader, range(each, 2 * each), lambda: running(server, number))
    server.wait("the backfill's end", 3600, lambda: not running(server, number), every=0.2)
    seconds = time.monotonic() - begun
    ended = server.request("GET", f"/v1/backfills/{number}")
    reader.stop()
    doubled = duplicates(server.data / "sluice.db")
    server.stop()
    provider.stop()
    counts = ended["counts"]
    wrong = [counts[name] - expected for name, expected in (("provider", records), ("repaired", lost), ("kept", records), ("extra", 0))]
    print(ended["statement"], flush=True)
    rows = [[name, len(values), *(f"{sluice.percentile(values, share):.1f}" for share in (0.5, 0.9, 0.99))]
            for name, values in (("without", without), ("with a backfill", beside))]
    common.table(["live changes", "measured", "p50 ms", "p90 ms", "p99 ms"], rows)
    ratio = {share: sluice.percentile(beside, share) / sluice.percentile(without, share) for share in (0.5, 0.99)}
    bars.add("live latency with a backfill beside it, median, of that without", ratio[0.5], 2, least=False)
    bars.add("the same, p99", ratio[0.99], 2, least=False)
    bars.add("live changes measured while it ran", len(beside), min(each, 20))
    bars.add("numbers of the statement that are wrong", sum(map(bool, wrong)), 0, least=False)
    bars.add("jobs doubled", doubled, 0, least=False)
    return {"records": records, "lost": lost, "seconds": seconds, "records_per_second": records / seconds, "statement": ended["statement"],
            "counts": counts, "without_ms": sorted(without), "with_ms": sorted(beside), "state": ended["state"]}


def again(stopped):
    """The same server on the same data."""
    server = sluice.Sluice.__new__(sluice.Sluice)
    server.__dict__ |= {name: value for name, value in stopped.__dict__.items() if name not in ("process", "api")}
    (server.data / "server.json").unlink(missing_ok=True)
    server.start()
    return server


def lose(path, records):
    """Deletes each hundredth job and its dedup key. Returns how many."""
    with sqlite3.connect(path) as db:
        chosen = "SELECT j.seq FROM job j JOIN \"trigger\" t ON t.id = j.trigger_id WHERE t.name = 'past' AND j.position % 100 = 7"
        db.execute(f"DELETE FROM dedup WHERE key IN (SELECT dedup_key FROM job WHERE seq IN ({chosen}))")
        lost = db.execute(f"DELETE FROM job WHERE seq IN ({chosen})").rowcount
    db.close()
    return lost


def duplicates(path):
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    doubled = db.execute("SELECT count(*) - count(DISTINCT trigger_id || '/' || CAST(dedup_key AS TEXT)) FROM job").fetchone()[0]
    db.close()
    return doubled


def running(server, number):
    return server.request("GET", f"/v1/backfills/{number}")["state"] == "running"


def moment(seconds):
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


class Reader:
    """Waits for jobs, on a thread of its own, and notes when each came."""

    def __init__(self, server):
        self.port, self.token = server.api_port, server.token
        self.seen, self.condition, self.isEnding = {}, threading.Condition(), False
        page = server.request("GET", "/v1/jobs?newest=true&limit=1&records=false")
        self.after = page["jobs"][0]["seq_token"]
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        while not self.isEnding:
            connection.request("GET", f"/v1/jobs?after={self.after}&wait=2&limit=1000", headers={"Authorization": f"Bearer {self.token}"})
            page = json.loads(connection.getresponse().read())
            now = time.monotonic_ns()
            self.after = page["next"]
            with self.condition:
                for job in page["jobs"]:
                    self.seen.setdefault(job["trigger"], now)
                self.condition.notify_all()
        connection.close()

    def wait(self, trigger, seconds=30):
        with self.condition:
            if not self.condition.wait_for(lambda: trigger in self.seen, seconds):
                common.fail(f"the change of {trigger} was no job within {seconds} s")
            return self.seen[trigger]

    def stop(self):
        self.isEnding = True
        self.thread.join(10)


def latencies(server, provider, reader, numbers, goes_on=lambda: True):
    """Milliseconds from each change to its job; one change at a time, while `goes_on`."""
    url = server.webhook_url("shop")
    waits = []
    for number in numbers:
        if not goes_on():
            break
        made = provider.news(f"k{number}")
        send(url, f"k{number}")
        waits.append((reader.wait(f"t{number}") - made) / 1e6)
        time.sleep(random.uniform(0.01, 0.04))
    return waits
