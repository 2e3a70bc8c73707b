"""A server that stores each request in SQLite and then answers 200: something small to try syncwatch on.

toy_server.py DATABASE FULL|NORMAL [answer-first]   prints its port, serves until its input ends
"""

import os
import socket
import sqlite3
import sys
import threading


def main():
    path, synchronous = sys.argv[1], sys.argv[2]
    answers_first = sys.argv[3:] == ["answer-first"]
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute(f"PRAGMA synchronous={synchronous}")
    database.execute("CREATE TABLE inbox (id INTEGER PRIMARY KEY, body BLOB)")
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    threading.Thread(target=end_with_input, daemon=True).start()
    while True:
        client, _ = listener.accept()
        with client:
            request = b""
            while part := client.recv(65536):
                request += part
                answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
                if answers_first:
                    client.sendall(answer)
                database.execute("INSERT INTO inbox (body) VALUES (?)", (request,))
                if not answers_first:
                    client.sendall(answer)
                request = b""


def end_with_input():
    sys.stdin.read()
    os._exit(0)


main()
