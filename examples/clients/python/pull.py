#!/usr/bin/env python3
"""Reads jobs in order, waits for the next one, and goes on after a restart where it stopped.

    SLUICE_URL=http://localhost:8081 SLUICE_TOKEN=… python3 pull.py [TRIGGER]

The place in the order of jobs is kept in `after.txt`: written after the jobs before it are handled, so none is lost. What was handled
just before a crash comes again with the same id.
"""

import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

SLUICE = os.environ.get("SLUICE_URL", "http://localhost:8081")
TOKEN = os.environ["SLUICE_TOKEN"]
PLACE = Path("after.txt")


def read(after, trigger):
    query = {"after": after, "wait": 30, "limit": 500} | ({"trigger": trigger} if trigger else {})
    request = urllib.request.Request(
        f"{SLUICE}/v1/jobs?{urllib.parse.urlencode(query)}", headers={"Authorization": f"Bearer {TOKEN}"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def keep(after):
    """All or nothing: a half-written place would be no place."""
    new = PLACE.with_suffix(".new")
    with open(new, "w") as file:
        file.write(after)
        file.flush()
        os.fsync(file.fileno())
    new.rename(PLACE)


def handle(job):
    print(job["id"], json.dumps(job["record"], ensure_ascii=False), flush=True)


trigger = sys.argv[1] if len(sys.argv) > 1 else None
after = PLACE.read_text() if PLACE.exists() else ""
while True:
    try:
        page = read(after, trigger)
    except urllib.error.HTTPError as error:
        message = error.read().decode()
        if error.code < 500 and error.code != 429:
            sys.exit(message)  # 401: the token; 404: the trigger; 410: this place is older than what is kept
        print(message, file=sys.stderr)
        time.sleep(5)
        continue
    except OSError as error:
        print(f"{SLUICE}: {error}", file=sys.stderr)
        time.sleep(1)
        continue
    for job in page["jobs"]:
        handle(job)
    if page["next"] != after:
        after = page["next"]
        keep(after)
