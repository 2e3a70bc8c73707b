"""A worker of a consumer that shares no code with Sluice: fetches, handles, acks, over and over, until it is killed.

Appends a line of JSON to the file given by --out for each step of each job, on disk before the step after it:
    {"step": "start", "job": "job_…", "attempt": 1, "expires_at_ms": …, "at_ms": …}   "done", "acked" and "refused" have job and at_ms.
Handling a job takes a random time up to --handle seconds. A server that is not there is waited for.

    SLUICE_TOKEN_FILE=local.token python consumer_worker.py --api http://127.0.0.1:8081 --consumer billing --name w1 --out w1.jsonl
"""

import argparse
import json
import os
import random
import time
import urllib.error
import urllib.request


def ask(arguments, path, body):
    """The status and the answer; None where no server answers."""
    try:
        # The token is made anew with each start of the server.
        with open(os.environ["SLUICE_TOKEN_FILE"], encoding="utf-8") as file:
            token = file.read().strip()
        request = urllib.request.Request(
            f"{arguments.api}/v1/consumers/{arguments.consumer}/{path}", json.dumps(body).encode(),
            {"Authorization": f"Bearer {token}", "Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"{}")
    except (OSError, ValueError):
        return None, None


def main():
    parser = argparse.ArgumentParser()
    for name in ["api", "consumer", "name", "out"]:
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--visibility", type=int, default=3)
    parser.add_argument("--handle", type=float, default=0.05)
    arguments = parser.parse_args()
    out = open(arguments.out, "ab", buffering=0)

    def note(step, **more):
        out.write(json.dumps({"step": step, "worker": arguments.name, "at_ms": time.time_ns() // 1_000_000} | more).encode() + b"\n")
        os.fsync(out.fileno())

    while True:
        status, batch = ask(arguments, "fetch", {"max": 5, "wait": 5, "visibility": arguments.visibility, "worker": arguments.name})
        if status != 200:
            if status is not None and status not in (401, 503):
                note("failed", status=status, answer=batch)
            time.sleep(0.1)
            continue
        for job in batch["jobs"]:
            note("start", job=job["id"], attempt=job["attempt"], expires_at_ms=batch["expires_at_ms"])
            time.sleep(random.uniform(0, arguments.handle))
            note("done", job=job["id"])
            while True:
                status, answer = ask(arguments, "ack", {"lease": batch["lease"], "jobs": [job["id"]]})
                if status in (None, 401, 503):
                    # Not answered: said again, which changes nothing if it was taken.
                    time.sleep(0.1)
                    continue
                note("acked" if status == 200 else "refused", job=job["id"], status=status, answer=answer)
                break


if __name__ == "__main__":
    main()
