#!/usr/bin/env python3
"""A payment service to try Sluice's callbacks against. It behaves as badly as real ones do.

    psp.py PORT            with PSP_KEY (for its API) and PSP_SECRET (for its signatures) in the environment

    PUT  /payments/ORDER   {"amount": "10.00", "callback_url": "..."}   makes a payment; the same again is the same payment
    GET  /payments/ORDER   how it stands: pending, paid or declined
    GET  /truth            all payments, and how often their callbacks were called

What an order's number leaves over when it is divided by eight says what goes wrong with it:
"""
import base64, hashlib, hmac, http.client, http.server, json, os, random, sys, threading, time, urllib.error, urllib.request

MISCHIEF = [
    "calls once",
    "never calls",
    "calls twice",
    "calls late",
    "somebody forges a call without a signature",
    "somebody forges a call with a wrong signature",
    "is declined",
    "calls too early, and not again",
]
KEY = os.environ.get("PSP_KEY", "psp-key")
SECRET = os.environ.get("PSP_SECRET", "whsec_cGF5bWVudC1leGFtcGxlLXNlY3JldC0wMDE=")

payments = {}
lock = threading.Lock()


def view(payment):
    """A payment as the API and the callbacks show it: the amount to more digits than a float has."""
    with lock:
        status = payment["status"] if time.time() >= payment["ends_at"] else "pending"
    return '{"order": "%s", "amount": %s, "status": "%s"}' % (payment["order"], payment["amount"], status)


def sign(body, secret=SECRET):
    """Headers as in Standard Webhooks."""
    message, now = "msg_%016x" % random.getrandbits(64), str(int(time.time()))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    code = hmac.new(key, f"{message}.{now}.".encode() + body, hashlib.sha256).digest()
    return {"webhook-id": message, "webhook-timestamp": now, "webhook-signature": "v1," + base64.b64encode(code).decode()}


def call(payment, body=None, headers=None, tries=30):
    """Calls the callback until it is answered 2xx or 4xx, as a patient provider does."""
    genuine = body is None
    for _ in range(tries):
        content = (view(payment) if genuine else body).encode()
        request = urllib.request.Request(payment["callback_url"], data=content, method="POST")
        for name, value in (sign(content) if headers is None else headers).items():
            request.add_header(name, value)
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                status = answer.status
        except urllib.error.HTTPError as error:
            status = error.code
        except (OSError, http.client.HTTPException):
            status = 503  # nobody there: it was stopped, or killed
        if status < 500 and status != 429:
            with lock:
                payment["calls" if genuine else "forged"].append(status)
            return
        time.sleep(0.5)


def live(payment):
    """What becomes of a payment, in a thread of its own."""
    mischief = int(payment["order"]) % len(MISCHIEF)
    if mischief in (4, 5):
        lie = '{"order": "%s", "amount": 0.01, "status": "paid"}' % payment["order"]
        wrong = sign(lie.encode(), "whsec_" + base64.b64encode(b"a guess at the secret").decode())
        call(payment, lie, {} if mischief == 4 else wrong)
    if mischief == 7:
        return call(payment)
    time.sleep(max(0, payment["ends_at"] - time.time()))
    if mischief == 1:
        return
    if mischief == 3:
        time.sleep(6)
    for _ in range(2 if mischief == 2 else 1):
        call(payment)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, text):
        content = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def order(self):
        if self.headers.get("Authorization") != "Bearer " + KEY:
            self.answer(401, '{"error": "who are you?"}')
            return None
        return self.path.removeprefix("/payments/")

    def do_GET(self):
        if self.path == "/truth":
            with lock:
                all = [dict(payment) for payment in payments.values()]
            return self.answer(200, json.dumps(all))
        order = self.order()
        if order is None:
            return
        with lock:
            payment = payments.get(order)
            if payment:
                payment["asked"] += 1
        self.answer(200, view(payment)) if payment else self.answer(404, '{"error": "no such payment"}')

    def do_PUT(self):
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        order = self.order()
        if order is None:
            return
        with lock:
            payment = payments.get(order)
            if payment is None:
                payment = payments[order] = {
                    "order": order, "amount": body["amount"], "callback_url": body["callback_url"], "asked": 0, "calls": [],
                    "forged": [], "status": "declined" if int(order) % len(MISCHIEF) == 6 else "paid",
                    "ends_at": time.time() + random.uniform(0.5, 5),
                }
                threading.Thread(target=live, args=(payment,), daemon=True).start()
        self.answer(200, view(payment))

    def log_message(self, format, *arguments):
        pass


if __name__ == "__main__":
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    print("the payment service listens on port", server.server_port, flush=True)
    server.serve_forever()
