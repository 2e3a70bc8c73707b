#!/usr/bin/env python3
"""Follows jobs as Server-Sent Events, and resumes where it was whenever the connection breaks.

    SLUICE_URL=http://localhost:8081 SLUICE_TOKEN=… python3 stream.py [TRIGGER]
"""

import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

SLUICE = os.environ.get("SLUICE_URL", "http://localhost:8081")
TOKEN = os.environ["SLUICE_TOKEN"]


def events(last, trigger):
    """(id, type, data) of each event after `last`. Comments come every 15 s: silence for longer means a connection that is gone."""
    query = "?" + urllib.parse.urlencode({"trigger": trigger}) if trigger else ""
    headers = {"Authorization": f"Bearer {TOKEN}", "Accept": "text/event-stream"} | ({"Last-Event-ID": last} if last else {})
    with urllib.request.urlopen(urllib.request.Request(f"{SLUICE}/v1/jobs/stream{query}", headers=headers), timeout=45) as stream:
        event = {"data": []}
        for line in stream:
            name, _, value = line.decode().rstrip("\n").partition(":")
            value = value.removeprefix(" ")
            if name == "data":
                event["data"].append(value)
            elif name:
                event[name] = value
            elif event["data"]:
                yield event.get("id", last), event.get("event", "message"), "\n".join(event["data"])
                event = {"data": []}
            # A line that begins with a colon has no name: a comment. An empty line ends the event.


trigger = sys.argv[1] if len(sys.argv) > 1 else None
last = None
while True:
    try:
        for last, kind, data in events(last, trigger):
            if kind == "error":
                sys.exit(data)  # this place is older than what is kept
            job = json.loads(data)
            print(job["id"], json.dumps(job["record"], ensure_ascii=False), flush=True)
    except urllib.error.HTTPError as error:
        message = error.read().decode()
        if error.code in (400, 401, 404, 410):
            sys.exit(message)
        print(message, file=sys.stderr)
    except OSError as error:
        print(f"{SLUICE}: {error}", file=sys.stderr)
    time.sleep(1)
