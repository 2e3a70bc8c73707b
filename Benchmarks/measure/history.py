#!/usr/bin/env python3
"""A provider with a past: GET /items?topic=T&updated_since=S&cursor=C&limit=L lists the records of T in ascending order.

The topic `past` has --records records, ten a second, up to ten minutes before the start. GET /news?topic=T makes a record of T now
and answers with the moment by CLOCK_MONOTONIC. GET /stats -> {"requests": N, "from": S, "to": S}. The first line is the base URL.
"""

import argparse
import asyncio
import json
import time
from bisect import bisect_left
from urllib.parse import parse_qs, urlsplit

from stub import Connection, uvloop

arguments = argparse.ArgumentParser()
arguments.add_argument("--records", type=int, default=100_000)
RECORDS = arguments.parse_args().records
END = int(time.time()) - 600
TIMES = {"past": [END - (RECORDS - number) // 10 for number in range(RECORDS)]}


class History(Connection):
    def answer(self, line, now):
        target = urlsplit(line.split(b" ")[1].decode())
        query = {name: values[-1] for name, values in parse_qs(target.query).items()}
        if target.path == "/stats":
            return json.dumps({"requests": Connection.requests, "from": TIMES["past"][0], "to": END + 1}).encode()
        times = TIMES.setdefault(query["topic"], [])
        if target.path == "/news":
            times.append(int(time.time()))
            return json.dumps({"at": time.monotonic_ns()}).encode()
        Connection.requests += 1
        start = int(query["cursor"]) if "cursor" in query else bisect_left(times, int(float(query.get("updated_since", 0))))
        end = min(start + int(query.get("limit", 100)), len(times))
        data = ",".join(
            f'{{"id":"{query["topic"]}_{n}","updated_at":{times[n]},"amount":1.10,"note":"as it came, {n}"}}' for n in range(start, end))
        cursor = f'"{end}"' if end < len(times) else "null"
        return f'{{"data":[{data}],"next_cursor":{cursor}}}'.encode()


async def serve():
    server = await asyncio.get_running_loop().create_server(History, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


try:
    (uvloop.run if uvloop else asyncio.run)(serve())
except KeyboardInterrupt:
    pass
