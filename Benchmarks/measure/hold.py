#!/usr/bin/env python3
"""A provider that holds requests: GET /items?topic=T&after=N&wait=S answers once T has an item after N, or with none after S seconds.

GET /news?topic=T -> adds an item, {"at": nanoseconds of CLOCK_MONOTONIC};  GET /stats -> {"held": N, "requests": N, "held_max": N}.
The first line printed is the base URL.
"""

import asyncio
import json
import re
import resource
import time

try:
    import uvloop
except ImportError:
    uvloop = None

PARAMETER = re.compile(rb"[?&](topic|after|wait)=([^& ]*)")


class Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, for GET requests without a body, one at a time."""

    newest, waiting = {}, {}
    requests = held = held_max = 0

    def __init__(self):
        self.buffer, self.topic, self.timer = b"", None, None

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, error):
        self.release()

    def data_received(self, data):
        self.buffer += data
        while b"\r\n\r\n" in self.buffer:
            request, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
            self.answer(request.split(b"\r\n", 1)[0])

    def answer(self, line):
        if line.startswith(b"GET /stats"):
            return self.write({"held": Connection.held, "requests": Connection.requests, "held_max": Connection.held_max})
        found = {name.decode(): value.decode() for name, value in PARAMETER.findall(line)}
        topic = found.get("topic", "")
        if line.startswith(b"GET /news"):
            Connection.newest[topic] = Connection.newest.get(topic, 0) + 1
            at = time.monotonic_ns()
            for waiting in list(Connection.waiting.get(topic, ())):
                waiting.release()
                waiting.items(topic, Connection.newest[topic] - 1)
            return self.write({"at": at})
        Connection.requests += 1
        after, wait = int(found.get("after") or 0), float(found.get("wait") or 0)
        if wait == 0 or Connection.newest.get(topic, 0) > after:
            return self.items(topic, after)
        self.topic = topic
        Connection.waiting.setdefault(topic, set()).add(self)
        Connection.held += 1
        Connection.held_max = max(Connection.held_max, Connection.held)
        self.timer = asyncio.get_running_loop().call_later(wait, self.expire, topic, after)

    def expire(self, topic, after):
        self.release()
        self.items(topic, after)

    def release(self):
        if self.topic is None:
            return
        Connection.waiting[self.topic].discard(self)
        Connection.held -= 1
        self.timer.cancel()
        self.topic = self.timer = None

    def items(self, topic, after):
        self.write({"data": [{"id": number, "topic": topic} for number in range(after + 1, Connection.newest.get(topic, 0) + 1)]})

    def write(self, value):
        body = json.dumps(value).encode()
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


async def serve():
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", 0, backlog=4096)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
try:
    (uvloop.run if uvloop else asyncio.run)(serve())
except KeyboardInterrupt:
    pass
