"""Jobs on their way out, to receivers that do nothing: pushes, consumers that fetch and ack, plain pages of /v1/jobs, how soon a
change is at a consumer that waits, and what a dead destination costs a healthy one."""

import http.client
import json
import re
import socket
import subprocess
import threading
import time
from pathlib import Path
from urllib.parse import quote

import common
import provider
import sluice

PUSHES_MAX, BESIDE_DEAD = 60_000, 30_000
PUSH_SECRET = "whsec_YmVuY2htYXJrYmVuY2htYXJrYmVuY2htYXJr"
NEWS = 200
SECONDS_MAX = 240


class Sink(provider.Provider):
    """sink.c: answers 200 at once and counts; or, at /dead, never."""

    def __init__(self, work):
        program = work / "sink"
        source = Path(__file__).with_name("sink.c")
        built = subprocess.run(["cc", "-O2", "-o", program, source], capture_output=True, text=True)
        if built.returncode != 0:
            common.fail(f"{source} cannot be compiled: {built.stderr}")
        self.log, address = work / "sink.log", work / "sink.url"
        with open(self.log, "w") as errors, open(address, "w") as output:
            self.process = common.start([program], stdout=output, stderr=errors, cwd=work)
        deadline = time.monotonic() + 10
        while not address.read_text().endswith("\n"):
            if common.wait_exit(self.process, 0.02) or time.monotonic() > deadline:
                common.fail(f"the sink did not start:\n{common.tail(self.log)}")
        self.url = address.read_text().strip()

    def stats(self):
        return self.get("/stats")


class Caller:
    """HTTP/1.1 over one socket, and no more of an answer is read than is needed: the reader must not be what is measured."""

    LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)

    def __init__(self, server):
        self.socket = socket.create_connection(("127.0.0.1", server.api_port), timeout=90)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.token = server.token.encode()

    def ask(self, method, path, body=b""):
        """The answer's body; ends the run for any status but 200."""
        head = b"%s %s HTTP/1.1\r\nHost: sluice\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        self.socket.sendall(head % (method, path, self.token, len(body)) + body)
        got = bytearray()
        while (end := got.find(b"\r\n\r\n")) < 0:
            got += self.receive(1 << 16)
        length = int(self.LENGTH.search(got, 0, end + 2)[1])
        answer = memoryview(bytearray(length))
        filled = len(got) - end - 4
        answer[:filled] = got[end + 4 :]
        while filled < length:
            count = self.socket.recv_into(answer[filled:])
            if count == 0:
                common.fail(f"{path} broke off")
            filled += count
        if not got.startswith(b"HTTP/1.1 200"):
            common.fail(f"{path.decode()} answered {bytes(got[:12]).decode()}: {bytes(answer[:500]).decode(errors='replace')}")
        return answer.obj

    def receive(self, size):
        part = self.socket.recv(size)
        return part or common.fail("the server closed the connection")

    def close(self):
        self.socket.close()


def push(name, url, *extra):
    return "  " + f"{name}: " + "{ " + ", ".join(["kind: push", f'url: "{url}"', f"secret: {PUSH_SECRET}", "allow_private: true", *extra]) + " }"


def text(connections, triggers, destinations):
    return sluice.manifest(connections, triggers) + "\n".join(["destinations:", *destinations]) + "\n"


def measure(arguments, work, bars):
    figures = {}
    sink = Sink(work)
    figures["pushes"] = pushes(arguments, work, sink, bars)
    figures["pull"] = pull(arguments, work, bars)
    figures["latency"] = latency(arguments, work, bars)
    figures["beside_dead"] = beside_dead(arguments, work, sink, bars)
    sink.stop()
    return figures


# --- Pushes -------------------------------------------------------------------------------------------------


def pushed_per_second(server, sink, count):
    """Waits until the sink has had all of them; pushes a second from the first to the last."""
    server.wait(f"{count} pushes have arrived", SECONDS_MAX, lambda: sink.stats()["requests"] >= count, every=0.2)
    stats = sink.stats()
    return (stats["requests"] - 1) / ((stats["last_ns"] - stats["first_ns"]) / 1e9), stats["requests"]


