"""The providers that Sluice polls in these measurements, each a process of its own."""

import http.client
import json
import sys
import time
from pathlib import Path

import common
import sluice


class Provider:
    """A program that prints its base URL as its first line."""

    def __init__(self, work, name, command, seconds=60):
        python = common.PEERS_HOME / "v-fa" / "bin" / "python"  # it has uvloop
        self.log, address = work / f"{name}.log", work / f"{name}.url"
        with open(self.log, "w") as errors, open(address, "w") as output:
            command = [python if common.runnable(python) else sys.executable, "-B", *command]
            self.process = common.start(command, stdout=output, stderr=errors, cwd=work)
        deadline = time.monotonic() + seconds
        while not address.read_text().endswith("\n"):
            if common.wait_exit(self.process, 0.05) or time.monotonic() > deadline:
                common.fail(f"{name} did not start:\n{common.tail(self.log)}")
        self.url = address.read_text().strip()

    def get(self, path):
        connection = http.client.HTTPConnection(sluice.host_of(self.url), timeout=60)
        connection.request("GET", path)
        answer = json.loads(connection.getresponse().read())
        connection.close()
        return answer

    def stop(self):
        common.stop(self.process)


class MockAPI(Provider):
    """peers/mock_api.py: pages of records."""

    def __init__(self, work, records):
        super().__init__(work, "mock", [common.KIT / "mock_api.py", "--records", str(records)])


class Stub(Provider):
    """stub.py: empty pages at once, and the moment at which each topic was last asked for."""

    def __init__(self, work):
        super().__init__(work, "stub", [Path(__file__).with_name("stub.py")])

    def requests(self):
        return self.get("/stats")["requests"]

    def arrivals(self):
        """Nanoseconds of CLOCK_MONOTONIC by topic, since the last call."""
        return self.get("/arrivals")


class Hold(Provider):
    """hold.py: requests that are held until there is news."""

    def __init__(self, work):
        super().__init__(work, "hold", [Path(__file__).with_name("hold.py")])

    def stats(self):
        return self.get("/stats")

    def news(self, topic):
        """Says something to whoever waits for a topic; the moment it did so, by CLOCK_MONOTONIC."""
        return self.get(f"/news?topic={topic}")["at"]


class History(Provider):
    """history.py: a past of many records, and news on demand."""

    def requests(self):
        return self.stats()["requests"]

    def __init__(self, work, records):
        super().__init__(work, "history", [Path(__file__).with_name("history.py"), "--records", str(records)])

    def stats(self):
        return self.get("/stats")

    def news(self, topic):
        """Makes a record of a topic; the moment it did so, by CLOCK_MONOTONIC."""
        return self.get(f"/news?topic={topic}")["at"]
