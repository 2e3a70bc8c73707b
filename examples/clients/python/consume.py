#!/usr/bin/env python3
"""One worker of a consumer. Start as many as you like: they share the consumer's jobs, and what one leaves lying another gets.

    SLUICE_URL=http://localhost:8081 SLUICE_TOKEN=… python3 consume.py CONSUMER

A consumer is a destination in sluice.yaml: `workers: {kind: pull}`. Sluice keeps its place; nothing is kept here.
"""

import json
import os
import socket
import sys
import time
import urllib.error
import urllib.request

SLUICE = os.environ.get("SLUICE_URL", "http://localhost:8081")
TOKEN = os.environ["SLUICE_TOKEN"]
WORKER = f"{socket.gethostname()}-{os.getpid()}"


def ask(action, **order):
    request = urllib.request.Request(
        f"{SLUICE}/v1/consumers/{sys.argv[1]}/{action}", json.dumps(order).encode(), method="POST",
        headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def handle(job):
    """Whatever is to be done. An exception gives the job back, to be tried again later."""
    print(job["id"], f"attempt {job['attempt']}", flush=True)


def work():
    # The jobs are ours until `expires_at`: handle them within that time, or `extend` the lease.
    batch = ask("fetch", max=20, wait=30, visibility=30, worker=WORKER)
    for job in batch["jobs"]:
        try:
            handle(job)
        except Exception as error:
            ask("nack", lease=batch["lease"], jobs=[job["id"]], delay=10, reason=str(error)[:200])
        else:
            ask("ack", lease=batch["lease"], jobs=[job["id"]])


while True:
    try:
        work()
    except urllib.error.HTTPError as error:
        message = error.read().decode()
        if error.code in (401, 404):
            sys.exit(message)
        print(message, file=sys.stderr)  # 409: the lease ran out, and the jobs come again
        time.sleep(1)
    except OSError as error:
        print(f"{SLUICE}: {error}", file=sys.stderr)
        time.sleep(1)
