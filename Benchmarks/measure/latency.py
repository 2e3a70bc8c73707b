"""From a webhook's 2xx to the first poll request that it causes, on an idle server. Both moments are read from the same
clock of this machine: the sender notes when the answer came, the provider when the poll arrived."""

import http.client
import json
import random
import time

import common
import receivers
import sluice
from provider import Stub

# A trigger polls for webhooks at most every 20 s; the polls of its start, and those that make up for the time before it,
# must lie further back.
THROTTLE_SECONDS = 20
QUIET_SECONDS_MAX = 120


def measure(arguments, work, bars):
    count = arguments.triggers or 200
    stub = Stub(work)
    triggers = [sluice.trigger(f"t{number}", "shop", f"k{number}") for number in range(count)]
    server = sluice.Sluice(work / "sluice", sluice.manifest([sluice.connection("shop", stub.url)], triggers))
    server.wait("every trigger has polled", 60, lambda: stub.requests() >= count)
    wait_until_idle(stub)
    stub.arrivals()
    url = server.webhook_url("shop")
    answered, answer_ms = {}, []
    for number in range(count):
        sent, done = send(url, f"k{number}")
        answered[f"k{number}"] = done
        answer_ms.append((done - sent) / 1e6)
        time.sleep(random.uniform(0.03, 0.06))
    time.sleep(2)
    arrivals = stub.arrivals()
    missing = [topic for topic in answered if topic not in arrivals]
    if missing:
        common.fail(f"{len(missing)} of {count} webhooks caused no poll: {', '.join(missing[:5])}")
    waits = [(arrivals[topic] - done) / 1e6 for topic, done in answered.items()]
    figures = {"webhooks": count, "answer_ms": common.spread(answer_ms), "waits_ms": sorted(waits)}
    figures |= {name: sluice.percentile(waits, share) for name, share in (("p50_ms", 0.5), ("p90_ms", 0.9), ("p99_ms", 0.99))}
    common.table(["webhooks", "answer ms (median)", "poll after 2xx: p50 ms", "p90 ms", "p99 ms", "max ms"], [[
        count, f"{figures['answer_ms']['median']:.2f}", *(f"{figures[name]:.2f}" for name in ("p50_ms", "p90_ms", "p99_ms")), f"{max(waits):.2f}"]])
    bars.add("first poll request after the 2xx, median", figures["p50_ms"], 10, least=False, unit="ms")
    server.stop()
    return figures


def wait_until_idle(stub):
    """Until nothing has been polled for longer than the throttle."""
    seen, since, deadline = stub.requests(), time.monotonic(), time.monotonic() + QUIET_SECONDS_MAX
    while time.monotonic() - since < THROTTLE_SECONDS + 2:
        if time.monotonic() > deadline:
            common.fail(f"triggers were still being polled after {QUIET_SECONDS_MAX} s")
        time.sleep(0.2)
        if (now := stub.requests()) != seen:
            seen, since = now, time.monotonic()


def send(url, topic):
    """One signed webhook on a connection of its own; returns when it was sent and when it was answered, in nanoseconds."""
    body = json.dumps({"id": f"evt_{topic}_{time.monotonic_ns()}", "object": "event", "type": f"{topic}.changed"}).encode()
    connection = http.client.HTTPConnection(sluice.host_of(url), timeout=10)
    connection.connect()
    headers = {"Content-Type": "application/json", "Stripe-Signature": receivers.sign("stripe", sluice.SECRET, body, int(time.time()))}
    sent = time.monotonic_ns()
    connection.request("POST", "/" + url.split("/", 3)[3], body, headers)
    response = connection.getresponse()
    done = time.monotonic_ns()
    if not 200 <= response.status < 300:
        common.fail(f"a webhook for {topic} got {response.status}: {response.read(300)}")
    response.read()
    connection.close()
    return sent, done
