"""Webhooks while polls of 200,000 records commit on the same writer: how much longer do they wait?"""

import time

import common
import load
import sluice
from provider import MockAPI, Stub

# Triggers that each read everything, one after the other, so that commits go on for as long as the load.
READERS = 9


def measure(arguments, work, bars):
    api, stub = MockAPI(work, arguments.records), Stub(work)
    connections = [sluice.connection("shop", stub.url), sluice.connection("bulk", api.url, "polls_at_once: 1")]
    server = sluice.Sluice(work / "sluice", sluice.manifest(connections, [sluice.trigger("charges", "shop", "charge")]))
    sender = load.load(arguments, work)
    target = load.target("sluice", server.webhook_url("shop"))
    sender.check(target)
    expected = load.round_of(sender, target, 20_000, 1)["accepted_per_s"]
    rounds = {"idle": [], "polling": []}
    for index in range(arguments.rounds):
        for kind in common.interleave(list(rounds), index):
            server.settle(60)
            figures = while_reading(server, sender, target, expected, arguments, index) if kind == "polling" else None
            figures = figures or load.round_of(sender, target, expected, arguments.seconds)
            rounds[kind].append(figures)
            jobs = f", {figures['jobs_per_s']:,.0f} jobs/s" if "jobs_per_s" in figures else ""
            common.note(f"round {index + 1}/{arguments.rounds}  {kind}: {figures['accepted_per_s']:,.0f} req/s, p99 {figures['p99_ms']:.2f} ms{jobs}")
    rows = []
    for kind, list_ in rounds.items():
        cells = [common.spread([figures[name] for figures in list_])["median"] for name in ("accepted_per_s", "p50_ms", "p99_ms")]
        jobs = common.spread([figures.get("jobs_per_s", 0) for figures in list_])["median"]
        rows.append([kind, f"{cells[0]:,.0f}", f"{cells[1]:.2f}", f"{cells[2]:.2f}", f"{jobs:,.0f}"])
    common.table(["webhooks while", "req/s", "p50 ms", "p99 ms", "jobs/s meanwhile"], rows)
    ratio = common.ratios([figures["p99_ms"] for figures in rounds["polling"]], [figures["p99_ms"] for figures in rounds["idle"]])
    print(f"p99 ratio {common.show_ratio(ratio)}\n")
    bars.add("p99 while polls commit / p99 otherwise", ratio["median"], 2, least=False)
    server.stop()
    return {"rounds": rounds, "ratio": ratio}


def while_reading(server, sender, target, expected, arguments, index):
    """One load with readers under way from before its start until after its end."""
    names = [f"r{index}x{number}" for number in range(READERS)]
    # Signing the load takes a moment; the readers start when wrk does, as near as can be told.
    begin_readers = lambda: server.apply("triggers:\n" + "\n".join(sluice.trigger(name, "bulk", name) for name in names) + "\n")
    jobs = lambda: sum(server.trigger(name)["jobs"] for name in names)
    begun = {}

    def before_load():
        begin_readers()
        server.wait("the readers commit", 30, lambda: jobs() > 0, every=0.02)
        begun["jobs"], begun["at"] = jobs(), time.monotonic()

    figures = load.round_of(sender, target, expected, arguments.seconds, before_load)
    read, seconds = jobs() - begun["jobs"], time.monotonic() - begun["at"]
    still = [name for name in names if server.trigger(name)["cycles_completed"] == 0]
    if not still:
        common.fail("the readers were through before the load was: raise READERS")
    for name in names:
        server.request("POST", f"/v1/triggers/{name}/stop")
    return figures | {"jobs_per_s": read / seconds}
