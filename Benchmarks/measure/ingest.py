"""Signed webhooks, each with an id of its own, through a static connection whose `webhook_keys` is Lua: how many are
accepted a second, durably, beside what people use today and beside the same listener that only reads."""

import json
import subprocess
import sys

import common
import sluice
from provider import MockAPI

PEERS = "nginx,webhook,fastapi-sqlite"
PATH_OF_BASELINE = "/baseline/hook"


def measure(arguments, work, bars):
    api = MockAPI(work, 1000)
    server = sluice.Sluice(
        work / "sluice",
        sluice.manifest([sluice.connection("shop", api.url)], [sluice.trigger("charges", "shop", "charge")]),
        {"SLUICE_BENCHMARK_BASELINE": "1"},
    )
    server.wait("the first poll is through", 30, lambda: server.trigger("charges")["cycles_completed"] >= 1)
    url = server.webhook_url("shop")
    result = work / "receivers.json"
    command = [sys.executable, common.KIT / "receivers.py", "--unique", "--scheme", "stripe", "--secret", sluice.SECRET]
    command += ["--candidate", f"sluice={url}", "--candidate", f"read-only=http://127.0.0.1:{server.hooks_port}{PATH_OF_BASELINE}"]
    command += ["--peers", PEERS, "--connections", "64", "--seconds", str(arguments.seconds), "--rounds", str(arguments.rounds)]
    process = common.start([*command, "--work", work / "receivers", "--json", result])
    seconds = arguments.rounds * 5 * (arguments.seconds + 30) + 120
    if not common.wait_exit(process, seconds) or common.stop(process) != 0:
        common.fail(f"receivers.py did not end well within {seconds} s")
    server.stop()
    figures = json.loads(result.read_text())
    ratios = figures["ratios"]["sluice"]
    ours = figures["receivers"]["sluice"]
    if ours["bad_status"] or ours["socket_errors"] or not ours["refuses_forged"]:
        common.fail("sluice refused genuine webhooks or took forged ones: this is no measurement")
    bars.add("requests/s / fastapi-sqlite", ratios["fastapi-sqlite"]["median"], 10)
    bars.add("requests/s / adnanh webhook", ratios["webhook"]["median"], 2)
    bars.add("requests/s / the same listener reading only", ratios["read-only"]["median"], 0.65)
    bars.add("p99 at 64 connections", ours["p99_ms"]["median"], 25, least=False, unit="ms")
    return figures
