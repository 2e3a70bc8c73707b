"""Every record of an API once, from nothing: Sluice, started for it and stopped after it, beside pollers of today, and its poll
as data beside the same poll as Lua functions."""

import json
import shlex
import sys
from pathlib import Path

import common

PAGES = "100,1000"
PEERS = "hand,airbyte"
# The poll as data, and the same one as the lambdas `poll` and `dedup`: the connector of each.
DATA, LAMBDAS = "sluice", "sluice, lambdas"
CONNECTORS = {DATA: "bench", LAMBDAS: "bench-lua"}


def measure(arguments, work, bars):
    here = Path(__file__).parent
    result = work / "pollers.json"
    # -I -S: a bare interpreter starts in 10 ms, and the time of this script counts.
    script = f"{shlex.quote(sys.executable)} -I -S {shlex.quote(str(here / 'poll_once.py'))} {{url}} {{page}} {{work}}"
    candidates = [word for name, connector in CONNECTORS.items() for word in ("--candidate", f"{name}={script} {connector}")]
    count = "sqlite3 {work}/data/sluice.db 'SELECT count(*) FROM job'"
    rounds = min(arguments.rounds, 3)
    command = [sys.executable, common.KIT / "pollers.py", *candidates, "--count-cmd", count]
    command += ["--peers", PEERS, "--pages", PAGES, "--records", str(arguments.records), "--rounds", str(rounds)]
    process = common.start([*command, "--work", work / "pollers", "--json", result])
    seconds = rounds * len(PAGES.split(",")) * (len(CONNECTORS) + len(PEERS.split(","))) * 300
    if not common.wait_exit(process, seconds) or common.stop(process) != 0:
        common.fail(f"pollers.py did not end well within {seconds} s")
    figures = json.loads(result.read_text())
    page = figures["pages"]["1000"]
    ratios = page["ratios"][DATA]
    bars.add("records/s / hand-written, page 1000", ratios["hand"]["records_per_s"]["median"], 1.5)
    bars.add("records/s / airbyte-cdk, page 1000", ratios["airbyte"]["records_per_s"]["median"], 8)
    bars.add("peak RSS", page["pollers"][DATA]["peak_rss_mb"]["max"], 100, least=False, unit="MB")
    bars.add("cost of lambdas: records/s / sluice, lambdas, page 1000", ratios[LAMBDAS]["records_per_s"]["median"], 3, least=False)
    return figures
