"""What a filter and a projection cost a job: one consumer each with and without them, which fetches and acks the same jobs, in turns."""

import time

import common
import delivery
import provider
import sluice

FILTER = "filter: 'record.amount >= 0 and record.currency == \"eur\"'"
FIELDS = "fields: [id, customer, amount]"
# Of the mock API's records all pass, so that every reader gets as many jobs.
WAYS = {"plain": [], "filter": [FILTER], "fields": [FIELDS], "both": [FILTER, FIELDS]}
RATIO_MAX = 3
SECONDS_MAX = 600


def measure(arguments, work, bars):
    count, rounds = arguments.records, arguments.rounds
    api = provider.MockAPI(work, count)
    names = {way: [f"{way}{number}" for number in range(rounds)] for way in WAYS}
    destinations = ", ".join("{ " + ", ".join([f"name: {name}", *words]) + " }" for way, words in WAYS.items() for name in names[way])
    manifest = delivery.text(
        [sluice.connection("shop", api.url)], [sluice.trigger("orders", "shop", "a", f"destinations: [{destinations}]")],
        [f"  {name}: {{ kind: pull }}" for way in WAYS for name in names[way]])
    server = sluice.Sluice(work / "filters", manifest)
    server.wait(f"{count} jobs are committed", SECONDS_MAX, lambda: server.trigger("orders")["jobs"] >= count)
    api.stop()
    seconds, cpu = {way: [] for way in WAYS}, {way: [] for way in WAYS}
    for number in range(rounds):
        for way in common.interleave(list(WAYS), number):
            server.settle(30)
            before, begun = server.cpu_seconds(), time.monotonic()
            delivery.fetch_all(server, names[way][number], count)
            seconds[way].append((time.monotonic() - begun) / count * 1e6)
            cpu[way].append((server.cpu_seconds() - before) / count * 1e6)
    server.stop()
    plain = common.spread(cpu["plain"])["median"]
    rows = []
    for way in WAYS:
        spread = common.spread(seconds[way])
        used = common.spread(cpu[way])["median"]
        rows.append([way, count, f"{spread['median']:.1f}", f"{spread['min']:.1f}..{spread['max']:.1f}", f"{used:.1f}", f"{used - plain:+.1f}"])
    common.table(["one reader, 1,000 jobs a page", "jobs", "µs a job (median)", "min..max", "µs of CPU a job", "beside plain"], rows)
    ratios = {}
    for way in ("filter", "fields", "both"):
        ratios[way] = common.ratios(seconds[way], seconds["plain"])
        print(f"{way} / plain: {common.show_ratio(ratios[way])}")
    print(flush=True)
    bars.add("time a job with a filter and fields / without", ratios["both"]["median"], RATIO_MAX, least=False)
    return {"count": count, "us": seconds, "cpu_us": cpu, "ratios": ratios}
