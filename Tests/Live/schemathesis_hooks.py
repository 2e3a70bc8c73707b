"""Waiting for news is what `wait` is for; while the API is tried it would only take time."""

import schemathesis

WAIT_SECONDS_MAX = 1


@schemathesis.hook
def before_call(context, case, kwargs):
    for part in (case.query, case.body):
        if isinstance(part, dict) and str(part.get("wait", "")).isdigit() and int(part["wait"]) <= 60:
            part["wait"] = min(int(part["wait"]), WAIT_SECONDS_MAX)
