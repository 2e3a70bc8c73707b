"""A receiver that shares no code with Sluice: it checks every POST with the PyPI library `standardwebhooks`.

Each request appends one line of JSON to the file given by --out:
    {"ok": true, "status": 200, "id": "job_…", "attempt": 1, "body_sha256": "…", "body": "…", "error": null, "at_ms": …}
`id` is the header webhook-id, `attempt` counts the requests with that id, `body` is the body's text. `ok` says whether
the signature held; a request that is refused on purpose (--fail-first) is checked and recorded all the same.

    python verify_push.py --secret whsec_… --out pushes.jsonl [--port 0] [--port-file F] [--fail-first N] [--fail-each N]
"""

import argparse
import collections
import hashlib
import http.server
import json
import os
import threading
import time

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

BODY_BYTES_MAX = 16 << 20


class Receiver:
    """What all requests share: the checks, the counts and the file."""

    def __init__(self, secret, out, fail_first, fail_each):
        self.webhook = Webhook(secret)
        self.out = open(out, "a", encoding="utf-8", buffering=1)
        self.lock = threading.Lock()
        self.fail_first = fail_first
        self.fail_each = fail_each
        self.requests = 0
        self.attempts = collections.Counter()

    def take(self, headers, body):
        """Checks and records one request; answers its status."""
        error = None
        try:
            self.webhook.verify(body, headers)
        except WebhookVerificationError as failure:
            error = str(failure) or type(failure).__name__
        except Exception as failure:  # the library also raises KeyError and ValueError on malformed input
            error = type(failure).__name__ + ": " + str(failure)
        identity = headers.get("webhook-id")
        with self.lock:
            self.requests += 1
            self.attempts[identity] += 1
            attempt = self.attempts[identity]
            status = 200 if error is None else 401
            if self.requests <= self.fail_first or attempt <= self.fail_each:
                status = 500
            line = {
                "ok": error is None,
                "status": status,
                "id": identity,
                "attempt": attempt,
                "body_sha256": hashlib.sha256(body).hexdigest(),
                "body": body.decode("utf-8", "backslashreplace"),
                "error": error,
                "at_ms": time.time_ns() // 1_000_000,
            }
            self.out.write(json.dumps(line, ensure_ascii=False) + "\n")
        return status


def handler(receiver):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def do_POST(self):
            length = int(self.headers.get("Content-Length") or -1)
            if not 0 <= length <= BODY_BYTES_MAX:
                self.answer(411 if length < 0 else 413)
                self.close_connection = True
                return
            body = self.rfile.read(length)
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.answer(receiver.take(headers, body))

        def answer(self, status):
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments):
            pass

    return Handler


def main():
    parser = argparse.ArgumentParser(description="Checks pushes with the library standardwebhooks.")
    parser.add_argument("--secret", default=os.environ.get("PUSH_SECRET"), help="whsec_…; or the variable PUSH_SECRET")
    parser.add_argument("--out", required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--port-file", help="the port is written here once it listens")
    parser.add_argument("--fail-first", type=int, default=0, help="answer the first N requests with 500")
    parser.add_argument("--fail-each", type=int, default=0, help="answer the first N attempts of every id with 500")
    arguments = parser.parse_args()
    if not arguments.secret:
        parser.error("give --secret or set PUSH_SECRET")
    receiver = Receiver(arguments.secret, arguments.out, arguments.fail_first, arguments.fail_each)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", arguments.port), handler(receiver))
    port = server.server_address[1]
    if arguments.port_file:
        with open(arguments.port_file + ".new", "w", encoding="utf-8") as file:
            file.write(str(port))
        os.rename(arguments.port_file + ".new", arguments.port_file)
    print(f"listening on 127.0.0.1:{port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
