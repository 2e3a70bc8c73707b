#!/usr/bin/env python3
"""So many clients that wait for jobs: wait.py PORT poll|fetch|stream COUNT, the token in SLUICE_TOKEN.

Prints one line of JSON once all wait, and one for each line read; ends with its input. `waiting`: clients whose request is not answered
yet, or whose stream is open; `renewed`: answers that were empty; `jobs`: answers or events with jobs; `errors`: anything else.
"""

import asyncio
import json
import os
import resource
import sys

PORT, KIND, COUNT = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
HEAD = f"Host: 127.0.0.1\r\nAuthorization: Bearer {os.environ['SLUICE_TOKEN']}\r\n"
FETCH = json.dumps({"wait": 60, "max": 10, "visibility": 600})
REQUESTS = {
    "poll": f"GET /v1/jobs?wait=60&after=%s HTTP/1.1\r\n{HEAD}\r\n",
    "fetch": f"POST /v1/consumers/queue/fetch HTTP/1.1\r\n{HEAD}Content-Type: application/json\r\nContent-Length: {len(FETCH)}\r\n\r\n{FETCH}",
    "stream": f"GET /v1/jobs/stream?after=now HTTP/1.1\r\n{HEAD}\r\n",
}
counts = {"waiting": 0, "renewed": 0, "jobs": 0, "errors": 0}


async def answer(reader):
    """The status and the body of one answer with a length."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    return head.split(b" ", 2)[1], await reader.readexactly(length)


async def client(gate):
    async with gate:
        reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
    after = ""
    while True:
        writer.write((REQUESTS[KIND] % after if KIND == "poll" else REQUESTS[KIND]).encode())
        counts["waiting"] += 1
        if KIND == "stream":
            try:
                while line := await reader.readline():
                    if line.startswith(b"event: job"):
                        counts["jobs"] += 1
            finally:
                counts["waiting"] -= 1
            raise ConnectionError("the stream ended")
        try:
            status, body = await answer(reader)
        finally:
            counts["waiting"] -= 1
        if status != b"200":
            raise ConnectionError(f"{status} {body[:200]}")
        page = json.loads(body)
        counts["jobs" if page["jobs"] else "renewed"] += 1
        after = page.get("next") or after


async def guarded(gate):
    try:
        await client(gate)
    except (OSError, asyncio.IncompleteReadError, ValueError) as error:
        counts["errors"] += 1
        if counts["errors"] < 10:
            print(error, file=sys.stderr, flush=True)


async def main():
    gate = asyncio.Semaphore(200)
    tasks = [asyncio.create_task(guarded(gate)) for _ in range(COUNT)]
    while counts["waiting"] + counts["errors"] < COUNT:
        await asyncio.sleep(0.1)
    # Until the requests that were just written are taken.
    await asyncio.sleep(2)
    print(json.dumps(counts), flush=True)
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps(counts), flush=True)
    for task in tasks:
        task.cancel()


hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
asyncio.run(main())
