"""Label Studio and Sluice as two processes on loopback, held against each other. Started by Tests/Live/label-studio."""
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

LABEL_STUDIO, SLUICE, CONNECTORS = sys.argv[1:4]
TOKEN = "0123456789abcdef0123456789abcdef01234567"
SECRET = "label-studio-canary"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def call(method, url, body=None, headers=()):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **dict(headers)}, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def wait(what, seconds, condition):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if condition():
                return
        except (urllib.error.URLError, ConnectionError, OSError, ValueError, KeyError):
            pass
        time.sleep(0.5)
    raise SystemExit(f"label-studio: timed out waiting for {what}")


class Studio:
    """Label Studio with one project."""

    def __init__(self, directory):
        self.url = f"http://127.0.0.1:{free_port()}"
        environment = dict(
            os.environ, LABEL_STUDIO_BASE_DATA_DIR=directory + "/studio", SSRF_PROTECTION_ENABLED="false",
            LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN="true", LABEL_STUDIO_USERNAME="a@b.example",
            LABEL_STUDIO_PASSWORD="password1234", LABEL_STUDIO_USER_TOKEN=TOKEN, LATEST_VERSION_CHECK="false",
            COLLECT_ANALYTICS="false")
        self.log = open(directory + "/studio.log", "wb")
        self.process = subprocess.Popen(
            [LABEL_STUDIO, "start", "--no-browser", "--internal-host", "127.0.0.1", "-p", self.url.rsplit(":", 1)[1]],
            env=environment, stdout=self.log, stderr=self.log, start_new_session=True)
        wait("Label Studio", 900, lambda: self.get("/api/projects") is not None)
        config = '<View><Text name="t" value="$text"/></View>'
        self.project = self.post("/api/projects", {"title": "sluice", "label_config": config})["id"]

    def get(self, path):
        return call("GET", self.url + path, headers={"Authorization": f"Token {TOKEN}"})

    def post(self, path, body, method="POST"):
        return call(method, self.url + path, body, {"Authorization": f"Token {TOKEN}"})

    def tasks(self):
        found, page = [], 1
        while True:
            answer = self.get(f"/api/tasks?project={self.project}&page={page}&page_size=100&fields=all")
            found += answer["tasks"]
            if len(found) >= answer["total"]:
                return found
            page += 1

    def write(self, count):
        """In turn a new task and a change of an old one."""
        for number in range(count):
            known = self.tasks() if number % 10 == 0 else known  # noqa: F821 - set in the first turn
            if number % 2 == 0 or not known:
                self.post("/api/tasks", {"project": self.project, "data": {"text": f"Zoë {number}"}})
            else:
                task = known[number % len(known)]
                self.post(f"/api/tasks/{task['id']}", {"data": {"text": f"changed {number} {time.time()}"}}, "PATCH")


class Sluice:
    def __init__(self, directory, studio):
        self.directory, self.hooks, self.api = directory, free_port(), f"http://127.0.0.1:{free_port()}"
        with open(directory + "/sluice.yaml", "w") as file:
            file.write(f"""
connections:
  labels:
    connector: label-studio
    fields: {{ server_url: "{studio.url}", token: "${{env:TOKEN}}" }}
    webhook: {{ secrets: ["${{env:SECRET}}"], header: X-Sluice-Secret }}
    allow_private: true
triggers:
  tasks: {{ connection: labels, type: updated_task, input: {{ project: {studio.project} }}, safety_interval: 20s }}
""")

    def start(self):
        log = open(self.directory + "/sluice.log", "ab")
        self.process = subprocess.Popen(
            [SLUICE, "serve", "--data", self.directory + "/data", "--listen", f"127.0.0.1:{self.hooks}", "--api", self.api[7:],
             "--connectors", CONNECTORS, "--config", self.directory + "/sluice.yaml"],
            env=dict(os.environ, TOKEN=TOKEN, SECRET=SECRET), stdout=log, stderr=log)
        wait("Sluice", 60, lambda: self.get("/v1/status") is not None)

    def get(self, path):
        with open(self.directory + "/data/local.token") as file:
            return call("GET", self.api + path, headers={"Authorization": "Bearer " + file.read().strip()})

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def jobs(self):
        found, after = [], ""
        while True:
            answer = self.get("/v1/jobs?limit=1000" + after)
            if not answer["jobs"]:
                return [f"{job['record']['id']}@{job['record']['updated_at']}" for job in found]
            found += answer["jobs"]
            after = "&after=" + answer["next"]


def main(directory):
    studio = Studio(directory)
    sluice = Sluice(directory, studio)
    try:
        sluice.start()
        hook = sluice.get("/v1/connections/labels")["webhook_url"]
        studio.post("/api/webhooks", {
            "project": studio.project, "url": hook, "send_payload": True, "send_for_all_actions": True,
            "headers": {"X-Sluice-Secret": SECRET}, "is_active": True})
        studio.write(40)
        sluice.kill()
        studio.write(40)
        sluice.start()
        studio.write(40)
        last = {f"{task['id']}@{task['updated_at']}" for task in studio.tasks()}
        try:
            wait("the last jobs", 120, lambda: last <= set(sluice.jobs()))
        except SystemExit:
            pass
        jobs = sluice.jobs()
        missing, doubled = len(last - set(jobs)), len(jobs) - len(set(jobs))
        webhooks = len(sluice.get("/v1/inbox?limit=1000")["webhooks"])
        print(f"label-studio: {len(last)} tasks, {len(jobs)} jobs, {webhooks} webhooks, missing {missing}, doubled {doubled}")
        return 0 if missing == 0 and doubled == 0 and webhooks > 0 and len(last) >= 60 else 1
    finally:
        os.killpg(studio.process.pid, signal.SIGKILL)
        if sluice.process.poll() is None:
            sluice.kill()


with tempfile.TemporaryDirectory(prefix="sluice-labels") as temporary:
    sys.exit(main(temporary))
