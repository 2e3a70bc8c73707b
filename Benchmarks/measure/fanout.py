"""10,000 triggers on one topic beside one trigger on one: does accepting a webhook get slower with its listeners?"""

import common
import load
import sluice
from provider import Stub

# What providers grant is of this order: Chargebee 2.5, Stripe 100 requests a second. The same for both servers.
REQUESTS_PER_SECOND = 50
CHUNK = 10_000


def measure(arguments, work, bars):
    count = arguments.triggers or 10_000
    stub = Stub(work)
    servers = {1: start(work / "one", stub, 1), count: start(work / "many", stub, count)}
    sender = load.load(arguments, work)
    targets = {number: load.target(f"{number:,} trigger{'s' if number > 1 else ''}", server.webhook_url("shop")) for number, server in servers.items()}
    expected = {}
    for number, target in targets.items():
        sender.check(target)
        expected[number] = load.round_of(sender, target, 20_000, 1)["accepted_per_s"]
    rounds = {number: [] for number in targets}
    for index in range(arguments.rounds):
        for number in common.interleave(list(targets), index):
            servers[number].settle(30, share=0.3)
            figures = load.round_of(sender, targets[number], expected[number], arguments.seconds)
            rounds[number].append(figures)
            common.note(f"round {index + 1}/{arguments.rounds}  {targets[number].name}: {figures['accepted_per_s']:,.0f} req/s")
    polls = stub.requests()
    rates = {number: [figures["accepted_per_s"] for figures in list_] for number, list_ in rounds.items()}
    rows = []
    for number, target in targets.items():
        rate, p99 = common.spread(rates[number]), common.spread([figures["p99_ms"] for figures in rounds[number]])
        rows.append([target.name, f"{rate['median']:,.0f}", f"{rate['min']:,.0f}..{rate['max']:,.0f}", f"{p99['median']:.2f}"])
    common.table(["on one topic", "req/s", "min..max", "p99 ms"], rows)
    ratio = common.ratios(rates[count], rates[1])
    print(f"ratio {common.show_ratio(ratio)}; {polls:,} polls were made meanwhile\n")
    bars.add(f"requests/s with {count:,} triggers on the topic / with one", ratio["median"], 0.8)
    for server in servers.values():
        server.stop()
    return {"rounds": {str(number): list_ for number, list_ in rounds.items()}, "ratio": ratio, "polls": polls}


def start(folder, stub, count):
    limit = f"requests_per_second: {REQUESTS_PER_SECOND}"
    server = sluice.Sluice(folder, sluice.manifest([sluice.connection("shop", stub.url, limit)]))
    for first in range(0, count, CHUNK):
        triggers = [sluice.trigger(f"t{number}", "shop", "charge") for number in range(first, min(first + CHUNK, count))]
        server.apply("triggers:\n" + "\n".join(triggers) + "\n")
    return server
