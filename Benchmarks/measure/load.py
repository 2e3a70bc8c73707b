"""Signed load in rounds of our own: what receivers.py sends, to chosen URLs, in a chosen order."""

import types

import common
import receivers
import sluice


def load(arguments, work, connections=64, pool=20_000):
    options = types.SimpleNamespace(
        scheme="stripe", secret=sluice.SECRET, threads=2, connections=connections, seconds=arguments.seconds, unique=True, pool=pool)
    return receivers.Load(options, common.fresh(work / "load"))


def target(name, url):
    return receivers.Target(name, url, "stripe")


def round_of(sender, target, expected_per_second, seconds, before_load=None):
    """One load; each request has its own id as long as no more than expected come. `before_load` is called once the
    requests are signed, just before they are sent."""
    figures = sender.send(target, seconds, max(sender.arguments.pool, int(1.5 * expected_per_second * seconds)), before_load)
    if figures["bad_status"] or figures["socket_errors"]:
        common.fail(f"{target.name} refused {figures['bad_status']} webhooks and broke {figures['socket_errors']} connections")
    if figures["reused"] > 0.01 * figures["requests"]:
        common.note(f"warning: {target.name} got {figures['reused']} of {figures['requests']} requests twice")
    figures["accepted_per_s"] = figures["requests"] / figures["seconds"]
    return figures