def pushes(arguments, work, sink, bars):
    count = min(arguments.records, PUSHES_MAX)
    api = provider.MockAPI(work, count)
    rates, more, cpu = [], 0, []
    for number in range(min(arguments.rounds, 3)):
        sink.get("/reset")
        manifest = text(
            [sluice.connection("shop", api.url)], [sluice.trigger("orders", "shop", "a", "destinations: [sink]")], [push("sink", sink.url + "/x")])
        server = sluice.Sluice(work / f"push-{number}", manifest)
        rate, requests = pushed_per_second(server, sink, count)
        cpu.append(server.cpu_seconds() / count * 1e6)
        more += requests - count
        rates.append(rate)
        common.note(f"round {number + 1}: {rate:,.0f} pushes/s, {cpu[-1]:.0f} µs of CPU each")
        server.stop()
    api.stop()
    spread = common.spread(rates)
    common.table(["pushes", "pushes/s (median)", "min..max", "µs of CPU a push", "doubled"], [[
        count, f"{spread['median']:,.0f}", f"{spread['min']:,.0f}..{spread['max']:,.0f}", f"{common.spread(cpu)['median']:.0f}", more]])
    bars.add("pushes/s to a destination that does nothing", spread["median"], 5000)
    return {"count": count, "per_s": rates, "cpu_us": cpu, "doubled": more}


# --- Pull ---------------------------------------------------------------------------------------------------


def pull(arguments, work, bars):
    count = arguments.records
    api = provider.MockAPI(work, count)
    manifest = text(
        [sluice.connection("shop", api.url)],
        [sluice.trigger("orders", "shop", "a", "destinations: [" + ", ".join(f"c{n}" for n in range(arguments.rounds)) + "]")],
        [f"  c{n}: {{ kind: pull }}" for n in range(arguments.rounds)])
    server = sluice.Sluice(work / "pull", manifest)
    server.wait(f"{count} jobs are committed", SECONDS_MAX, lambda: server.trigger("orders")["jobs"] >= count)
    api.stop()
    ways = {"fetch and ack": lambda number: fetch_all(server, f"c{number}", count), "/v1/jobs": lambda number: read_all(server, count)}
    rates, cpu = {name: [] for name in ways}, {name: [] for name in ways}
    for number in range(arguments.rounds):
        for name in common.interleave(list(ways), number):
            server.settle(30)
            before, begun = server.cpu_seconds(), time.monotonic()
            ways[name](number)
            rates[name].append(count / (time.monotonic() - begun))
            cpu[name].append((server.cpu_seconds() - before) / count * 1e6)
    rows = []
    for name, list_ in rates.items():
        spread = common.spread(list_)
        rows.append([name, count, f"{spread['median']:,.0f}", f"{spread['min']:,.0f}..{spread['max']:,.0f}", f"{common.spread(cpu[name])['median']:.1f}"])
    common.table(["one reader, 1,000 jobs a page", "jobs", "jobs/s (median)", "min..max", "µs of CPU a job"], rows)
    for name, list_ in rates.items():
        bars.add(f"jobs/s by {name}", common.spread(list_)["median"], 50_000)
    server.stop()
    return {"count": count, "per_s": rates, "cpu_us": cpu}


LEASE = re.compile(rb'\{"lease":(?:"([^"]+)"|null)')


def fetch_all(server, consumer, count):
    """A worker that does nothing with the jobs: it acks each batch as it fetches the next one."""
    caller, lease, jobs, path = Caller(server), None, 0, f"/v1/consumers/{consumer}/fetch".encode()
    while True:
        ack = b"" if lease is None else b',"ack":"%s"' % lease
        page = caller.ask(b"POST", path, b'{"max":1000%s}' % ack)
        lease = (LEASE.match(page) or common.fail(f"a fetch answered {bytes(page[:200])}"))[1]
        if lease is None:
            break
        jobs += page.count(b'{"id":"job_')
    caller.close()
    if jobs != count:
        common.fail(f"the consumer {consumer} got {jobs} of {count} jobs")


NEXT = re.compile(rb'"next":"([^"]*)","more":(true|false)\}\s*$')


def read_all(server, count):
    caller, after, jobs, more = Caller(server), b"", 0, True
    while more:
        page = caller.ask(b"GET", b"/v1/jobs?limit=1000&after=" + after)
        found = NEXT.search(page, max(0, len(page) - 1024)) or common.fail("a page of jobs has no `next`")
        after, more = quote(found[1]).encode(), found[2] == b"true"
        jobs += page.count(b'{"id":"job_')
    caller.close()
    if jobs != count:
        common.fail(f"/v1/jobs gave {jobs} of {count} jobs")


# --- Latency ------------------------------------------------------------------------------------------------


