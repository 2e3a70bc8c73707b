#!/usr/bin/env python3
"""A provider with nothing new: GET /items?topic=T answers an empty page at once and notes when T was asked for.

GET /stats -> {"requests": N};  GET /arrivals -> {"T": nanoseconds of CLOCK_MONOTONIC}, forgotten with the answer.
The first line printed is the base URL.
"""

import asyncio
import json
import re
import time
from email.utils import formatdate

try:
    import uvloop
except ImportError:
    uvloop = None

TOPIC = re.compile(rb"[?&]topic=([^& ]*)")
EMPTY = b'{"data":[],"has_more":false,"next_cursor":null}'


class Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, for GET requests without a body."""

    requests = 0
    arrivals = {}
    second, head = 0, b""

    def __init__(self):
        self.buffer = b""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        now = time.monotonic_ns()
        self.buffer += data
        while b"\r\n\r\n" in self.buffer:
            request, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
            body = self.answer(request.split(b"\r\n", 1)[0], now)
            self.transport.write(b"%sContent-Length: %d\r\n\r\n%s" % (self.start(), len(body), body))
        if len(self.buffer) > 65536:
            self.transport.close()

    def answer(self, line, now):
        if line.startswith(b"GET /stats"):
            return json.dumps({"requests": Connection.requests}).encode()
        if line.startswith(b"GET /arrivals"):
            arrivals, Connection.arrivals = Connection.arrivals, {}
            return json.dumps(arrivals).encode()
        Connection.requests += 1
        if topic := TOPIC.search(line):
            Connection.arrivals[topic[1].decode()] = now
        return EMPTY

    def start(self):
        """Status line and headers; the Date is made anew once a second."""
        second = int(time.time())
        if second != Connection.second:
            Connection.second = second
            date = formatdate(second, usegmt=True).encode()
            Connection.head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: %s\r\n" % date
        return Connection.head


async def serve():
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    try:
        (uvloop.run if uvloop else asyncio.run)(serve())
    except KeyboardInterrupt:
        pass
