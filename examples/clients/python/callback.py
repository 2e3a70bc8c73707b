#!/usr/bin/env python3
"""Starts an operation at a provider and waits for its result: the URL goes to the provider, the result comes here.

    SLUICE_URL=http://localhost:8081 SLUICE_TOKEN=… python3 callback.py CONNECTION '{"payment": "pay_1"}'
"""

import json
import os
import sys
import urllib.request

SLUICE = os.environ.get("SLUICE_URL", "http://localhost:8081")
TOKEN = os.environ["SLUICE_TOKEN"]


def ask(method, path, body=None):
    request = urllib.request.Request(
        SLUICE + path, None if body is None else json.dumps(body).encode(), method=method,
        headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=90) as answer:
        return json.load(answer)


connection, operation = sys.argv[1], json.loads(sys.argv[2])
callback = ask("POST", "/v1/callbacks", {"connection": connection, "input": operation, "expires_in": "1h"})
print(f"give this URL to the provider: {callback['url']}", flush=True)
while callback["state"] == "pending":
    # Keep the id: whoever knows it can go on waiting after a restart.
    callback = ask("GET", f"/v1/callbacks/{callback['id']}?wait=60")
print(callback["id"], callback["state"], json.dumps(callback["result"], ensure_ascii=False), flush=True)
