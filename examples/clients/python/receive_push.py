#!/usr/bin/env python3
"""Receives pushes and verifies each as Standard Webhooks has it (standardwebhooks.com), with nothing but the standard library.

    PUSH_SECRET=whsec_… python3 receive_push.py [PORT]

Several secrets, separated by spaces, hold during a rotation. Answer 2xx once the job is safe with you: Sluice then never sends it
again. A job may come twice with the same id, after a crash between the two.
"""

import base64
import hashlib
import hmac
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRETS = [base64.b64decode(secret.removeprefix("whsec_")) for secret in os.environ["PUSH_SECRET"].split()]
SKEW_SECONDS = 300
BODY_BYTES_MAX = 64 << 20


def is_ours(headers, body):
    """Whether the signature is that of one of our secrets, and fresh."""
    identity, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not timestamp.isdigit() or abs(time.time() - int(timestamp)) > SKEW_SECONDS:
        return False
    signed = f"{identity}.{timestamp}.".encode() + body
    given = [part.removeprefix("v1,") for part in headers.get("webhook-signature", "").split() if part.startswith("v1,")]
    ours = [base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode() for secret in SECRETS]
    return any(hmac.compare_digest(one.encode(), other.encode()) for one in given for other in ours)


def handle(job):
    # In one piece: several pushes are handled at once.
    sys.stdout.write(f"{job['id']} {json.dumps(job['record'], ensure_ascii=False)}\n")
    sys.stdout.flush()


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        length = int(self.headers.get("Content-Length") or 0)
        if length > BODY_BYTES_MAX:
            return self.answer(413)
        body = self.rfile.read(length)
        if not is_ours(self.headers, body):
            return self.answer(401)
        handle(json.loads(body)["data"])
        self.answer(204)

    def answer(self, status):
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments):
        pass


port = int(sys.argv[1]) if len(sys.argv) > 1 else 9000
with ThreadingHTTPServer(("127.0.0.1", port), Receiver) as server:
    print(f"listening on 127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()
