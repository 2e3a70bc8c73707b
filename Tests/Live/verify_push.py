"""A receiver that shares no code with Sluice: it checks every POST with the PyPI libraries `standardwebhooks` and `svix`, and
signatures by ed25519 with `pynacl`.

Each request appends one line of JSON to the file given by --out:
    {"ok": true, "status": 200, "id": "job_…", "attempt": 1, "body_sha256": "…", "body": "…", "error": null, "at_ms": …}
`id` is the header webhook-id, `attempt` counts the requests with that id, `body` is the body's text. `ok` says whether
the signature held; a request that is refused on purpose (--fail-first) is checked and recorded all the same.
With --secrets-file, each line of that file is `NAME SECRET` (whsec_… or whpk_…), read anew for each request; `checks` then says for
each name and library whether it verified: {"old/standardwebhooks": true, "old/svix": true, "new/ed25519": false}.

    python verify_push.py --secret whsec_… --out pushes.jsonl [--port 0] [--port-file F] [--fail-first N] [--fail-each N]
"""

import argparse
import base64
import collections
import hashlib
import http.server
import json
import os
import threading
import time

import svix.webhooks
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

BODY_BYTES_MAX = 16 << 20


def holds_ed25519(public_key, body, headers):
    """Whether one of the v1a signatures is good (Standard Webhooks, "Signature scheme")."""
    key = VerifyKey(base64.b64decode(public_key.removeprefix("whpk_"), validate=True))
    content = b".".join([headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body])
    for part in headers["webhook-signature"].split(" "):
        version, _, signature = part.partition(",")
        if version != "v1a":
            continue
        try:
            key.verify(content, base64.b64decode(signature, validate=True))
            return True
        except (BadSignatureError, ValueError):
            pass
    return False


def holds(library, secret, body, headers):
    """Whether a library finds a signature by this secret."""
    try:
        library(secret).verify(body, headers)
        return True
    except (WebhookVerificationError, svix.webhooks.WebhookVerificationError):
        return False


class Receiver:
    """What all requests share: the checks, the counts and the file."""

    def __init__(self, secret, secrets_file, out, fail_first, fail_each):
        self.webhook = Webhook(secret) if secret else None
        self.secrets_file = secrets_file
        self.out = open(out, "a", encoding="utf-8", buffering=1)
        self.lock = threading.Lock()
        self.fail_first = fail_first
        self.fail_each = fail_each
        self.requests = 0
        self.attempts = collections.Counter()

    def take(self, headers, body):
        """Checks and records one request; answers its status."""
        error = None
        checks = {}
        try:
            checks = self.check(headers, body)
            if self.webhook:
                self.webhook.verify(body, headers)
            elif not any(checks.values()):
                error = "no secret of the file verifies it"
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
                "checks": checks,
                "signature": headers.get("webhook-signature"),
                "at_ms": time.time_ns() // 1_000_000,
            }
            self.out.write(json.dumps(line, ensure_ascii=False) + "\n")
        return status


    def check(self, headers, body):
        """What each secret of the file and each library say."""
        checks = {}
        if self.secrets_file:
            with open(self.secrets_file, encoding="utf-8") as file:
                pairs = [line.split() for line in file if line.strip()]
            for name, secret in pairs:
                if secret.startswith("whpk_"):
                    checks[name + "/ed25519"] = holds_ed25519(secret, body, headers)
                else:
                    checks[name + "/standardwebhooks"] = holds(Webhook, secret, body, headers)
                    checks[name + "/svix"] = holds(svix.webhooks.Webhook, secret, body, headers)
        return checks


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
            if len(body) < length:  # its sender was killed in the middle of it: that is no push
                self.close_connection = True
                return
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
    parser.add_argument("--secrets-file", help="lines of NAME SECRET, instead of one secret")
    parser.add_argument("--out", required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--port-file", help="the port is written here once it listens")
    parser.add_argument("--fail-first", type=int, default=0, help="answer the first N requests with 500")
    parser.add_argument("--fail-each", type=int, default=0, help="answer the first N attempts of every id with 500")
    arguments = parser.parse_args()
    if not arguments.secret and not arguments.secrets_file:
        parser.error("give --secret or set PUSH_SECRET, or give --secrets-file")
    receiver = Receiver(arguments.secret, arguments.secrets_file, arguments.out, arguments.fail_first, arguments.fail_each)
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
