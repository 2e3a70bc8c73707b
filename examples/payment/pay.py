#!/usr/bin/env python3
"""Makes payments, waits for each with a callback of Sluice, and holds what came of them against the payment service's own books.

    pay.py --sluice http://127.0.0.1:8081 --token-file data/local.token --psp http://127.0.0.1:9100 --payments 40

Exit code 0: each payment ended exactly once, with the service's truth. 1: one did not.
"""
import argparse, concurrent.futures, decimal, http.client, json, os, sys, time, urllib.error, urllib.request

arguments = argparse.ArgumentParser()
arguments.add_argument("--sluice", required=True)
arguments.add_argument("--token-file", required=True)
arguments.add_argument("--psp", required=True)
arguments.add_argument("--payments", type=int, default=40)
arguments.add_argument("--seconds", type=int, default=120)
options = arguments.parse_args()
DEADLINE = time.monotonic() + options.seconds


def ask(method, url, token, body=None):
    """One request. Whoever is not there, or overloaded, is asked again: both sides may be restarted at any moment."""
    while True:
        request = urllib.request.Request(url, method=method, data=None if body is None else json.dumps(body).encode())
        request.add_header("Authorization", "Bearer " + token())
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=90) as answer:
                # Numbers stay as they are written: a float would round them.
                return json.loads(answer.read(), parse_float=decimal.Decimal)
        except urllib.error.HTTPError as error:
            # 401: a server that was started again has another token for this machine, and reads of it may be a moment late.
            if error.code not in (401, 429, 503):
                sys.exit(f"{method} {url}: {error.code} {error.read().decode()}")
        except (OSError, http.client.HTTPException):
            pass
        if time.monotonic() > DEADLINE:
            sys.exit(f"{method} {url}: no answer in time")
        time.sleep(0.3)


def sluice(method, path, body=None):
    return ask(method, options.sluice + path, lambda: open(options.token_file).read().strip(), body)


def psp(method, path, body=None):
    return ask(method, options.psp + path, lambda: os.environ.get("PSP_KEY", "psp-key"), body)


def pay(number):
    order = str(number)
    # The same key gives the same callback, however often this is asked.
    callback = sluice(
        "POST", "/v1/callbacks",
        {"connection": "psp", "input": {"order": order}, "expires_in": "10m", "idempotency_key": order})
    amount = "12345678901234567%d.10" % number
    psp("PUT", "/payments/" + order, {"amount": amount, "callback_url": callback["url"]})
    while callback["state"] == "pending":
        if time.monotonic() > DEADLINE:
            break
        callback = sluice("GET", f"/v1/callbacks/{callback['id']}?wait=20")
    return order, callback


with concurrent.futures.ThreadPoolExecutor(max_workers=32) as pool:
    ended = dict(pool.map(pay, range(options.payments)))

# Each callback that ended is one job as well: what a consumer would have got.
jobs, after = {}, ""
while True:
    page = sluice("GET", "/v1/jobs?limit=1000&trigger=callbacks:psp" + after)
    for job in page["jobs"]:
        jobs.setdefault(job["record"]["callback"], []).append(job["record"])
    if not page["more"]:
        break
    after = "&after=" + page["next"]

truth = {payment["order"]: payment for payment in psp("GET", "/truth")}
wrong = 0
print(f"{'order':>5}  {'truth':8}  {'callback':8}  {'by':7}  {'polls':>5}  {'calls':>5}  {'forged':>6}  {'jobs':>4}  verdict")
for order, callback in sorted(ended.items(), key=lambda item: int(item[0])):
    payment, records = truth[order], jobs.get(callback["id"], [])
    expected = {"paid": "settled", "declined": "failed"}[payment["status"]]
    result = callback.get("result") or {}
    isRight = (
        callback["state"] == expected and len(records) == 1 and records[0]["result"] == result
        and str(result.get("amount")) == payment["amount"] and result.get("status") == payment["status"])
    wrong += not isRight
    print(
        f"{order:>5}  {payment['status']:8}  {callback['state']:8}  {callback['ended_by'] or '-':7}  {callback['polls']:>5}"
        f"  {len(payment['calls']):>5}  {len(payment['forged']):>6}  {len(records):>4}  {'right' if isRight else 'WRONG'}")
extra = sum(len(records) for records in jobs.values()) - len(ended)
print(f"{len(ended)} payments, {len(ended) - wrong} ended exactly once with the service's truth, {wrong} did not, {extra} jobs too many")
sys.exit(1 if wrong or extra else 0)
