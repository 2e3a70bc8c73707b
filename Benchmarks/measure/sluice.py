"""A Sluice server for the length of a measurement: started on an empty data directory, asked over its API, ended by its id."""

import http.client
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote, urlsplit

BENCHMARKS = Path(__file__).resolve().parent.parent
ROOT = BENCHMARKS.parent
sys.path.insert(0, str(BENCHMARKS / "peers"))

import common

SECRET = "whsec_benchmark"
ENVIRONMENT = {"BENCH_WEBHOOK_SECRET": SECRET}


def binary():
    """The release build: SLUICE_BINARY, or what `swift build -c release` left."""
    path = Path(os.environ.get("SLUICE_BINARY") or ROOT / ".build" / "release" / "sluice")
    return path if common.runnable(path) else common.fail(f"{path} is missing: swift build -c release --product sluice, or set SLUICE_BINARY")


def connection(name, base_url, *extra):
    """Lines of a manifest for one connection to a provider on this machine."""
    lines = [f"  {name}:", "    connector: bench", f"    fields: {{ base_url: {base_url} }}", "    allow_private: true"]
    lines += ['    webhook: { secrets: ["${env:BENCH_WEBHOOK_SECRET}"] }', *(f"    {line}" for line in extra)]
    return "\n".join(lines)


def trigger(name, connection, topic, *extra, page=1000):
    """One line of a manifest for one trigger. Its safety interval lies beyond every measurement."""
    more = "".join(f", {part}" for part in extra)
    return f"  {name}: {{ connection: {connection}, type: item, input: {{ topic: {topic}, page: {page} }}{more} }}"


def manifest(connections, triggers=()):
    """The text of sluice.yaml."""
    return "\n".join(["connections:", *connections, *(["triggers:", *triggers] if triggers else [])]) + "\n"


class Sluice:
    """One server. `folder` is made anew and must lie on a real disk."""

    def __init__(self, folder, text, environment=None):
        self.folder = common.fresh(Path(folder))
        self.data = self.folder / "data"
        self.log = self.folder / "sluice.log"
        self.hooks_port, self.api_port = common.free_port(), common.free_port()
        (self.folder / "sluice.yaml").write_text(text)
        self.environment = environment
        self.start()

    def start(self):
        """On the data that there is."""
        command = [binary(), "serve", "--data", self.data, "--listen", f"127.0.0.1:{self.hooks_port}", "--api", f"127.0.0.1:{self.api_port}"]
        command += ["--connectors", BENCHMARKS / "connectors", "--config", self.folder / "sluice.yaml"]
        with open(self.log, "a") as output:
            self.process = common.start(
                command, stdout=output, stderr=subprocess.STDOUT, cwd=self.folder, env=os.environ | ENVIRONMENT | (self.environment or {}))
        deadline = time.monotonic() + 30
        while not (self.data / "server.json").exists():
            if common.wait_exit(self.process, 0.02) or time.monotonic() > deadline:
                common.fail(f"sluice did not start:\n{common.tail(self.log)}")
        self.token = (self.data / "local.token").read_text().strip()
        self.api = http.client.HTTPConnection("127.0.0.1", self.api_port, timeout=600)

    @property
    def pid(self):
        return self.process.pid

    def request(self, method, path, body=None):
        """Asks the API; returns the answer's JSON."""
        headers = {"Authorization": f"Bearer {self.token}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        self.api.request(method, path, None if body is None else json.dumps(body), headers)
        response = self.api.getresponse()
        answer = response.read()
        if not 200 <= response.status < 300:
            common.fail(f"{method} {path} answered {response.status}: {answer[:500].decode(errors='replace')}\n{common.tail(self.log)}")
        return json.loads(answer)

    def apply(self, text):
        """Applies a manifest of at most 2 MB."""
        references = {f"env:{name}": value for name, value in ENVIRONMENT.items()}
        return self.request("POST", "/v1/apply", {"manifest": text, "references": references})

    def webhook_url(self, connection):
        url = self.request("GET", f"/v1/connections/{quote(connection)}")["webhook_url"]
        return url or common.fail(f"the connection {connection} has no webhook URL")

    def trigger(self, name):
        return self.request("GET", f"/v1/triggers/{quote(name)}")

    def wait(self, what, seconds, condition, every=0.1):
        """Asks until the condition holds; ends the run with the log's end if it does not in time."""
        deadline = time.monotonic() + seconds
        while not (result := condition()):
            if common.wait_exit(self.process, every) or time.monotonic() > deadline:
                common.fail(f"waited {seconds} s in vain until {what}\n{common.tail(self.log)}")
        return result

    def rss_mb(self, which="VmRSS"):
        """Resident memory now, or at its peak (VmHWM), in MB."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(which + ":"):
                return int(line.split()[1]) * 1024 / 1e6
        return 0.0

    def cpu_seconds(self):
        """User and system time of the process so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def settle(self, seconds=60, share=0.05):
        """Waits until the server takes less than this share of a core over a second, so that one round does not pay for another."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            before = self.cpu_seconds()
            time.sleep(1)
            if self.cpu_seconds() - before < share:
                return
        common.note(f"warning: sluice was still busy after {seconds} s")

    def stop(self):
        self.api.close()
        return common.stop(self.process)


class Bars:
    """What must hold, said and counted."""

    def __init__(self):
        self.results = []

    def add(self, name, value, bar, least=True, unit=""):
        holds = value >= bar if least else value <= bar
        self.results.append({"bar": name, "value": value, "least" if least else "most": bar, "holds": holds, "unit": unit})

    def report(self):
        """Prints each bar; returns whether all hold."""
        rows = []
        for result in self.results:
            least = "least" in result
            limit = f"{'≥' if least else '≤'} {result['least' if least else 'most']:g} {result['unit']}".rstrip()
            rows.append([result["bar"], f"{result['value']:.2f} {result['unit']}".rstrip(), limit, "holds" if result["holds"] else "BELOW THE BAR"])
        common.table(["bar", "measured", "must be", ""], rows)
        return all(result["holds"] for result in self.results)


def percentile(values, share):
    """The value that this share of the values lies at or below."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def host_of(url):
    return urlsplit(url).netloc
