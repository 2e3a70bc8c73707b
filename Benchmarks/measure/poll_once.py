"""poll_once.py URL PAGE DIRECTORY CONNECTOR: starts Sluice on an empty data directory with one trigger, waits until its first
cycle has ended, and stops it. Only what a bare interpreter has: its start counts, too."""

import os
import socket
import sys
import time

url, page, work, connector = sys.argv[1:5]
here = os.path.dirname(os.path.abspath(__file__))
root = os.path.dirname(os.path.dirname(here))
binary = os.environ.get("SLUICE_BINARY") or f"{root}/.build/release/sluice"
with open(f"{work}/sluice.yaml", "w") as file:
    file.write(
        f"connections:\n  shop:\n    connector: {connector}\n    fields: {{ base_url: {url} }}\n    allow_private: true\n"
        '    webhook: { secrets: ["${env:BENCH_WEBHOOK_SECRET}"] }\n'
        f"triggers:\n  items: {{ connection: shop, type: item, input: {{ topic: items, page: {page} }} }}\n"
    )
command = [binary, "serve", "--data", f"{work}/data", "--listen", "127.0.0.1:0", "--api", "127.0.0.1:0"]
command += ["--connectors", f"{root}/Benchmarks/connectors", "--config", f"{work}/sluice.yaml"]
log = os.open(f"{work}/sluice.log", os.O_WRONLY | os.O_CREAT, 0o600)
actions = [(os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)]
pid = os.posix_spawn(binary, command, os.environ | {"BENCH_WEBHOOK_SECRET": "whsec_benchmark"}, file_actions=actions)


def end(message=None):
    """Ends the server; with a message the run has failed."""
    os.kill(pid, 15)
    deadline = time.monotonic() + 20
    status = None
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        time.sleep(0.005)
    else:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        message = message or "sluice did not end within 20 s"
    if message:
        sys.exit(f"{message}\n{open(f'{work}/sluice.log').read()[-2000:]}")
    sys.exit(os.waitstatus_to_exitcode(status))


def field(text, name):
    """The value behind a key of flat JSON, as text."""
    return text.split(f'"{name}":', 1)[1].lstrip().split(",", 1)[0].split("}", 1)[0].strip('" \n')


deadline = time.monotonic() + 280
session = f"{work}/data/server.json"
while not os.path.exists(session):
    if time.monotonic() > deadline or os.waitpid(pid, os.WNOHANG)[0]:
        sys.exit(f"sluice did not start\n{open(f'{work}/sluice.log').read()[-2000:]}")
    time.sleep(0.005)
text = open(session).read()
host, port = field(text, "api_url").replace("\\/", "/").rsplit("/", 1)[1].split(":")
token = open(f"{work}/data/local.token").read().strip()
request = f"GET /v1/triggers/items HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
connection = socket.create_connection((host, int(port)), timeout=30)
while time.monotonic() < deadline:
    connection.sendall(request)
    answer = b""
    while b"\r\n\r\n" not in answer or not answer.rstrip().endswith(b"}"):
        part = connection.recv(65536)
        if not part:
            end("the API closed the connection")
        answer += part
    if int(field(answer.decode(), "cycles_completed")) > 0:
        end()
    time.sleep(0.01)
end("the cycle did not end")