class Waiting(threading.Thread):
    """A worker of a consumer that waits for jobs, and acks each batch with the next fetch."""

    def __init__(self, server, consumer):
        super().__init__(daemon=True)
        self.caller, self.path = Caller(server), f"/v1/consumers/{consumer}/fetch".encode()
        self.arrived, self.condition, self.over = {}, threading.Condition(), False

    def run(self):
        lease = None
        while not self.over:
            ack = b"" if lease is None else b',"ack":"%s"' % lease
            page = self.caller.ask(b"POST", self.path, b'{"max":100,"wait":5%s}' % ack)
            at, answer = time.monotonic_ns(), json.loads(page)
            lease = answer["lease"].encode() if answer["lease"] else None
            with self.condition:
                for job in answer["jobs"]:
                    self.arrived[job["record"]["topic"], job["record"]["id"]] = at
                self.condition.notify_all()

    def wait(self, key, seconds=30):
        with self.condition:
            if not self.condition.wait_for(lambda: key in self.arrived, seconds):
                common.fail(f"item {key} did not reach the consumer within {seconds} s")
            return self.arrived[key]


def latency(arguments, work, bars):
    """News at a provider that holds Sluice's request, until it is in the hands of a consumer that waits for it."""
    hold, busy_api, sink = provider.Hold(work), provider.MockAPI(work, arguments.records), Sink(common.fresh(work / "busy-sink"))
    manifest = text(
        [sluice.connection("news", hold.url), sluice.connection("bulk", busy_api.url, "polls_at_once: 1")],
        ["  held: { connection: news, type: held, input: { topic: t }, destinations: [worker] }"],
        ["  worker: { kind: pull }", push("sink", sink.url + "/x")])
    server = sluice.Sluice(work / "latency", manifest)
    server.wait("the provider holds a request", 60, lambda: hold.stats()["held"] >= 1)
    worker = Waiting(server, "worker")
    worker.start()
    number, result = 0, {}
    for kind in ("idle", "busy"):
        if kind == "busy":
            # Three reads of everything, one after the other, each pushed as well: polls, commits and pushes go on all the while.
            names = [f"r{index}" for index in range(3)]
            server.apply("triggers:\n" + "\n".join(sluice.trigger(name, "bulk", name, "destinations: [sink]") for name in names) + "\n")
            server.wait("the readers commit", 30, lambda: server.trigger(names[0])["jobs"] > 0, every=0.02)
        waits = []
        for _ in range(NEWS):
            number += 1
            at = hold.news("t")
            waits.append((worker.wait(("t", number)) - at) / 1e6)
            time.sleep(0.02)
        result[kind] = sorted(waits)
        if kind == "busy" and sink.stats()["requests"] >= len(names) * arguments.records:
            common.fail("the busy server was idle before the news was over: more --records")
    rows = [[kind, NEWS, *(f"{sluice.percentile(waits, share):.2f}" for share in (0.5, 0.9, 0.99)), f"{waits[-1]:.1f}"] for kind, waits in result.items()]
    common.table(["from the change to the consumer", "changes", "p50 ms", "p90 ms", "p99 ms", "max ms"], rows)
    worker.over = True
    server.stop()
    for each in (hold, busy_api, sink):
        each.stop()
    return result


# --- A dead destination beside a healthy one ----------------------------------------------------------------


def beside_dead(arguments, work, sink, bars):
    count = min(arguments.records, BESIDE_DEAD)
    api = provider.MockAPI(work, count)
    rates = {"alone": [], "beside a dead one": []}
    for number in range(arguments.rounds):
        for kind in common.interleave(list(rates), number):
            sink.get("/reset")
            names = ["sink"] if kind == "alone" else ["sink", "dead"]
            manifest = text(
                [sluice.connection("shop", api.url)], [sluice.trigger("orders", "shop", "a", f"destinations: [{', '.join(names)}]")],
                [push(name, sink.url + ("/x" if name == "sink" else "/dead")) for name in names])
            server = sluice.Sluice(work / f"beside-{number}-{len(names)}", manifest)
            rates[kind].append(pushed_per_second(server, sink, count)[0])
            if kind != "alone" and sink.stats()["dead"] == 0:
                common.fail("the dead destination was never tried")
            server.stop()
        common.note(f"round {number + 1}: " + ", ".join(f"{kind} {list_[-1]:,.0f}/s" for kind, list_ in rates.items()))
    api.stop()
    ratio = common.ratios(rates["beside a dead one"], rates["alone"])
    common.table(["a healthy destination", "pushes/s (median)", "min..max"], [
        [kind, f"{common.spread(list_)['median']:,.0f}", f"{min(list_):,.0f}..{max(list_):,.0f}"] for kind, list_ in rates.items()])
    print(f"ratio {common.show_ratio(ratio)}\n")
    bars.add("pushes/s beside a destination that never answers / alone", ratio["median"], 0.95)
    return {"count": count, "per_s": rates, "ratio": ratio}
